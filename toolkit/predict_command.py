"""``toolkit predict``: rows of a file through a served model, into a file."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from toolkit import screen
from toolkit.commands import Decorator, decorated
from toolkit.errors import ConfigError, InvalidInputError, ToolkitError

if TYPE_CHECKING:
    from toolkit.client import Client
    from toolkit.predict_job import Job
    from toolkit.tables import Block, Files, Source

SOME_FAILED = 3
"""Exit code where some rows have an answer and some do not."""

_BINARY = frozenset({"parquet", "npy", "npz"})
_FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "npy", "npz")
_PATIENCE = 0.5  # Seconds before a bar is shown.


def predict_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    options: tuple[Decorator, ...] = (
        click.argument("model"),
        click.option("--input", "given", required=True, help=_HELP["input"]),
        click.option("--output", help=_HELP["output"]),
        click.option("--format", "kind", type=click.Choice(_FORMATS), help=_HELP["format"]),
        click.option("--input-format", type=click.Choice(_FORMATS), help=_HELP["input_format"]),
        click.option("--drop", help="Columns of the input that are not for the model, a,b."),
        click.option("--pattern", help="Of a FOLDER, only files such as '*.jpg'."),
        click.option("--recursive", is_flag=True, help="Of a FOLDER, those inside it too."),
        click.option("--url", "urls", multiple=True, help=_HELP["url"]),
        click.option("--protocol", type=click.Choice(["http", "grpc"]), help="[default: http]"),
        click.option("--version", "model_version", help=_HELP["version"]),
        click.option("--outputs", help="The wanted outputs, a,b. [default: all]"),
        click.option("--priority", type=click.IntRange(1), help="1 is the highest."),
        click.option("--deadline", "--timeout", "deadline", default=30.0, show_default=True,
                     type=click.FloatRange(0, min_open=True),
                     help="Seconds for each request, retries included."),
        click.option("--retries", type=click.IntRange(0), help=_HELP["retries"]),
        click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True,
                     help="Requests under way at a time."),
        click.option("--batch-size", type=click.IntRange(1), help=_HELP["batch_size"]),
        click.option("--json", "as_json", is_flag=True, help=_HELP["json"]),
        click.option("--repository", type=click.Path(readable=False, path_type=Path),
                     default=default_repository, envvar="TOOLKIT_REPOSITORY", show_default=True,
                     help="The model repository."),
    )  # fmt: skip
    made: click.Command = click.command("predict")(decorated(_predict, options))
    return made


_HELP: Mapping[str, str] = {
    "input": "Rows: a file, JSON, - for stdin, or a FOLDER of images or texts.",
    "output": "File for the answers, - for stdout. [default: one JSON object on stdout]",
    "format": "Of the output, and of stdin. [default: as the suffix says; jsonl to stdout]",
    "input_format": "Of the input. [default: as the suffix or the first bytes say]",
    "url": "Server to ask; several are replicas. [default: the one of the repository]",
    "version": "Version to ask. [default: the newest]",
    "retries": "Attempts after the first, within the deadline. [default: the client's]",
    "batch_size": "Rows a request. [default: as many as the model takes]",
    "json": "Print the summary as JSON, and no progress.",
}


def _predict(model: str, given: str, repository: Path, **flags: Any) -> None:
    """Ask a served MODEL for rows, and print or write its answers.

    Exits 3 if some rows failed: their error stands in the place of their answer.
    """
    from toolkit.client import media
    from toolkit.predict_job import Job
    from toolkit.tables import open_rows

    def stdin() -> IO[bytes]:
        return sys.stdin.buffer

    def files(folder: Path) -> Iterator[Path]:
        try:
            found = media.folder(folder, flags["pattern"], recursive=flags["recursive"])
        except InvalidInputError as error:
            error.hint = None if flags["recursive"] else "folders inside it: --recursive"
            raise
        return (item.path for item in found)

    wanted, target = _formats(given, flags)
    source = open_rows(given, wanted, stdin, files)
    with closing(source), _client(repository, flags) as client:
        target.check(source)
        job = Job(client, model, source, flags, per_row=target.kind is not None)
        if target.kind is None:
            _print(job)
        else:
            _write(job, target.path, target.kind)
    if job.failed:
        _tell_failures(job, target.path)
        sys.exit(SOME_FAILED)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the answers go: ``path`` None is stdout, ``kind`` None one object of columns."""

    path: Path | None
    kind: str | None

    def check(self, source: "Source | Files") -> None:
        """Refuse to write over the input, and to fill a terminal with bytes."""
        path, given = self.path, source.path
        if given and path and path.exists() and path.samefile(given):
            raise ConfigError(
                f"{path} is the input, and would be lost", hint="name another --output"
            )
        if path is None and self.kind in _BINARY and sys.stdout.isatty():
            raise ConfigError(
                f"{self.kind} is not for a terminal", hint=f"--output answers.{self.kind}"
            )


def _formats(given: str, flags: Mapping[str, Any]) -> tuple[str | None, _Target]:
    """Return the format of the input where it is given, and what is to be written."""
    from toolkit.tables import formats

    named, kind = flags["output"], flags["kind"]
    path = None if named in {None, "-"} else Path(named)
    wanted = flags["input_format"]
    if given == "-" and wanted is None:
        wanted = kind
        if path is not None:
            kind = formats.by_suffix(path) or kind
        elif named is None:
            kind = None
    if path is not None:
        kind = kind or formats.output_format(path)
    elif named == "-":
        kind = kind or "jsonl"
    return wanted, _Target(path, kind)


def _client(repository: Path, flags: Mapping[str, Any]) -> "Client":
    from toolkit.client import Client
    from toolkit.client.options import ClientOptions

    protocol = flags["protocol"]
    urls = [_with_scheme(url, protocol) for url in flags["urls"]]
    if not urls:
        urls = [server_url(repository, protocol or "http")]
    retries = {} if flags["retries"] is None else {"retries": flags["retries"]}
    return Client(urls, timeout=flags["deadline"], options=ClientOptions(**retries))


def server_url(repository: Path, protocol: str) -> str:
    """Return the URL of the repository's own server; ``ServerNotRunningError`` without one."""
    from toolkit.deploy import embedded

    server = embedded.require_running(repository)
    return server.grpc_url if protocol == "grpc" else server.http_url


def _with_scheme(url: str, protocol: str | None) -> str:
    scheme, found, _ = url.partition("://")
    if not found:
        return f"{protocol or 'http'}://{url}"
    speaks = "http" if "http" in scheme else "grpc"
    if protocol not in {None, speaks}:
        raise click.UsageError(f"--url {url} is {speaks.upper()}, --protocol says {protocol}")
    return url


def _print(job: "Job") -> None:
    """Print all answers as one JSON object of columns."""
    from toolkit.tables import whole

    with _bar(job) as bar:
        blocks = list(_shown(job.blocks(), job, bar))
    click.echo(json.dumps(whole(blocks), ensure_ascii=False))
    if job.flags["as_json"]:
        click.echo(json.dumps(job.summary()), err=True)


def _write(job: "Job", output: Path | None, kind: str) -> None:
    from toolkit.tables import open_sink

    def stdout() -> IO[bytes]:
        return sys.stdout.buffer

    with open_sink(output, kind, stdout) as sink, _bar(job, to_stdout=output is None) as bar:
        for block in _shown(job.blocks(), job, bar):
            sink.write(block)
    summary = job.summary()
    if job.flags["as_json"]:
        click.echo(json.dumps(summary), err=output is None)
        return
    where = f" to {output}" if output else ""
    screen.note(
        f"{summary['rows']:,} rows{where}, {summary['failed']:,} failed,"
        f" {summary['rows_per_second']:,.0f} rows/s"
    )


def _tell_failures(job: "Job", output: Path | None) -> None:
    reason = job.first[0] if job.first else ""
    where = f"the column error of {output}" if output else "error in the answers above"
    screen.error(
        ToolkitError(
            f"{job.failed:,} of {job.rows:,} rows failed; the first: {job.source.name}, {reason}",
            hint=f"see {where}",
        )
    )


def _bar(job: "Job", *, to_stdout: bool = False) -> AbstractContextManager[Any]:
    """Give a bar on a terminal, where it does not run into the answers."""
    shared = to_stdout and sys.stdout.isatty()
    if job.flags["as_json"] or shared or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        BarColumn(),
        TextColumn("{task.fields[rows]} rows, {task.fields[rate]} rows/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _shown(blocks: "Iterator[Block]", job: "Job", bar: Any) -> "Iterator[Block]":
    """Move the bar as the answers go by."""
    if bar is None:
        yield from blocks
        return
    task = bar.add_task("", total=None, rows="0", rate="-", visible=False)
    for block in blocks:
        seconds = time.monotonic() - job.began
        read = job.source.read
        bar.update(
            task,
            total=None if read is None else 1.0,
            completed=read or 0.0,
            rows=f"{job.rows:,}",
            rate=f"{job.rows / max(seconds, 1e-9):,.0f}",
            visible=seconds > _PATIENCE,
        )
        yield block
    bar.update(task, visible=False)
