"""Two sides measured in turns, and what can be said of the second."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import mean
from typing import Any

from perf import verdict
from perf.measurement import Measurement
from perf.verdict import Estimate, Outcome
from toolkit.errors import ConfigError, ToolkitError


class ComparisonError(ToolkitError):
    """A side could not be measured, so nothing can be said."""


class Metric(StrEnum):
    """What is compared."""

    THROUGHPUT = "throughput"
    MEAN = "mean"
    P50 = "p50"
    P99 = "p99"

    @property
    def more_is_better(self) -> bool:
        """Whether the higher figure is the faster one."""
        return self is Metric.THROUGHPUT

    @property
    def unit(self) -> str:
        """The unit of ``of``."""
        return "inferences/s" if self is Metric.THROUGHPUT else "µs"

    def of(self, measurement: Measurement) -> float:
        """Return the figure; raise ``ConfigError`` where there is none."""
        if self is Metric.THROUGHPUT:
            value = measurement.inferences_per_second
        else:
            value = float(getattr(measurement, f"{self.value}_us"))
        if not value > 0:  # NaN too.
            raise ConfigError(
                f"the measurement has no {self.value}: {measurement.requests:,} requests were made",
                hint="--measurement-interval with more milliseconds, or another --metric",
            )
        return value


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a name for people, and how to measure it once."""

    name: str
    measure: Callable[[], Measurement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a comparison is done.

    With ``most`` above ``rounds``, it goes on while no difference is seen, and the error
    rate is shared out over all looks at the figures. ``seed`` decides who goes first in each
    round; ``warm_up`` rounds before the first are measured and thrown away.
    """

    metric: Metric = Metric.THROUGHPUT
    rounds: int = 10
    most: int = 0
    warm_up: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < verdict.FEWEST_ROUNDS:
            raise ConfigError(
                f"{self.rounds} rounds cannot tell a difference from chance",
                hint=f"--rounds {verdict.FEWEST_ROUNDS} at least; 10 find differences of 5 %",
            )

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many rounds the figures are looked at."""
        return verdict.looks(self.rounds, self.most)

    @property
    def error(self) -> float:
        """How often one look may err."""
        return verdict.ERROR_RATE / len(self.looks)

    @property
    def order(self) -> str:
        """Whose turn it is, from the first measurement that counts: ``ABBAAB...``."""
        return verdict.order(self.looks[-1], self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One measurement of one side; ``round`` is 0 in the warm-up.

    ``seconds_left`` is until the next look at the figures.
    """

    side: str
    name: str
    round: int
    measurement: Measurement | None = None
    failure: str | None = None
    seconds_left: float = 0.0
    share_done: float = 0.0


Told = Callable[[Turn], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was measured of both sides, and what it comes to.

    ``ratio`` is the second side's figure as a multiple of the first's.
    """

    names: tuple[str, str]
    metric: Metric
    first: tuple[Measurement, ...]
    second: tuple[Measurement, ...]
    ratio: Estimate
    order: str = ""
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What can be said of the second side."""
        return verdict.judge(self.ratio, more_is_better=self.metric.more_is_better)

    @property
    def medians(self) -> tuple[Estimate, Estimate]:
        """The median of each side's figures."""
        first, second = (figures(self.metric, one) for one in (self.first, self.second))
        return verdict.middle(first), verdict.middle(second)

    @property
    def unstable(self) -> int:
        """How many measurements perf_analyzer itself called unstable."""
        return sum(not one.stable for one in (*self.first, *self.second))

    def slower_by_more_than(self, percent: float) -> bool:
        """Whether the second side is certainly slower by more than ``percent``."""
        better = self.metric.more_is_better
        outcome = verdict.judge(self.ratio, more_is_better=better, allowed_percent=percent)
        return outcome is Outcome.SLOWER

    @property
    def unseen_slowdown_percent(self) -> float:
        """By how much the second side may be slower at most; 0 if it is certainly not."""
        worst = 1 - self.ratio.low if self.metric.more_is_better else self.ratio.high - 1
        return 100 * max(worst, 0.0)

    @property
    def sentence(self) -> str:
        """The verdict in words, with its figures."""
        first, second = self.names
        ratio, sure = self.ratio, _percent_sure(self.ratio.confidence)
        interval = f"{sure} interval {_change(ratio.low)} to {_change(ratio.high)}"
        if self.outcome is not Outcome.NO_DIFFERENCE:
            return (
                f"{second} is {self.outcome.value} than {first}:"
                f" {self.metric.value} {_change(ratio.value)} ({interval})"
            )
        return (
            f"no difference seen between {first} and {second}: {self.metric.value}"
            f" {_change(ratio.value)} ({interval}); a difference of up to"
            f" {ratio.unseen_percent:.1f} % could have been missed"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            "verdict": self.outcome.value,
            "sentence": self.sentence,
            "metric": self.metric.value,
            "unit": self.metric.unit,
            "sides": [
                {
                    "name": name,
                    "median": median.to_json(),
                    "measurements": [one.to_json() for one in measured],
                }
                for name, median, measured in zip(
                    self.names, self.medians, (self.first, self.second), strict=True
                )
            ],
            "ratio": self.ratio.to_json(),
            "order": self.order,
            "unstable": self.unstable,
            "notes": list(self.notes),
        }


def compare(first: Side, second: Side, plan: Plan, told: Told) -> Comparison:
    """Measure both sides in turns, and say whether the second is faster.

    ``told`` is called after each measurement, the one that failed included. Raises
    ``ComparisonError`` at the first that fails, or that holds requests that failed.
    """
    turns = _Turns({"A": first, "B": second}, plan, told)
    for _ in range(plan.warm_up):
        turns.take("AB", 0)
    measured: dict[str, list[Measurement]] = {"A": [], "B": []}
    looks = iter(plan.looks)
    turns.until(look := next(looks))
    for number, pair in enumerate(_pairs(plan.order), start=1):
        for side, measurement in turns.take(pair, number).items():
            measured[side].append(measurement)
        if number < look:
            continue
        a, b = (figures(plan.metric, measured[side]) for side in "AB")
        found = Comparison(
            names=(first.name, second.name),
            metric=plan.metric,
            first=tuple(measured["A"]),
            second=tuple(measured["B"]),
            ratio=verdict.paired(a, b, plan.error),
            order=plan.order[: 2 * number],
        )
        following = next(looks, None)
        if found.outcome is not Outcome.NO_DIFFERENCE or following is None:
            break
        turns.until(look := following)
    return found


def against(
    recorded: Sequence[Measurement], second: Side, plan: Plan, told: Told, name: str = "then"
) -> Comparison:
    """Measure one side and compare it with what was ``recorded`` of another at another time."""
    turns = _Turns({"B": second}, plan, told)
    for _ in range(plan.warm_up):
        turns.take("B", 0)
    measured = [turns.take("B", number)["B"] for number in range(1, plan.rounds + 1)]
    a, b = (figures(plan.metric, samples) for samples in (recorded, measured))
    return Comparison(
        names=(name, second.name),
        metric=plan.metric,
        first=tuple(recorded),
        second=tuple(measured),
        ratio=verdict.unpaired(a, b),
    )


def sample(side: Side, plan: Plan, told: Told) -> tuple[Measurement, ...]:
    """Measure one side ``plan.rounds`` times."""
    turns = _Turns({"A": side}, plan, told)
    for _ in range(plan.warm_up):
        turns.take("A", 0)
    return tuple(turns.take("A", number)["A"] for number in range(1, plan.rounds + 1))


def figures(metric: Metric, measured: Sequence[Measurement]) -> list[float]:
    """Return what ``metric`` says of each measurement."""
    return [metric.of(one) for one in measured]


class _Turns:
    """Takes turns, tells of each, and knows how long the rest will take."""

    def __init__(self, sides: dict[str, Side], plan: Plan, told: Told) -> None:
        self._sides = sides
        self._plan = plan
        self._told = told
        self._seconds: list[float] = []
        self._turns = len(sides) * (plan.warm_up + plan.rounds)

    def until(self, rounds: int) -> None:
        """Say how many rounds there are until the figures are looked at."""
        self._turns = len(self._sides) * (self._plan.warm_up + rounds)

    def take(self, order: str, number: int) -> dict[str, Measurement]:
        """Measure the sides in ``order``, in round ``number``."""
        return {side: self._measure(side, number) for side in order}

    def _measure(self, letter: str, number: int) -> Measurement:
        side = self._sides[letter]
        began = time.monotonic()
        try:
            measurement = side.measure()
            self._check(measurement)
        except ToolkitError as error:
            at = f"in round {number}" if number else "in the warm-up"
            self._told(Turn(side=letter, name=side.name, round=number, failure=error.message))
            raise ComparisonError(f"{side.name}, {at}: {error.message}", hint=error.hint) from error
        self._seconds.append(time.monotonic() - began)
        left = self._turns - len(self._seconds)
        self._told(
            Turn(
                side=letter,
                name=side.name,
                round=number,
                measurement=measurement,
                seconds_left=left * mean(self._seconds),
                share_done=len(self._seconds) / self._turns,
            )
        )
        return measurement

    def _check(self, measurement: Measurement) -> None:
        self._plan.metric.of(measurement)
        if measurement.failures:
            raise ConfigError(
                f"{measurement.failures:,} of {measurement.requests + measurement.failures:,}"
                " requests failed, and a failure is no fast answer",
                hint="toolkit logs; or ask for less: --concurrency",
            )


def _pairs(order: str) -> Iterator[str]:
    return (order[i : i + 2] for i in range(0, len(order), 2))


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _percent_sure(confidence: float) -> str:
    # Cut, not rounded: 99.96 % must not read as certainty.
    return f"{int(confidence * 1000) / 10:g} %"
