"""What the commands show a person. Results go to stdout, all else to stderr."""

import errno
import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from rich.table import Table

    from toolkit.artifact import Artifact
    from toolkit.deploy.models import Deployed, ServedModel
    from toolkit.deploy.state import Server
    from toolkit.repository import Written
    from toolkit.runtime import Problem, Runtime
    from toolkit.verify import Replay


_ERROR = click.style("error:", fg="red", bold=True)
_GOOD = click.style("✔", fg="green")
_BAD = click.style("✘", fg="red")


def failure(problem: BaseException) -> int:
    """Print what ended a command; return its exit code."""
    match problem:
        case ToolkitError():
            error(problem)
        case click.ClickException():
            problem.show()
            return problem.exit_code  # 2 for a wrong command line
        case click.Abort() | KeyboardInterrupt():
            note("interrupted; nothing was left half-written")
            return 130
        case BrokenPipeError():
            sys.stderr.close()
            return 0
        case OSError():
            system_error(problem)
        case _:
            unexpected(problem)
    return 1


def error(problem: ToolkitError) -> None:
    """Print one line that says what happened, and the next command below it."""
    click.echo(f"{_ERROR} {problem.message}", err=True)
    for line in (problem.hint or "").splitlines():
        click.echo(f"  try: {line}", err=True)


def system_error(problem: OSError) -> None:
    """Print what the system refused, and where."""
    where = f": {problem.filename}" if problem.filename else ""
    full = problem.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    hint = "free some space, or point TMPDIR at another disk" if full else None
    error(ToolkitError(f"{problem.strerror or problem}{where}", hint=hint))


def unexpected(problem: BaseException) -> None:
    """Print a fault of this program, which nobody planned for."""
    text = " ".join(str(problem).split())[:300]
    click.echo(
        f"{_ERROR} unexpected {type(problem).__name__}: {text}\n"
        "  try: the same command with toolkit --debug in front, and report what it prints",
        err=True,
    )


def note(text: str) -> None:
    """Print a remark that is no result."""
    click.echo(text, err=True)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show on a terminal that something goes on."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else nullcontext():
        yield


def ladder(rungs: Sequence[Any], artifact: "Artifact") -> None:
    """Show every rung of the ladder: why it was left, taken, or not needed."""
    reasons = dict(reason.split(": ", 1) for reason in artifact.refused)
    taken = f"{artifact.road.value} ({artifact.rung.removesuffix(', quantized')})"
    for i, rung in enumerate(rungs, start=1):
        state = "taken" if rung.title == taken else "not needed"
        if rung.title in reasons:
            state = f"left: {reasons[rung.title]}"
        click.echo(f"  {i} {rung.road.value:<11} {rung.rung:<11} {state}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in artifact.parity.kinds.items())
    click.echo(f"  asked: {kinds}")


def converters(entries: Sequence[Any], exact: Sequence[tuple[str, str]]) -> None:
    """Show what converts to what: each framework's ladder, and what is written exactly."""
    rows = table("framework", "rung", "road", "converter", "pip extra")
    for entry in entries:
        rows.add_row(entry.framework, entry.rung, entry.road.value, entry.function, entry.extra)
    show(rows)
    click.echo("The first rung that proves wins: labels equal, numbers within --atol and --rtol")
    click.echo("of the original, on the sample and on hard rows made from the model.")
    for library in dict.fromkeys(library for library, _ in exact):
        classes = [cls for of, cls in exact if of == library and not cls.startswith("_")]
        click.echo(f"\nWritten exactly, in the arithmetic of {library} ({len(classes)} classes):")
        click.echo(
            textwrap.fill(", ".join(classes), 96, initial_indent="  ", subsequent_indent="  ")
        )


def converted(artifact: "Artifact", written: "Written", *, explained: bool = False) -> None:
    """Say which road the model took, what the proof found, and what comes next."""
    report = artifact.parity
    name, version = written.entry.name, written.entry.versions[-1]
    for reason in () if explained else artifact.refused:
        click.echo(f"  passed over {reason}")
    click.echo(
        f"  road        {artifact.road} ({artifact.framework}, {artifact.rung},"
        f" {artifact.spec.backend} backend)"
    )
    click.echo(
        f"  proof       {report.rows} rows ({report.sample_rows} of the sample) against"
        f" {report.reference}"
    )
    worst = f"{report.worst_absolute:.3g}"
    if report.worst_absolute > report.atol:  # Of large numbers the share tells more.
        worst = f"{report.worst_relative:.3g} of the number"
    click.echo(
        f"              worst difference {worst}, label mismatches {report.label_mismatches}"
    )
    click.echo(f"  inputs      {_tensors(artifact.spec.inputs)}")
    click.echo(f"  outputs     {_tensors(artifact.spec.outputs)}")
    for told in artifact.notes:
        click.echo(f"  note        {told}")
    click.echo(f"{_GOOD} {name} version {version}: {written.change}")
    note(f"  next: toolkit deploy {name}")


def _tensors(tensors: Sequence[Any]) -> str:
    return ", ".join(
        f"{tensor.name} {tensor.dtype.value}{list(tensor.dims) if tensor.dims else ''}"
        for tensor in tensors
    )


def deployed(results: "Sequence[Deployed]", url: str) -> None:
    """Say for each model whether it answers, and where."""
    for result in results:
        if result.error is None:
            rows = f", {result.rows} rows answered as proved" if result.rows else ""
            click.echo(f"{_GOOD} {result.name} version {result.version}{rows}")
    for result in results:
        if result.error is not None:
            error(result.error)
    good = sum(result.error is None for result in results)
    note(f"{good} of {len(results)} model(s) served at {url}")


def status(server: "Server", models: "Sequence[ServedModel]", *, as_json: bool) -> None:
    """Show the server and its models, as tables or as JSON."""
    process = server.process()
    memory = 0
    if process is not None:
        family = [process, *process.children(recursive=True)]
        memory = sum(member.memory_info().rss for member in family)
    if as_json:
        shown = asdict(server)
        del shown["token"]
        shown.update(memory_bytes=memory, http=server.http_url, grpc=server.grpc_url)
        click.echo(json.dumps({"server": shown, "models": [asdict(model) for model in models]}))
        return
    hours, seconds = divmod(int(time.time() - server.created), 3600)
    click.echo(
        f"Triton {server.triton_version}, pid {server.pid}, up {hours}:{seconds // 60:02}:"
        f"{seconds % 60:02}, {memory >> 20} MiB with its models"
    )
    click.echo(f"  HTTP {server.http_url}   gRPC {server.grpc_url}   metrics {server.metrics_url}")
    click.echo(f"  repository {server.repository}")
    rows = table(
        "model", "version", "state", "requests", "failed", "rows a batch", "queue µs", "compute µs"
    )
    for model in models:
        rows.add_row(
            model.name,
            model.version,
            model.state.lower() + (f": {model.reason}" if model.reason else ""),
            f"{model.requests:,}",
            f"{model.failures:,}",
            f"{model.rows / model.executions:.1f}" if model.executions else "-",
            f"{model.mean_queue_us:,.0f}",
            f"{model.mean_compute_us:,.0f}",
        )
    show(rows)


def verified(name: str, replays: "Sequence[Replay]") -> None:
    """Show each way of asking, and the first row that differs if one does."""
    rows = table("model", "wire", "asked", "rows", "different", "worst", "allowed")
    for replay in replays:
        rows.add_row(
            name,
            replay.wire,
            replay.way,
            f"{replay.rows:,}",
            f"{replay.different:,}",
            f"{replay.worst:.3g}",
            "bit for bit" if replay.allowed == 0 else f"{replay.allowed:.3g}",
        )
    show(rows)
    for replay in replays:
        if not replay.passed:
            click.echo(f"{_BAD} {name}, {replay.wire}, {replay.way}: {replay.first}")
    if all(replay.passed for replay in replays):
        exact = all(replay.allowed == 0 for replay in replays)
        how = (
            "the offline one, bit for bit"
            if exact
            else "the offline one, or within what is allowed"
        )
        click.echo(f"{_GOOD} {name}: every answer is {how}")


def runtime(there: "Runtime", problems: "Sequence[Problem]") -> None:
    """Say where the embedded Triton is and what keeps it from running."""
    click.echo(f"tritonserver  {there.server}")
    click.echo(f"perf_analyzer {there.perf_analyzer}")
    for problem in problems:
        click.echo(f"{_BAD} {problem.what}\n  try: {problem.mend}")
    if not problems:
        click.echo(f"{_GOOD} it can run on this machine")


def table(*headers: str) -> "Table":
    """Return an empty table with these headers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    empty = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        # Words read from the left, numbers from the right.
        words = header in {"model", "version", "state", "wire", "asked", "framework", "road"}
        empty.add_column(header, justify="left" if words else "right", overflow="fold")
    return empty


def show(filled: "Table") -> None:
    """Print a table, in full width where the output is no terminal."""
    from rich.console import Console

    # A pipe has no width; a cut table would lose what the reader came for.
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(filled)
