"""Which results of a study are drawn, under which name, in which colour."""

import math
from collections.abc import Sequence
from typing import Any

from perf.measurement import Load, Measurement
from perf.report.studies import Result, Study
from perf.report.variants import Variant
from perf.report.wording import load_text

# Told apart by all kinds of colour vision, on white and on black.
WINNER, DEFAULT, FRONT, OTHER = "#e4572e", "#2a7de1", "#17936f", "#8a8f98"
KINDS = {
    "a single run": (OTHER, "circle", 14),
    "other": (OTHER, "circle", 28),
    "on the Pareto front": (FRONT, "circle", 75),
    "as served": (DEFAULT, "square", 90),
    "first measured": (DEFAULT, "square", 90),
    "side A": (DEFAULT, "square", 90),
    "side B": (FRONT, "square", 90),
    "winner": (WINNER, "diamond", 190),
}
"""Colour, shape and size of the points; the last ones lie on top."""

_MORE = ("#17936f", "#9467bd", "#b8860b", "#0e9aa7", "#d264b6", "#8c6d31")
_NAMED = 2 + len(_MORE)
_BARS = 16


def named(study: Study) -> dict[Variant, str]:
    """Return the candidates whose curves get a name, with their colours.

    The default, the winner, and those on the Pareto front; all, where they are few.
    """
    winner = study.winner
    first = [study.default, *([winner.variant] if winner else [])]
    everyone = dict.fromkeys(one.variant for one in study.results)
    few = everyone if len(everyone) <= _NAMED else {}
    chosen = list(dict.fromkeys([*first, *(one.variant for one in _front(study)), *few]))
    colours = dict(zip((one for one in chosen if one not in first), _MORE, strict=False))
    if winner:
        colours[winner.variant] = WINNER
    colours[study.default] = DEFAULT
    return {one: colours[one] for one in chosen if one in colours}


def bars(study: Study) -> list[Result]:
    """Return the results whose time is shown.

    The winner's and the default's over their loads, the front, and all, where they are few.
    """
    winner = study.winner
    chosen: list[Result] = []
    for variant in dict.fromkeys([winner.variant if winner else None, study.default]):
        own = sorted((one for one in study.results if one.variant == variant), key=by_load)
        chosen += _spread(own, _BARS // 4)
    few = study.results if len(study.results) <= _BARS else ()
    return list({one.number: one for one in [*chosen, *_front(study), *few]}.values())[:_BARS]


def single_runs(study: Study) -> list[dict[str, Any]]:
    """Return the runs of all results that are medians of several."""
    return [
        {**row(study, one, run), "kind": "a single run", "front": False, "runs": 1}
        for one in study.results
        if one.runs > 1
        for run in one.each
    ]


def row(study: Study, one: Result, run: Measurement | None = None) -> dict[str, Any]:
    """Return what a chart knows of a result, or of one of its runs.

    Times are in ms, None is not known.
    """
    measured, load = run or one.measured, one.load
    return {
        "name": str(one.variant),
        "load": load_text(study, load),
        "rate": measured.inferences_per_second,
        "p50": _milliseconds(measured.p50_us),
        "p99": _milliseconds(measured.p99_us),
        "queue": _milliseconds(measured.queue_us),
        "batch": _finite(measured.mean_batch_size),
        "stable": "yes" if measured.stable else "no",
        "runs": one.runs,
        "front": one.on_front,
        "kind": _kind(study, one),
        "line": f"{one.variant} {_line(load)}",
        "step": load.concurrency if load.concurrency is not None else load.request_rate,
    }


def by_load(one: Result) -> tuple[float, ...]:
    """Return a key that sorts results by their load."""
    load = one.load
    return load.batch_size, load.concurrency or 0, load.request_rate or 0.0


def _kind(study: Study, one: Result) -> str:
    winner = study.winner
    if winner is not None and one.number == winner.number:
        return "winner"
    if one.variant == study.default:
        if study.default.side:
            return "side A"
        return "as served" if study.default.as_served else "first measured"
    if one.variant.side:
        return "side B"
    return "on the Pareto front" if one.on_front else "other"


def _front(study: Study) -> list[Result]:
    front = (one for one in study.results if one.on_front)
    return sorted(front, key=lambda one: -one.measured.inferences_per_second)


def _spread(results: Sequence[Result], most: int) -> list[Result]:
    """Return so many of them, from the first to the last, evenly."""
    if len(results) <= most:
        return list(results)
    return [results[round(i * (len(results) - 1) / (most - 1))] for i in range(most)]


def _line(load: Load) -> str:
    """Return what is equal along a curve; its concurrency or its rate is not."""
    kind = "rate" if load.concurrency is None else "concurrency"
    return f"{kind} {load.batch_size} {load.protocol.value} {load.shared_memory.value}"


def _milliseconds(microseconds: float) -> float | None:
    return microseconds / 1e3 if math.isfinite(microseconds) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
