"""The findings of a study in words."""

import math
from collections.abc import Iterator
from datetime import datetime

from perf.goals import Objective
from perf.measurement import Load, Protocol, SharedMemory
from perf.report.studies import Result, Study

_WORTH_A_FACTOR = 1.2
_SMALLEST_SHOWN = 0.005


def sentence(study: Study) -> str:
    """Return what an engineer wants to know first, in one sentence."""
    winner, baseline = study.winner, study.baseline
    if study.comparison is not None:
        return f"{study.comparison.sentence}."
    if not study.results:
        return f"Nothing could be measured of {study.model}: every point failed."
    if winner is None:
        closest = min(study.results, key=lambda one: _or_infinite(one.measured.p99_us))
        return (
            f"No measured configuration of {study.model} keeps to {limits(study)};"
            f" the lowest p99 is {milliseconds(closest.measured.p99_us)} at"
            f" {rate(closest.measured.inferences_per_second)} inferences/s"
            f" ({closest.variant.short})."
        )
    return f"{_subject(study, winner)} {_does(winner)}{_compared(study, winner, baseline)}."


def notes(study: Study) -> Iterator[str]:
    """Yield what a reader must know beside the sentence."""
    if study.comparison is not None:
        if unstable := study.comparison.unstable:
            yield f"{unstable} of its measurements were not stable: take the figures as rough."
        return
    winner, baseline = study.winner, study.baseline
    default = _capital(default_name(study))
    if not study.default.as_served and winner and winner.variant != study.default:
        yield f"Nothing was measured as served; {default_name(study)} is {study.default.short}."
    if winner and baseline is None:
        yield f"{default} could not be measured."
    if winner and baseline and winner.variant != baseline.variant:
        if not baseline.within:
            yield f"{default} does not keep to {limits(study)}."
        if winner.load != baseline.load:
            yield (
                f"Each is shown at its own best load: {load_text(study, winner.load)} for the"
                f" winner, {load_text(study, baseline.load)} for {default_name(study)}."
            )
        yield from _doubts(baseline, default)
    if winner:
        yield from _doubts(winner, "The winner")


def _doubts(one: Result, name: str) -> Iterator[str]:
    if not one.measured.stable:
        yield f"{name}: the measurement was not stable, so take its figures as rough."
    if one.measured.failures:
        yield f"{name}: {one.measured.failures:,} requests failed while it was measured."


def default_name(study: Study) -> str:
    """Return what the winner is compared with."""
    if study.default.side:
        return study.default.side
    if study.default.as_served:
        return "the configuration as served"
    return "the first one measured"


def limits(study: Study) -> str:
    """Return what a configuration has to keep to."""
    goal = study.goal
    parts = []
    if goal.max_p99_ms is not None:
        parts.append(f"p99 {goal.max_p99_ms:g} ms")
    if goal.min_throughput is not None:
        parts.append(f"at least {goal.min_throughput:,g} inferences/s")
    if goal.max_memory_bytes is not None:
        parts.append(f"{goal.max_memory_bytes / 2**20:,.0f} MiB")
    return f"the limit of {' and '.join(parts)}" if parts else "no failed request"


def load_text(study: Study, load: Load) -> str:
    """Return a load in words, with the wire where a study has several."""
    text = str(load)
    if study.several_wires or load.protocol is Protocol.HTTP:
        text += f", {load.protocol.value}"
    if load.shared_memory is not SharedMemory.NONE:
        text += f", {load.shared_memory.value} shared memory"
    return text


def milliseconds(microseconds: float) -> str:
    """Return a time to three significant figures, in ms."""
    if not math.isfinite(microseconds):
        return "unknown"
    return f"{_figures(microseconds / 1e3)} ms"


def when(text: str) -> str:
    """Return a time of a journal for a person to read; what is none as it is."""
    try:
        at = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return str(text)
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".strip()


def rate(inferences_per_second: float) -> str:
    """Return a throughput, without decimals from 100 on."""
    return f"{inferences_per_second:,.{0 if inferences_per_second >= 100 else 1}f}"  # noqa: PLR2004


def percent(before: float, after: float) -> str:
    """Return a difference in percent, signed; "" where there is none to tell."""
    if not (math.isfinite(before) and math.isfinite(after) and before):
        return ""
    share = (after - before) / before
    return (
        "±0 %"
        if abs(share) < _SMALLEST_SHOWN
        else f"{share:+,.0%}".replace("%", " %").replace("-", "\N{MINUS SIGN}")
    )


def _subject(study: Study, winner: Result) -> str:
    if winner.variant == study.default and study.default.as_served:
        return f"{study.model}, as served,"
    return f"{study.model} with {winner.variant.short}"


def _does(winner: Result) -> str:
    measured = winner.measured
    return (
        f"serves {rate(measured.inferences_per_second)} inferences/s at p99"
        f" {milliseconds(measured.p99_us)}"
    )


def _compared(study: Study, winner: Result, baseline: Result | None) -> str:
    if baseline is None:
        return ""
    if winner.variant == baseline.variant:
        others = {one.variant for one in study.results} - {winner.variant}
        return f", and none of {len(others)} other configurations is better" if others else ""
    name = default_name(study)
    one, other = winner.measured, baseline.measured
    if study.goal.objective is Objective.LATENCY:
        less = percent(other.p99_us, one.p99_us).removeprefix("\N{MINUS SIGN}")
        return f", {less} less than {name}" if one.p99_us < other.p99_us and less[0] != "±" else ""
    factor = one.inferences_per_second / max(other.inferences_per_second, 1e-9)
    if factor >= _WORTH_A_FACTOR:
        return f", {factor:,.1f} times {name}"
    if factor < 1 + _SMALLEST_SHOWN:
        return f", about as much as {name}"
    return f", {factor - 1:.0%}".replace("%", " %") + f" more than {name}"


def _figures(value: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 4)}f}"


def _or_infinite(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
