"""``toolkit perf run``: a served model under some loads, each measured once."""

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import screen
from toolkit.commands import decorated
from toolkit.errors import ToolkitError
from toolkit.perf_options import (
    load_options,
    loads_of,
    settings_of,
    settings_options,
    target_of,
    target_options,
)
from toolkit.perf_session import bar

if TYPE_CHECKING:
    from perf.input_data import Data
    from perf.journal import Header, Journal, Point
    from perf.measurement import Load, Measurement
    from perf.target import Target

_SLACK = 0.05
_WINDOWS = 3  # That perf_analyzer joins.
_WINDOW_REQUESTS = 20


def run_command(default_repository: Path) -> click.Command:
    """Return the command; ``default_repository`` is where its server is looked for."""
    options = (
        click.argument("model"),
        *load_options(1),
        click.option("--request-distribution", type=click.Choice(["constant", "poisson"]),
                     default="constant", show_default=True,
                     help="Of the requests of a rate over time."),
        *settings_options(),
        *target_options(default_repository),
        click.option("-x", "--version", "model_version", help="[default: the newest]"),
        click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
                     help="Add the figures to this journal too (.jsonl)."),
        click.option("--csv", "table", type=click.Path(path_type=Path, dir_okay=False),
                     help="Write the figures in Model Analyzer's columns."),
        click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON."),
    )  # fmt: skip
    return click.command("run")(decorated(_run, options))


def _run(
    model: str, output: Path | None, table: Path | None, *, as_json: bool, **flags: Any
) -> None:
    """Measure the served MODEL under each load, with the real perf_analyzer.

    It sends the rows that MODEL was converted with. What was measured is shown even if a
    later load fails.
    """
    from perf import analyzer, input_data
    from perf.analyzer import Distribution
    from perf.journal import begin
    from perf.measuring import measure
    from perf.report import write_csv

    loads = loads_of(flags, 1)
    settings = replace(
        settings_of(flags),
        distribution=Distribution(flags["request_distribution"]),
        version=flags["model_version"],
    )
    target = target_of(model, flags)
    analyzer.find()
    with tempfile.TemporaryDirectory(prefix="toolkit-perf-") as folder, ExitStack() as stack:
        data = input_data.prepare(
            target, model, Path(folder), given=flags["input_data"], version=settings.version
        )
        header = _header(target, model, _plan(flags, data))
        journal = None if output is None else stack.enter_context(begin(output, header))
        if not as_json:
            screen.note(f"sending {data.told}")
        done: list[Measurement] = []
        try:
            each = settings.measurement_interval_ms / 1000 * _WINDOWS + 0.2
            _measure(
                partial(measure, target, model, settings=settings, data=data),
                loads, each, done, journal,
            )  # fmt: skip
        finally:
            _show(model, data, done, as_json=as_json)
            if table is not None:
                write_csv(table, [(header, [_point(one) for one in done])])


def _measure(
    measure: "Callable[[Load], Measurement]",
    loads: "Sequence[Load]",
    each_seconds: float,
    done: "list[Measurement]",
    journal: "Journal | None",
) -> None:
    """Measure under each load in turn; what a load before it showed is kept in ``done``."""
    from perf.candidates import AS_SERVED
    from perf.journal import Point

    with bar(len(loads), each_seconds=each_seconds) as advance:
        for load in loads:
            advance(str(load), by=0)
            try:
                measured = measure(load)
            except ToolkitError as error:
                if journal is not None:
                    failed = Point(candidate=AS_SERVED, load=load, failure=error.message)
                    journal.append(failed)
                raise
            advance(str(load))
            done.append(measured)
            if journal is not None:
                journal.append(_point(measured))


def _plan(flags: Mapping[str, Any], data: "Data") -> dict[str, Any]:
    names = ("protocol", "shared_memory", "measurement_interval", "max_trials", "percentile",
             "stability_percentage", "request_distribution", "model_version")  # fmt: skip
    return {**{name: flags[name] for name in names}, "rows": data.told}


def _header(target: "Target", model: str, plan: Mapping[str, Any]) -> "Header":
    from perf.journal import Header
    from perf.machine import machine, server

    with target.client() as client:
        return Header(
            command="run",
            model=model,
            plan=plan,
            configuration=client.config(model, plan["model_version"]),
            machine=machine(),
            server=server(client),
        )


def _point(measured: "Measurement") -> "Point":
    from perf.candidates import AS_SERVED
    from perf.journal import Point

    return Point(candidate=AS_SERVED, load=measured.load, measurement=measured)


def _show(
    model: str,
    data: "Data",
    done: "Sequence[Measurement]",
    *,
    as_json: bool,
) -> None:
    if as_json:
        measured = [one.to_json() for one in done]
        click.echo(json.dumps({"model": model, "sent": data.told, "measurements": measured}))
        return
    if not done:
        return
    _speeds(done)
    click.echo("Where the time of the mean request goes (us), and the memory of the model:")
    _parts(done)
    for one in done:
        for oddity in oddities(one):
            screen.note(f"{one.load}: {oddity}")


def _speeds(done: "Sequence[Measurement]") -> None:
    rows = screen.table(
        *_asked_titles(done), "inferences/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms",
        "batch", "failed",
    )  # fmt: skip
    for one in done:
        latencies = (one.p50_us, one.p90_us, one.p95_us, one.p99_us)
        cached = f" +{one.cache_hits:,} cached" if one.cache_hits else ""
        rows.add_row(
            *_asked(one.load, done),
            f"{one.inferences_per_second:,.0f}" + ("" if one.stable else " ~"),
            *(f"{value / 1e3:,.2f}" for value in latencies),
            (f"{one.mean_batch_size:.1f}" if one.batch_sizes else "-") + cached,
            f"{one.failures:,}",
        )
    screen.show(rows)


def _parts(done: "Sequence[Measurement]") -> None:
    rows = screen.table(
        *_asked_titles(done), "mean", "client", "network", "queue", "input", "infer", "output",
        "else", "MiB",
    )  # fmt: skip
    for one in done:
        parts = (
            one.mean_us, one.client_send_us + one.client_receive_us, one.network_us, one.queue_us,
            one.compute_input_us, one.compute_infer_us, one.compute_output_us, one.overhead_us,
        )  # fmt: skip
        memory = f"{one.memory_bytes / 2**20:,.0f}" if one.memory_bytes else "-"
        rows.add_row(*_asked(one.load, done), *(f"{value:,.0f}" for value in parts), memory)
    screen.show(rows)


def _asked_titles(done: "Sequence[Measurement]") -> tuple[str, ...]:
    first = "asked/s" if done[0].load.request_rate is not None else "callers"
    return (first, "rows") if _batches_differ(done) else (first,)


def _asked(load: "Load", done: "Sequence[Measurement]") -> tuple[str, ...]:
    rate = load.request_rate
    first = f"{load.concurrency:,}" if rate is None else f"{rate:,.10g}"
    return (first, f"{load.batch_size:,}") if _batches_differ(done) else (first,)


def _batches_differ(done: "Sequence[Measurement]") -> bool:
    return any(one.load.batch_size != 1 for one in done)


def oddities(one: "Measurement") -> list[str]:
    """Return what a reader of the figures must know beside them."""
    told = []
    if not one.stable:
        told.append("the windows did not agree (~); longer ones may: --measurement-interval")
    asked = one.load.request_rate
    answered = one.inferences_per_second / one.load.batch_size
    window_us = one.requests / answered / _WINDOWS * 1e6 if answered else math.inf
    # The count of a Poisson process is off by its root.
    slack = max(_SLACK, 3 / math.sqrt(one.requests) if one.requests else 1.0)
    if asked is not None and answered < asked * (1 - slack):
        told.append(f"{asked:,.10g} requests/s were asked, {answered:,.0f} were answered")
    elif one.mean_us * _WINDOW_REQUESTS > window_us:
        longer = math.ceil(one.mean_us * _WINDOW_REQUESTS / 1e5) * 100
        told.append(
            f"a request takes {one.mean_us / window_us:.0%} of a window, and the throughput may be"
            f" too low by as much: --measurement-interval {longer}"
        )
    return told
