"""How points are shown: a table with a column for each setting that differs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from toolkit import screen

if TYPE_CHECKING:
    from perf.journal import Point
    from perf.measurement import Measurement

_MOST_ROWS = 25
_SHORT = {
    "max_batch_size": "max batch",
    "dynamic_batching": "batching",
    "max_queue_delay_microseconds": "delay us",
    "preferred_batch_size": "preferred",
    "instance_count": "instances",
    "intra_op_thread_count": "threads",
    "response_cache": "cache",
}
_FIGURES: "tuple[tuple[str, Callable[[Measurement], str]], ...]" = (
    ("inferences/s", lambda one: f"{one.inferences_per_second:,.0f}"),
    ("p50 ms", lambda one: f"{one.p50_us / 1e3:,.2f}"),
    ("p99 ms", lambda one: f"{one.p99_us / 1e3:,.2f}"),
    ("queue us", lambda one: f"{one.queue_us:,.0f}"),
    ("compute us", lambda one: f"{one.compute_infer_us:,.0f}"),
    ("batch", lambda one: f"{one.mean_batch_size:.1f}" if one.batch_sizes else "-"),
)


def points(shown: "Sequence[Point]") -> None:
    """Print ``shown``, the first rows of many, with the reasons of those that failed."""
    measured = [point for point in shown if point.measurement]
    settings = [n for n in _SHORT if any(n in point.candidate.changes() for point in shown)]
    loads = len({point.load for point in shown}) > 1
    rows = screen.table(
        *(_SHORT[name] for name in settings),
        *(("load",) if loads else ()),
        *(title for title, _ in _FIGURES),
    )
    for point in measured[:_MOST_ROWS]:
        changes = point.candidate.changes()
        assert point.measurement is not None
        rows.add_row(
            *(_value(changes.get(name)) for name in settings),
            *((str(point.load),) if loads else ()),
            *(figure(point.measurement) for _, figure in _FIGURES),
        )
    screen.show(rows)
    if len(measured) > _MOST_ROWS:
        click.echo(f"and {len(measured) - _MOST_ROWS} more")
    for point in shown:
        if point.failure:
            click.echo(f"failed: {point.candidate}, {point.load}: {point.failure}")


def _value(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "on" if value else "off"
        case tuple():
            return ",".join(map(str, value)) or "none"
    return f"{value}"
