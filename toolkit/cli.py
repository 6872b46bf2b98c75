"""The command line: each command is one walk along the line from model to answer."""

import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from toolkit import __version__, screen
from toolkit.conversion_flags import conversion_flags, conversion_options
from toolkit.errors import ServerNotRunningError, ToolkitError
from toolkit.gateway_command import gateway_command
from toolkit.loadtest_command import loadtest_command
from toolkit.options import serving_config, serving_flags
from toolkit.perf_command import perf_command
from toolkit.predict_command import predict_command, server_url

_DEFAULT_REPOSITORY = Path("model_repository")
_PORT = click.IntRange(1, 65535)


def main() -> None:
    """Run the command line; exit 1 for our errors, 2 for usage, 130 for Ctrl-C."""
    debug = "--debug" in sys.argv
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ended from outside is cleaned up after like Ctrl-C; nohup keeps its say.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(toolkit.main(standalone_mode=False))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - all are shown and counted
        if debug and not isinstance(error, click.ClickException):
            traceback.print_exc()
        sys.exit(screen.failure(error))


class _Line(click.Group):
    """A group that lists its commands in the order of the line, as they stand here."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Line, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="toolkit")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def toolkit(*, debug: bool) -> None:
    """Carry a trained model the whole way to a fast, proven Triton deployment."""


def _repository(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--repository",
        type=click.Path(readable=False, path_type=Path),
        default=_DEFAULT_REPOSITORY,
        envvar="TOOLKIT_REPOSITORY",
        show_default=True,
        help="The model repository.",
    )(command)


@toolkit.command()
@click.argument("path", required=False, type=click.Path(readable=False, path_type=Path))
@click.option(
    "--from-folder",
    "folder",
    type=click.Path(readable=False, path_type=Path),
    help="In place of PATH: every model of a folder, as the YAML file beside it says.",
)
@conversion_flags
@_repository
@serving_flags
def convert(path: Path | None, folder: Path | None, repository: Path, **flags: Any) -> None:
    """Turn a model file into a proven entry of the model repository."""
    from toolkit import from_folder

    from_folder.check_usage(path, folder, flags)
    if path is not None:
        _convert_file(path, repository, flags)
    elif folder is not None and not from_folder.convert_folder(folder, repository, flags):
        sys.exit(1)


def _convert_file(path: Path, repository: Path, flags: dict[str, Any]) -> None:
    from converters import convert as convert_model
    from converters.table import ladder
    from toolkit.repository import write

    options = conversion_options(path, flags)
    with tempfile.TemporaryDirectory() as workdir:
        artifact = convert_model(path, options, Path(workdir))
        written = write(repository, artifact, serving_config(flags, artifact))
    if flags["explain"]:
        screen.ladder(ladder(artifact.framework, options.road), artifact)
    screen.converted(artifact, written, explained=flags["explain"])


@toolkit.command()
@click.argument("names", nargs=-1)
@click.option("--target", type=click.Choice(["embedded", "compose"]), default="embedded")
@click.option("--http-port", type=_PORT, help="Port for HTTP. [default: 8000]")
@click.option("--grpc-port", type=_PORT, help="Port for gRPC. [default: 8001]")
@click.option("--metrics-port", type=_PORT, help="Port for metrics. [default: 8002]")
@click.option("--address", help="Where to listen. [default: 127.0.0.1]")
@click.option("--log-verbose", type=int, help="Triton's own level of detail in the log.")
@_repository
def deploy(names: tuple[str, ...], target: str, repository: Path, **flags: Any) -> None:
    """Serve all models of the repository, or the NAMED ones."""
    from toolkit.deploy import compose, embedded
    from toolkit.deploy.models import choose

    chosen = choose(repository, names)
    given = {name: value for name, value in flags.items() if value is not None}
    options = embedded.ServerOptions(**given)
    with screen.progress(f"starting Triton, loading {len(chosen)} model(s)"):
        if target == "compose":
            url, results = compose.deploy(repository, chosen, options)
        else:
            embedded.require_same(repository, given)
            server, results = embedded.deploy(repository, chosen, options)
            url = server.http_url
    screen.deployed(results, url)
    if any(result.error for result in results):
        sys.exit(1)


@toolkit.command()
@click.argument("names", nargs=-1, required=True)
@_repository
def unload(names: tuple[str, ...], repository: Path) -> None:
    """Stop serving the NAMED models; the server goes on."""
    from toolkit.deploy import embedded

    with embedded.client(embedded.require_running(repository)) as client:
        served = {model.name for model in client.repository_index() if model.state == "READY"}
        for name in names:
            if name not in served:
                raise ServerNotRunningError(
                    f"{name!r} is not served", hint=f"served: {', '.join(sorted(served)) or 'none'}"
                )
            client.unload(name)
            screen.note(f"{name} is unloaded")


@toolkit.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_repository
def status(*, as_json: bool, repository: Path) -> None:
    """Show the server and every model it serves."""
    from toolkit.deploy import embedded
    from toolkit.deploy.models import served

    server = embedded.require_running(repository)
    with embedded.client(server) as client:
        screen.status(server, served(client), as_json=as_json)


toolkit.add_command(predict_command(_DEFAULT_REPOSITORY))
toolkit.add_command(perf_command(_DEFAULT_REPOSITORY))
toolkit.add_command(loadtest_command())
toolkit.add_command(gateway_command(_DEFAULT_REPOSITORY))


@toolkit.command()
@click.argument("names", nargs=-1)
@click.option("--url", "urls", multiple=True, help="Server(s) to ask. [default: HTTP and gRPC]")
@click.option("--atol", default=0.0, show_default=True, help="Let this much difference pass.")
@click.option("--rounds", default=3, show_default=True, help="How often all rows go at once.")
@_repository
def verify(
    names: tuple[str, ...], urls: tuple[str, ...], atol: float, rounds: int, repository: Path
) -> None:
    """Replay the proof rows through the server and compare."""
    from toolkit.deploy.models import choose
    from toolkit.verify import verify as replay

    chosen = choose(repository, names)
    asked = urls or tuple(server_url(repository, protocol) for protocol in ("http", "grpc"))
    failed = False
    for entry in chosen:
        try:
            replays = replay(entry, asked, atol=atol, rounds=rounds)
        except ToolkitError as error:
            screen.error(error)
            failed = True
            continue
        screen.verified(entry.name, replays)
        failed = failed or not all(one.passed for one in replays)
    if failed:
        sys.exit(1)


@toolkit.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as the server writes.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines to start with.")
@_repository
def logs(*, follow: bool, lines: int, repository: Path) -> None:
    """Show the server's log."""
    from toolkit.deploy import embedded, state

    path = state.log_file(repository)
    if not path.exists():
        embedded.require_running(repository)
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file.read().splitlines()[-lines:]:
            click.echo(line)
        while follow:
            follow = embedded.running(repository) is not None
            while text := file.read(1 << 16):
                click.echo(text, nl=False)
            time.sleep(0.2)


@toolkit.command()
@click.option("--target", type=click.Choice(["embedded", "compose"]), default="embedded")
@_repository
def stop(target: str, repository: Path) -> None:
    """Stop the server, once requests in flight are finished."""
    from toolkit.deploy import compose, embedded

    if target == "compose":
        compose.stop(repository)
        screen.note("the container is stopped")
    elif embedded.stop(repository):
        screen.note("the server is stopped")
    else:
        screen.note(f"no server was running for {repository}")


@toolkit.group()
def runtime() -> None:
    """The embedded Triton itself: install, show, remove."""


@runtime.command("install")
@click.option(
    "--from",
    "wheels",
    type=click.Path(path_type=Path),
    help="A folder that holds the wheels, for a machine without a network.",
)
def runtime_install(wheels: Path | None) -> None:
    """Fetch the embedded Triton into the cache folder."""
    from toolkit import runtime as embedded_runtime

    with screen.progress("fetching the embedded Triton"):
        there = embedded_runtime.install(wheels)
    screen.runtime(
        there, (*embedded_runtime.check_machine(), *embedded_runtime.check_runtime(there))
    )


@runtime.command("show")
def runtime_show() -> None:
    """Say where the embedded Triton is and whether it can run here."""
    from toolkit import runtime as embedded_runtime

    there = embedded_runtime.require()
    problems = (*embedded_runtime.check_machine(), *embedded_runtime.check_runtime(there))
    screen.runtime(there, problems)
    if problems:
        sys.exit(1)


@runtime.command("remove")
def runtime_remove() -> None:
    """Delete the embedded Triton from the cache folder."""
    from toolkit import runtime as embedded_runtime

    removed = embedded_runtime.remove()
    screen.note("removed" if removed else "there was nothing to remove")


@toolkit.command()
@_repository
def demo(repository: Path) -> None:
    """Train, convert, prove, deploy and ask real models."""
    from toolkit.demo import run

    run(repository)
