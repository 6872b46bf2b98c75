"""The tables of the page. Everything that comes from a journal is escaped here."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from perf import settings
from perf.measurement import Measurement
from perf.report.studies import Result, Study, limited
from perf.report.wording import load_text, percent, rate, when


@dataclass(frozen=True, slots=True)
class Number:
    """A cell that is sorted by its value and set to the right; ``value`` NaN shows nothing."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Named:
    """A cell in few words, and its whole text where it is pointed at."""

    text: str
    whole: str


Cell = str | Number | Named


def table(
    caption: str, headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, sortable: bool = False
) -> str:
    """Return a table; the first cell of each row is its header."""
    rows = list(rows)
    numeric = [all(isinstance(row[i], Number) for row in rows) for i in range(len(headers))]
    names = "".join(
        f'<th scope="col"{_class("number", when=right)}>{escape(name)}</th>'
        if name
        else "<td></td>"
        for name, right in zip(headers, numeric, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(_cells(row))}</tr>" for row in rows)
    kind = "scroll tall" if sortable else "scroll"
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{_class('sortable', when=sortable)}><caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{names}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def mapping(caption: str, record: Mapping[str, Any]) -> str:
    """Return any mapping as a table of names and values, "" if it is empty.

    What is nested gets dotted names.
    """
    if not record:
        return ""
    return table(caption, ("", "value"), _flat(record))


def comparison(study: Study, baseline: Result, rival: Result) -> str:
    """Return the figures of the winner, or of side B, beside those of the default."""
    names = _names(study, rival)
    rows: list[Sequence[Cell]] = [
        ("load", load_text(study, baseline.load), load_text(study, rival.load), "")
    ]
    for name, (before, after) in _figures(baseline.measured, rival.measured).items():
        if math.isnan(before.value) and math.isnan(after.value):
            continue
        rows.append((name, before, after, percent(before.value, after.value)))
    return table("Both in figures", ("", *names, "difference"), rows)


def changes(study: Study, rival: Result) -> str:
    """Return the settings of ``config.pbtxt`` in which the two differ; "" if in none."""
    rows = settings.differences(
        study.headers[0].configuration, study.default.candidate, rival.variant.candidate
    )
    if not rows:
        return ""
    return table("The settings that differ", ("in config.pbtxt", *_names(study, rival)), rows)


def _names(study: Study, rival: Result) -> tuple[str, str]:
    if study.default.side:
        return study.default.side, rival.variant.side
    return "as served" if study.default.as_served else "first measured", "winner"


def failures(study: Study) -> str:
    """Return the points that have no measurement, with their reasons."""
    rows = [
        (str(variant), load_text(study, point.load), point.failure or "unknown", when(point.at))
        for variant, point in study.failed
    ]
    return table("Points without a measurement", ("configuration", "load", "reason", "at"), rows)


def results(study: Study) -> str:
    """Return every result, best first; a click on a column sorts by it."""
    winner = study.winner
    headers = [
        "configuration", "load", "marks", "inferences/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms",
        "rows an execution", "queue ms", "compute ms", "memory MiB", "failed requests", "stable",
    ]  # fmt: skip
    if limited(study.goal):
        headers.append("within limits")
    rows: list[list[Cell]] = []
    for one in sorted(study.results, key=lambda one: -one.measured.inferences_per_second):
        measured = one.measured
        marks = [
            *(["winner"] if winner and winner.number == one.number else []),
            *(["front"] if one.on_front else []),
            *([f"{one.runs} runs"] if one.runs > 1 else []),
        ]
        row: list[Cell] = [
            Named(one.variant.short, str(one.variant)),
            load_text(study, one.load),
            ", ".join(marks),
            _rate(measured.inferences_per_second),
            *map(_time, (measured.p50_us, measured.p90_us, measured.p95_us, measured.p99_us)),
            _plain(measured.mean_batch_size, 1),
            _time(measured.queue_us),
            _time(_compute(measured)),
            _memory(measured),
            _plain(measured.failures, 0),
            "yes" if measured.stable else "no",
        ]
        rows.append([*row, "yes" if one.within else "no"] if limited(study.goal) else row)
    caption = f"All {len(rows)} results; the first column names what is changed"
    return table(caption, headers, rows, sortable=True)


def overview(studies: Sequence[Study]) -> str:
    """Return a line for each study."""
    rows: list[Sequence[Cell]] = []
    for study in studies:
        winner, baseline = study.winner, study.baseline
        measured = winner.measured if winner else None
        times = math.nan
        if measured and baseline and baseline.measured.inferences_per_second:
            times = measured.inferences_per_second / baseline.measured.inferences_per_second
        rows.append(
            (
                study.model,
                ", ".join(study.sources),
                winner.variant.short if winner else "none",
                _rate(measured.inferences_per_second if measured else math.nan),
                _time(measured.p99_us if measured else math.nan),
                Number(times, "" if math.isnan(times) else f"{times:.2f}"),
            )
        )
    headers = ("model", "journal", "winner", "inferences/s", "p99 ms", "times the default")
    return table("The models of this report", headers, rows)


def _figures(before: Measurement, after: Measurement) -> dict[str, tuple[Number, Number]]:
    def both(name: str) -> tuple[Number, Number]:
        return _time(getattr(before, name)), _time(getattr(after, name))

    return {
        "inferences/s": (_rate(before.inferences_per_second), _rate(after.inferences_per_second)),
        "p50 ms": both("p50_us"),
        "p90 ms": both("p90_us"),
        "p95 ms": both("p95_us"),
        "p99 ms": both("p99_us"),
        "queue ms": both("queue_us"),
        "compute ms": (_time(_compute(before)), _time(_compute(after))),
        "rows an execution": (_plain(before.mean_batch_size, 1), _plain(after.mean_batch_size, 1)),
        "memory MiB": (_memory(before), _memory(after)),
    }


def _compute(measured: Measurement) -> float:
    return measured.compute_input_us + measured.compute_infer_us + measured.compute_output_us


def _rate(value: float) -> Number:
    return Number(value, "" if math.isnan(value) else rate(value))


def _time(microseconds: float) -> Number:
    return _plain(microseconds / 1e3, 2)


def _memory(measured: Measurement) -> Number:
    found = measured.memory_bytes
    return _plain(math.nan if found is None else found / 2**20, 0)


def _plain(value: float, decimals: int) -> Number:
    return Number(value, f"{value:,.{decimals}f}" if math.isfinite(value) else "")


def _cells(row: Sequence[Cell]) -> Iterator[str]:
    for place, cell in enumerate(row):
        if isinstance(cell, Number):
            value = f"{cell.value:.9g}" if math.isfinite(cell.value) else ""
            yield f'<td class="number" data-value="{value}">{escape(cell.text)}</td>'
        elif isinstance(cell, Named):
            yield f'<th scope="row" title="{escape(cell.whole)}">{escape(cell.text)}</th>'
        elif place == 0:
            yield f'<th scope="row">{escape(cell)}</th>'
        else:
            yield f"<td>{escape(cell)}</td>"


def _flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", settings.shown(value)


def _class(name: str, *, when: bool) -> str:
    return f' class="{name}"' if when else ""
