"""The official container over the same repository, driven with the docker CLI."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path

from toolkit.client import Client
from toolkit.deploy import models, state
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.models import Deployed
from toolkit.errors import DeployError, RequestError
from toolkit.spec import RepositoryEntry

_START_TIMEOUT = 600.0  # the first start pulls an image of several gigabytes


def deploy(
    repository: Path,
    chosen: Sequence[RepositoryEntry],
    options: ServerOptions,
) -> tuple[str, tuple[Deployed, ...]]:
    """Start the container, load ``chosen``, and return its HTTP URL and what became of them.

    The image is ``TRITON_IMAGE`` of the environment, else the default of the compose
    file. Raises ``DeployError`` when there is no docker, no compose plugin, no engine,
    or the container does not come up.
    """
    token = _token(repository)
    variables = {
        "MODEL_REPOSITORY": str(repository.resolve()),
        "TRITON_MODELS": " ".join(entry.name for entry in chosen),
        "TRITON_TOKEN": token,
        "TRITON_ADDRESS": options.address,
        "TRITON_HTTP_PORT": str(options.http_port),
        "TRITON_GRPC_PORT": str(options.grpc_port),
        "TRITON_METRICS_PORT": str(options.metrics_port),
    }
    _require_docker()
    _compose(["up", "--detach"], variables)
    url = f"http://{options.address}:{options.http_port}"
    _wait_until_ready(url, token)
    with Client(url, token=token) as client:
        return url, models.load(client, chosen)


def stop(repository: Path) -> None:
    """Stop and remove the container."""
    _require_docker()
    _compose(["down"], {"TRITON_TOKEN": _token(repository)})


def _token(repository: Path) -> str:
    """Return the token of this repository's container, made on first use."""
    path = state.folder(repository) / "compose-token"
    with suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    token = secrets.token_urlsafe(24)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.write_private(path, token)
    return token


def _require_docker() -> None:
    if shutil.which("docker") is None:
        raise DeployError(
            "there is no docker command on this machine",
            hint="install Docker Engine, or use --target embedded, which needs none",
        )
    if _run(["docker", "compose", "version"]).returncode:
        raise DeployError(
            "docker is here, but not its compose plugin",
            hint="install the package docker-compose-plugin",
        )
    engine = _run(["docker", "info", "--format", "{{.ServerVersion}}"])
    if engine.returncode:
        raise DeployError(
            f"docker is here, but its engine does not answer: {_last_line(engine.stderr)}",
            hint="start it (systemctl start docker), or use --target embedded",
        )


def _compose(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    with resources.as_file(resources.files("toolkit.deploy") / "docker-compose.yml") as file:
        command = ["docker", "compose", "--file", str(file), *arguments]
        result = _run(command, variables)
    if result.returncode:
        raise DeployError(
            f"docker compose {arguments[0]} failed: {_last_line(result.stderr)}",
            hint="docker compose --project-name triton-companion logs",
        )


def _run(
    command: Sequence[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _wait_until_ready(url: str, token: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    with Client(url, token=token, timeout=2.0) as client:
        while time.monotonic() < deadline:
            with suppress(RequestError):
                if client.is_ready():
                    return
            time.sleep(0.5)
    raise DeployError(
        f"the container did not become ready within {_START_TIMEOUT:g} s",
        hint="docker compose --project-name triton-companion logs",
    )
