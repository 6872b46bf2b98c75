"""What was measured of one model: its results, the Pareto front, the winner, the default."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

from perf import settings
from perf.candidates import AS_SERVED
from perf.comparing import Comparison
from perf.comparison_journal import COMMANDS, comparison
from perf.goals import Goal, Objective
from perf.journal import Header, Point, read
from perf.measurement import Load, Measurement
from perf.report.variants import Variant
from toolkit.errors import ConfigError

_MEDIANS = (
    "inferences_per_second", "mean_us", "p50_us", "p90_us", "p95_us", "p99_us",
    "client_send_us", "client_receive_us", "network_us", "queue_us", "compute_input_us",
    "compute_infer_us", "compute_output_us", "overhead_us",
)  # fmt: skip
LIMITS = ("max_p99_ms", "min_throughput", "max_memory_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A candidate under a load: the medians of its runs."""

    number: int
    variant: Variant
    load: Load
    measured: Measurement
    each: tuple[Measurement, ...]
    within: bool
    on_front: bool = False

    @property
    def runs(self) -> int:
        """How often it was measured."""
        return len(self.each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What journals of one model, configuration, machine and server hold together."""

    headers: tuple[Header, ...]
    sources: tuple[str, ...]
    goal: Goal
    results: tuple[Result, ...]
    failed: tuple[tuple[Variant, Point], ...]
    default: Variant
    """As served, or the first that was measured; side A of a comparison."""
    comparison: Comparison | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.headers[0].model

    @property
    def winner(self) -> Result | None:
        """The best result within the limits; None if there is none.

        Of a comparison, the side that its verdict calls the faster one. A tuning measures
        its finalists again, and only they can win: the best of many that were measured
        once flatters itself.
        """
        if self.comparison is not None:
            return self._faster(self.comparison)
        tuned = any(header.command == "tune" for header in self.headers)
        again = [one for one in self.results if one.runs > 1] if tuned else []
        return self.best(one for one in again or self.results if one.within)

    @property
    def baseline(self) -> Result | None:
        """What the default does: its best within the limits.

        Where it keeps none of them, its result under the load of the winner, or its best.
        """
        own = [one for one in self.results if one.variant == self.default]
        winner = self.winner if self.comparison is None else None
        same = [one for one in own if winner and one.load == winner.load]
        return self.best(one for one in own if one.within) or self.best(same) or self.best(own)

    @property
    def rival(self) -> Result | None:
        """What is shown beside the baseline: the winner, or side B of a comparison."""
        if self.comparison is None:
            return self.winner
        return self.best(one for one in self.results if one.variant != self.default)

    def _faster(self, comparison: Comparison) -> Result | None:
        outcome = comparison.outcome
        if outcome is outcome.NO_DIFFERENCE:
            return None
        return self.rival if outcome is outcome.FASTER else self.baseline

    def best(self, results: Iterable[Result]) -> Result | None:
        """Return the best of some results by the objective; None of none."""
        if self.goal.objective is Objective.LATENCY:
            return min(results, key=lambda one: (_p99(one), -_throughput(one)), default=None)
        return min(results, key=lambda one: (-_throughput(one), _p99(one)), default=None)

    @property
    def several_wires(self) -> bool:
        """Whether loads differ in their protocol or shared memory."""
        return len({(one.load.protocol, one.load.shared_memory) for one in self.results}) > 1


def group(paths: Sequence[Path]) -> tuple[Study, ...]:
    """Read journals, and put together what can be compared.

    That is what has the same model, configuration before the first change, input, machine,
    server and limits. Raises ``ConfigError`` for a file that is no journal, and when none holds a
    point.
    """
    together: list[tuple[list[Header], list[str], list[Point]]] = []
    for path in paths:
        header, points = read(path)
        for headers, sources, collected in together:
            if _comparable(headers[0], header):
                headers.append(header)
                sources.append(path.name)
                collected.extend(points)
                break
        else:
            together.append(([header], [path.name], list(points)))
    studies = tuple(_study(*each) for each in together if each[2])
    if not studies:
        raise ConfigError(
            f"nothing has been measured yet in {', '.join(map(str, paths))}",
            hint="begin or go on with toolkit perf sweep, tune, compare or run --output",
        )
    return studies


def goal_of(plan: Mapping[str, Any]) -> Goal:
    """Return the objective and the limits that a plan asks for; throughput if it has none."""
    record = plan["goal"] if isinstance(plan.get("goal"), Mapping) else plan
    limits = {name: record.get(name) for name in LIMITS}
    latency = record.get("objective") == Objective.LATENCY
    return Goal(
        objective=Objective.LATENCY if latency else Objective.THROUGHPUT,
        **{name: value for name, value in limits.items() if _number(value) is not None},
    )


def limited(goal: Goal) -> bool:
    """Say whether ``goal`` has a limit."""
    return any(getattr(goal, name) is not None for name in LIMITS)


def kept(goal: Goal, measured: Measurement) -> bool:
    """Say whether ``measured`` keeps the limits; what is not known keeps none."""
    if goal.max_p99_ms is not None and math.isnan(measured.p99_us):
        return False
    if goal.max_memory_bytes is not None and measured.memory_bytes is None:
        return False
    return goal.excess(measured) == 0


def _study(headers: list[Header], sources: list[str], points: list[Point]) -> Study:
    goal = goal_of(headers[0].plan)
    variants = variants_of(headers[0], points)
    runs: dict[tuple[Variant, Load], list[Measurement]] = {}
    for variant, point in zip(variants, points, strict=True):
        if point.measurement is not None:
            runs.setdefault((variant, point.load), []).append(point.measurement)
    results = []
    for number, ((variant, load), measurements) in enumerate(runs.items(), start=1):
        measured = middle(measurements)
        results.append(
            Result(
                number=number,
                variant=variant,
                load=load,
                measured=measured,
                each=tuple(measurements),
                within=kept(goal, measured),
            )
        )
    as_served = Variant(AS_SERVED)
    first = next(iter(runs), (variants[0], None))[0]
    sides = _sides(headers[0])
    if sides:
        first = next((one for one in variants if one.side == sides["A"]), first)
    return Study(
        headers=tuple(headers),
        sources=tuple(sources),
        goal=goal,
        results=_with_front(results),
        failed=tuple(
            (variant, point)
            for variant, point in zip(variants, points, strict=True)
            if point.measurement is None
        ),
        default=as_served if as_served in variants else first,
        comparison=comparison(headers[0], points) if sides else None,
    )


def variants_of(header: Header, points: Sequence[Point]) -> list[Variant]:
    """Return what each point is of; the points of a comparison are those of its sides."""
    config = header.configuration
    candidates = [settings.effective(config, point.candidate) for point in points]
    sides = _sides(header)
    names = [sides[letter] for letter in header.plan["order"]] if sides else []
    names += [""] * (len(points) - len(names))
    return [Variant(*each) for each in zip(candidates, names, strict=False)]


def _sides(header: Header) -> Mapping[str, str]:
    """Return the names of the two sides of a comparison by their letters; else nothing."""
    sides, order = header.plan.get("sides"), header.plan.get("order")
    if header.command not in COMMANDS or not isinstance(sides, Mapping):
        return {}
    if set(sides) != {"A", "B"} or not isinstance(order, str) or set(order) - set(sides):
        return {}
    return {letter: str(name) for letter, name in sides.items()}


def middle(runs: Sequence[Measurement]) -> Measurement:
    """Return the medians of repeated runs; counts are added, memory is the highest."""
    if len(runs) == 1:
        return runs[0]
    rows: Counter[int] = Counter()
    for run in runs:
        rows.update(run.batch_sizes)
    memory = [run.memory_bytes for run in runs if run.memory_bytes is not None]
    counts: dict[str, Any] = {
        name: sum(getattr(run, name) for run in runs)
        for name in ("requests", "failures", "executions", "cache_hits")
    }
    medians: dict[str, Any] = {name: _median(map(attrgetter(name), runs)) for name in _MEDIANS}
    return replace(
        runs[0],
        **counts,
        **medians,
        batch_sizes=dict(rows),
        memory_bytes=max(memory, default=None),
        stable=all(run.stable for run in runs),
    )


def _with_front(results: Sequence[Result]) -> tuple[Result, ...]:
    """Mark what no other result beats in throughput and in p99 at once."""
    front: set[int] = set()
    lowest = math.inf
    for one in sorted(results, key=lambda one: (-_throughput(one), _p99(one))):
        if _p99(one) < lowest:
            lowest = _p99(one)
            front.add(one.number)
    return tuple(replace(one, on_front=one.number in front) for one in results)


def _comparable(one: Header, other: Header) -> bool:
    if _sides(one) or _sides(other):
        return False
    same = ("model", "configuration", "machine", "server")
    # What was sent, and to which version, changes the figures as well.
    asked = ("model_version", "input_data", "rows")
    return (
        all(getattr(one, name) == getattr(other, name) for name in same)
        and all(one.plan.get(name) == other.plan.get(name) for name in asked)
        and goal_of(one.plan) == goal_of(other.plan)
    )


def _throughput(one: Result) -> float:
    return one.measured.inferences_per_second


def _p99(one: Result) -> float:
    value = one.measured.p99_us
    return math.inf if math.isnan(value) else value


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else math.nan


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
