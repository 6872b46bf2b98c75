"""``toolkit gateway``: plain REST in front of a Triton."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from toolkit import screen
from toolkit.commands import Decorator, decorated
from toolkit.deploy import ports
from toolkit.errors import ConfigError, MissingDependencyError

_VARIABLES: Mapping[str, str] = {
    "host": "API_HOST",
    "port": "API_PORT",
    "grpc_port": "GATEWAY_GRPC_PORT",
    "repository": "MODEL_REPOSITORY",
    "triton_url": "TRITON_URL",
    "model_dir": "MODEL_DIR",
    "allow_pickle": "ALLOW_PICKLE",
    "api_keys_file": "API_KEYS_FILE",
    "ssl_certfile": "SSL_CERTFILE",
    "ssl_keyfile": "SSL_KEYFILE",
    "job_store_url": "JOB_STORE_URL",
}
"""Each flag is a variable of the environment, so that every process of the gateway reads it."""

_OTHER_PORT = 8005  # 8000 is Triton's own too
_FILE = click.Path(path_type=Path)


def gateway_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is served where nothing else is said."""
    options: tuple[Decorator, ...] = (
        click.option("--host", help="Where to listen. [default: API_HOST, or all addresses]"),
        click.option("-p", "--port", type=click.IntRange(1, 65535),
                     help="Port for HTTP. [default: API_PORT, PORT, or 8000]"),
        click.option("--grpc-port", type=click.IntRange(1, 65535),
                     help="Port for the V2 protocol over gRPC. [default: none]"),
        click.option("--repository", type=_FILE, envvar="TOOLKIT_REPOSITORY", show_default=True,
                     default=default_repository,
                     help="The model repository; its embedded Triton is started if none runs."),
        click.option("--triton-url", help="Another Triton in its place: its HTTP port."),
        click.option("--model-dir", type=_FILE, help="Folder of the files that POST /models/load"
                     " may name. [default: MODEL_DIR, or ./models]"),
        click.option("--allow-pickle", is_flag=True, default=None,
                     help="Load pickles from it: loading one runs the code inside."),
        click.option("--api-keys-file", type=_FILE, help="File of hashed keys; asks for a key."),
        click.option("--ssl-certfile", type=_FILE, help="Certificate: HTTPS in place of HTTP."),
        click.option("--ssl-keyfile", type=_FILE, help="Its private key."),
        click.option("--job-store-url", help="Where jobs are kept, sqlite:// or postgresql://."
                     " [default: a file beside the state of the server]"),
        click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
                     help="Processes."),
    )  # fmt: skip
    made: click.Command = click.command("gateway")(decorated(_gateway, options))
    return made


def _gateway(workers: int, **flags: Any) -> None:
    """Give plain REST in front of Triton: predictions, jobs, keys, limits, explanations.

    Everything else is set by variables of the environment; docs/gateway.md lists them.
    """
    try:
        import uvicorn

        from toolkit.gateway.settings import read
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the gateway needs {error.name}, which is not installed",
            hint="pip install 'triton-companion[gateway]'",
        ) from error
    given = {name: value for name, value in flags.items() if value is not None}
    os.environ.update({_VARIABLES[name]: str(value) for name, value in given.items()})
    if "api_keys_file" in given:
        os.environ["REQUIRE_API_KEY"] = "1"
    settings = read()
    if bool(settings.ssl_certfile) != bool(settings.ssl_keyfile):
        raise ConfigError(
            "a certificate and its private key go together",
            hint="--ssl-certfile CERT --ssl-keyfile KEY",
        )
    ports.require_one_free(
        settings.api_host, settings.api_port, f"toolkit gateway --port {_OTHER_PORT}"
    )
    scheme = "https" if settings.ssl_certfile else "http"
    screen.note(f"the gateway: {scheme}://localhost:{settings.api_port}/ui (Ctrl-C ends it)")
    if settings.api_host == "0.0.0.0" and not settings.require_api_key:  # noqa: S104
        screen.note("anyone who reaches this machine may ask: set REQUIRE_API_KEY and API_KEYS")
    uvicorn.run(
        "toolkit.gateway:create_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        log_level="debug" if settings.api_debug else "warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )
