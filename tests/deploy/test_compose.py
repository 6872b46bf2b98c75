"""The compose file, as far as it can be run without an engine: its shell and its shape."""

import os
import subprocess
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolkit.client.transport import TOKEN_HEADER
from toolkit.deploy import compose
from toolkit.deploy.embedded import ServerOptions
from toolkit.errors import DeployError


@pytest.fixture(scope="module")
def service() -> Mapping[str, Any]:
    text = (resources.files("toolkit.deploy") / "docker-compose.yml").read_text("utf-8")
    found: Mapping[str, Any] = yaml.safe_load(text)["services"]["triton"]
    return found


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_container_starts_tritonserver_with_the_models_asked_for_and_closed_controls(
    service: Mapping[str, Any], tmp_path: Path
) -> None:
    program(tmp_path, "tritonserver", 'printf "%s\\n" "$@"')
    command = [part.replace("$$", "$") for part in service["command"]]
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TRITON_MODELS": "churn fraud.v2",
        "TRITON_TOKEN": "secret",
    }
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    arguments = ended.stdout.splitlines()
    assert {"--load-model=churn", "--load-model=fraud.v2"} <= set(arguments)
    assert "--model-control-mode=explicit" in arguments
    guard = f"model-repository,shared-memory:{TOKEN_HEADER}=secret"
    assert f"--http-restricted-api={guard}" in arguments
    assert f"--grpc-restricted-protocol={guard}" in arguments


@pytest.mark.parametrize(("ready", "healthy"), [("churn fraud", True), ("churn", False)])
def test_the_container_is_healthy_when_each_of_its_models_is_ready(
    service: Mapping[str, Any], tmp_path: Path, ready: str, healthy: bool
) -> None:
    program(
        tmp_path,
        "curl",
        f'case "$2" in *health/ready) exit 0;; esac\n'
        f"for model in {ready}; do\n"
        'case "$2" in */models/$model/ready) exit 0;; esac; done; exit 22',
    )
    script = service["healthcheck"]["test"][1].replace("$$", "$")
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TRITON_MODELS": "churn fraud"}
    ended = subprocess.run(["sh", "-c", script], env=variables, check=False)
    assert (ended.returncode == 0) == healthy


def test_the_repository_is_read_only_and_the_ports_are_on_loopback(
    service: Mapping[str, Any],
) -> None:
    assert service["volumes"] == ["${MODEL_REPOSITORY:-./model_repository}:/models:ro"]
    assert [port.rpartition(":")[2] for port in service["ports"]] == ["8000", "8001", "8002"]
    assert all(port.startswith("${TRITON_ADDRESS:-127.0.0.1}:") for port in service["ports"])
    assert service["image"] == "${TRITON_IMAGE:-nvcr.io/nvidia/tritonserver:25.11-py3}"


def test_the_file_at_the_top_includes_the_one_that_is_installed() -> None:
    top = Path(__file__).parents[2]
    (included,) = yaml.safe_load((top / "docker-compose.yml").read_text())["include"]
    assert (top / included["path"]).is_file()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 1", "not its compose plugin"),
        ('[ "$1" = compose ] || { echo "Cannot connect" >&2; exit 1; }', "engine does not answer"),
        ('[ "$2" = --file ] || exit 0; echo "pull denied" >&2; exit 18', "up failed: pull denied"),
    ],
)
def test_a_docker_that_cannot_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    program(tmp_path, "docker", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(DeployError, match=words) as caught:
        compose.deploy(tmp_path / "repo", (), ServerOptions())
    assert caught.value.hint
