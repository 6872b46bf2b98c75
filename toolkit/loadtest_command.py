"""``toolkit loadtest``: load a REST service at a rate of its own."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import screen
from toolkit.commands import Decorator, decorated
from toolkit.errors import ConfigError, ToolkitError

if TYPE_CHECKING:
    from perf.loadtest.arrivals import Stage
    from perf.loadtest.plan import Plan
    from perf.loadtest.recorder import Second
    from perf.loadtest.results import Latency, Result

_LIMITS = ("max_p99_ms", "min_success_percent")
_FIGURES = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")


def loadtest_command() -> click.Command:
    """Return the command."""
    file = click.Path(path_type=Path)
    options: tuple[Decorator, ...] = (
        click.argument("url"),
        click.option("--rate", type=float, help="Requests a second, however the server does."),
        click.option("--arrivals", type=click.Choice(["constant", "poisson"]), default="constant",
                     show_default=True, help="Evenly spaced, or at random as from many callers."),
        click.option("--seed", type=click.IntRange(0), help=_HELP["seed"]),
        click.option("--ramp-from", type=float, help=_HELP["ramp_from"]),
        click.option("--ramp-seconds", type=float, help="How long the ramp takes."),
        click.option("--stage", "stages", multiple=True, metavar="RATE:TIME",
                     help=_HELP["stage"]),
        click.option("--concurrency", type=int, help=_HELP["concurrency"]),
        click.option("--duration", metavar="TIME", help="Such as 30s, 5m, 1h. [default: 30s]"),
        click.option("--warmup", metavar="TIME", default="1s", show_default=True,
                     help="Load that comes first and is not counted."),
        click.option("--timeout", metavar="TIME", default="10s", show_default=True,
                     help="For each request, from when it has a connection."),
        click.option("--data", "bodies", multiple=True, metavar="FILE|JSON", help=_HELP["data"]),
        click.option("--method", help="[default: POST with --data, GET without]"),
        click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'"),
        click.option("--expect-status", "expected", multiple=True, type=click.IntRange(200, 599),
                     help="Status of success. [default: 200 to 299]"),
        click.option("--connections-max", type=int, default=256, show_default=True,
                     help="Connections at a time; what finds none free waits in line."),
        click.option("--waiting-max", type=int, default=100_000, show_default=True,
                     help="Length of the line; what finds it full counts as not sent."),
        click.option("--workers", type=int, default=1, show_default=True,
                     help="Processes that send."),
        click.option("--insecure", is_flag=True, help="Trust any certificate."),
        click.option("--cacert", help="A PEM file of the certificates to trust."),
        click.option("--json", "json_file", type=file, help=_HELP["json"]),
        click.option("--histogram", "histogram_file", type=file, help=_HELP["histogram"]),
        click.option("--max-p99-ms", type=float, help="Exit 1 if the p99 is above."),
        click.option("--min-success-percent", type=float, help="Exit 1 if fewer succeed."),
    )  # fmt: skip
    made: click.Command = click.command("loadtest")(decorated(_loadtest, options))
    return made


_HELP: Mapping[str, str] = {
    "seed": "Of poisson arrivals; the same seed sends at the same times. [default: a new one]",
    "ramp_from": "Begin at this rate, and go evenly to --rate before --duration begins.",
    "stage": "Hold a rate, 500:30s, or change it evenly, 0-500:1m. One after another.",
    "concurrency": "A closed loop instead: this many callers, each waits for its answer.",
    "data": "A body; of a .jsonl file each line is one. Several go round in turn.",
    "json": "Write the result and its series by the second; - for stdout, without the table.",
    "histogram": "Write an HdrHistogram log.",
}


def _loadtest(url: str, json_file: Path | None, histogram_file: Path | None, **flags: Any) -> None:
    """Load a REST service at URL, and say how fast it answers.

    Requests leave when they are due, whether or not those before them were answered, and
    their times count from when they were due.
    """
    from perf import writing
    from perf.loadtest import report
    from perf.loadtest.libraries import require
    from perf.loadtest.results import broken_limits
    from perf.loadtest.run import run

    require()
    plan = _plan(url, flags)
    to_stdout = json_file is not None and str(json_file) == "-"
    for path in (None if to_stdout else json_file, histogram_file):
        if path is not None:
            writing.check(path)
    began = time.time()
    with _progress(plan) as watch:
        result = run(plan, watch)
    text = json.dumps(report.as_json(plan, result), indent=1) + "\n"
    if to_stdout:
        click.echo(text, nl=False)
    else:
        _show(plan, result)
    if json_file is not None and not to_stdout:
        writing.write(json_file, text.encode())
    if histogram_file is not None:
        log = report.histogram_log(result, began + plan.warmup_seconds)
        writing.write(histogram_file, log.encode())
    broken = broken_limits(result, **{name: flags[name] for name in _LIMITS})
    if not result.total.succeeded and not broken and not result.interrupted:
        broken = [
            "no request was answered as expected" if result.total.due else "no request came due"
        ]
    for line in broken:
        screen.error(ToolkitError(line))
    if result.interrupted:
        sys.exit(130)
    if broken:
        sys.exit(1)


def _plan(url: str, flags: Mapping[str, Any]) -> "Plan":
    import secrets

    from perf.loadtest.arrivals import parse_seconds
    from perf.loadtest.plan import Plan
    from perf.loadtest.request import build_requests, parse_url, read_bodies

    target = parse_url(url, verify=not flags["insecure"], cacert=flags["cacert"])
    target.tls_context()
    bodies = read_bodies(flags["bodies"])
    seed = flags["seed"]
    if flags["arrivals"] == "constant":
        if seed is not None:
            raise ConfigError("--seed is for random arrivals", hint="--arrivals poisson")
    elif seed is None:
        seed = secrets.randbelow(2**31)
    return Plan(
        target,
        "",
        build_requests(target, flags["method"], flags["headers"], bodies),
        _stages(flags),
        seed,
        flags["concurrency"],
        parse_seconds(flags["duration"] or "30s"),
        parse_seconds(flags["warmup"]),
        parse_seconds(flags["timeout"]),
        frozenset(flags["expected"]),
        flags["connections_max"],
        flags["waiting_max"],
        flags["workers"],
    )


def _stages(flags: Mapping[str, Any]) -> "tuple[Stage, ...]":
    """Return what --rate with its ramp, or --stage, says; nothing for a closed loop."""
    from perf.loadtest.arrivals import Stage, parse_seconds, parse_stage

    rate, ramp_from, ramp_seconds = flags["rate"], flags["ramp_from"], flags["ramp_seconds"]
    if flags["stages"]:
        if rate is not None or ramp_from is not None or flags["duration"] is not None:
            raise ConfigError("--stage says the rate and the time; leave out --rate and --duration")
        return tuple(parse_stage(text) for text in flags["stages"])
    if (ramp_from is None) != (ramp_seconds is None):
        raise ConfigError("a ramp needs both --ramp-from and --ramp-seconds")
    if rate is None:
        if ramp_from is not None:
            raise ConfigError("a ramp needs the --rate it leads to")
        return ()
    if not rate > 0:
        raise ConfigError(f"--rate {rate:g} sends nothing", hint="--rate 100")
    ramp = () if ramp_from is None else (Stage(ramp_seconds, ramp_from, rate),)
    return (*ramp, Stage(parse_seconds(flags["duration"] or "30s"), rate, rate))


@contextmanager
def _progress(plan: "Plan") -> "Iterator[Callable[[Second], None] | None]":
    """Give what keeps one line on a terminal up to date."""
    if not sys.stderr.isatty():
        yield None
        return

    def watch(second: "Second") -> None:
        if second.index >= plan.seconds:
            return  # What still comes in after the end.
        failed = sum(second.failures.values())
        line = (
            f"{second.index + 1:,} of {plan.seconds:,.0f} s   {second.succeeded:,} answered/s"
            f"   {failed:,} failed/s   {second.waiting:,} in line   {second.connections:,}"
            f" connections   slowest {max(_slowest(second)) * 1e3:,.1f} ms"
        )
        click.echo(f"\r\033[K{line}", nl=False, err=True)

    try:
        yield watch
    finally:
        click.echo("\r\033[K", nl=False, err=True)


def _slowest(second: "Second") -> tuple[float, float]:
    return second.max_from_due_seconds, second.max_from_send_seconds


def _show(plan: "Plan", result: "Result") -> None:
    from perf.loadtest.results import behind

    total = result.total
    click.echo(_headline(plan, result))
    rows = screen.table("latency, ms", *_FIGURES)
    rows.columns[0].justify = "left"
    if not plan.closed:
        rows.add_row("from when due", *_cells(result.from_schedule))
    rows.add_row("from when sent", *_cells(result.from_send))
    if not plan.closed:
        rows.add_row("generator late", *_cells(result.late))
    screen.show(rows)
    statuses = (f"{number:,} with {status}" for status, number in sorted(total.statuses.items()))
    click.echo(f"  answers     {', '.join(statuses) or 'none'}")
    for kind, number in sorted(total.failures.items()):
        click.echo(f"  failed      {number:,} {kind}: {total.examples.get(kind, '')}")
    for number, what in (
        (
            total.not_sent,
            "not sent: there was no free connection, and the line was full or the time over",
        ),
        (total.unfinished, "under way when the run was interrupted"),
        (total.sent_again, "sent a second time: the server closed an idle connection under them"),
    ):
        if number:
            click.echo(f"  of them     {number:,} {what}")
    click.echo(
        f"  traffic     {result.sent_bytes_per_second / 1e6:,.2f} MB/s sent,"
        f" {result.received_bytes_per_second / 1e6:,.2f} MB/s received"
    )
    click.echo(f"  generator   {result.cpu_percent:.0f} % of a core each of {plan.workers}")
    if why := behind(result):
        screen.error(
            ToolkitError(
                f"the generator could not keep up: {why}. These figures are of the generator,"
                " not of the server",
                hint=f"--workers {plan.workers + 1}, a lower rate, or a machine of its own",
            )
        )


def _headline(plan: "Plan", result: "Result") -> str:
    asked = (
        f"{plan.concurrency} caller{'' if plan.concurrency == 1 else 's'}"
        if plan.closed
        else f"{result.asked_per_second:,.1f} requests/s asked"
    )
    cut = ", interrupted" if result.interrupted else ""
    arrivals = "" if plan.seed is None else f" (poisson, seed {plan.seed})"
    return (
        f"{asked}{arrivals}, {result.reached_per_second:,.1f}/s answered,"
        f" {result.success_percent:.4g} % of {result.total.due:,} succeeded"
        f" in {result.elapsed_seconds:,.1f} s{cut}"
    )


def _cells(latency: "Latency | None") -> list[str]:
    if latency is None:
        return ["-"] * len(_FIGURES)
    figures = {**latency.percentiles_ms, "max": latency.max_ms, "mean": latency.mean_ms}
    return [f"{figures[name]:,.2f}" for name in _FIGURES]
