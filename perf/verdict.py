"""Is one series of measurements faster than another? Statistics only, nothing is measured here.

Every interval here is made the same way: some values whose median is the estimate are put in
order, and as many are cut from both ends as a rank statistic allows whose distribution is
known exactly, whatever that of the measurements is. No normal distribution is assumed, and
one wild measurement moves nothing.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from statistics import median
from typing import Any

ERROR_RATE = 0.01
"""How often two equal sides may be told apart, over all looks at the figures."""

FEWEST_ROUNDS = 7
"""Six pairs all point one way by chance three times in a hundred, seven half as often."""

_MEDIAN_ERROR_RATE = 0.05


class Outcome(StrEnum):
    """What can be said of the second side, seen from the first."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value, and the interval that holds the true one in ``confidence`` of all cases."""

    value: float
    low: float
    high: float
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as JSON can hold it."""
        return asdict(self)

    @property
    def unseen_percent(self) -> float:
        """The largest difference, of ratios, that the interval does not rule out."""
        return 100 * max(abs(self.low - 1), abs(self.high - 1))


def paired(first: Sequence[float], second: Sequence[float], error: float = ERROR_RATE) -> Estimate:
    """Return the ratio of the second side to the first, measured in pairs.

    The Hodges-Lehmann estimate of the logarithms' differences, with the interval of the
    Wilcoxon signed-rank test (Hollander, Wolfe and Chicken, Nonparametric Statistical
    Methods, 3.2 and 3.3). Where a coin decided which side of a pair went first, two equal
    sides differ at most in ``error`` of all cases however the machine's speed wanders: the
    coins alone make each difference as likely to point up as down.
    """
    gaps = [_log(b) - _log(a) for a, b in zip(first, second, strict=True)]
    means = [(gap + other) / 2 for i, gap in enumerate(gaps) for other in gaps[i:]]
    return _as_ratio(_estimate(means, _signed_rank_ways(len(gaps)), error))


def unpaired(
    first: Sequence[float], second: Sequence[float], error: float = ERROR_RATE
) -> Estimate:
    """Return the ratio of the second side to the first, measured at different times.

    The Hodges-Lehmann estimate with the interval of the Mann-Whitney test (the same book,
    4.2 and 4.3). What else changed between the two times is part of the ratio.
    """
    gaps = [_log(b) - _log(a) for a in first for b in second]
    return _as_ratio(_estimate(gaps, _rank_sum_ways(len(first), len(second)), error))


def middle(samples: Sequence[float]) -> Estimate:
    """Return the median with its interval between two order statistics (95 %, or the most).

    Source: the same book, 3.6.
    """
    ways = [math.comb(len(samples), above) for above in range(len(samples) + 1)]
    return _estimate(samples, ways, _MEDIAN_ERROR_RATE)


def judge(ratio: Estimate, *, more_is_better: bool, allowed_percent: float = 0.0) -> Outcome:
    """Say whether the second side is faster or slower for certain.

    Slower by up to ``allowed_percent`` of the first side's figure is no difference.
    """
    allowed = allowed_percent / 100
    if more_is_better:
        faster, slower = ratio.low > 1, ratio.high < 1 - allowed
    else:
        faster, slower = ratio.high < 1, ratio.low > 1 + allowed
    if faster:
        return Outcome.FASTER
    return Outcome.SLOWER if slower else Outcome.NO_DIFFERENCE


def looks(rounds: int, most: int) -> tuple[int, ...]:
    """Return after how many rounds to look at the figures: twice as many each time.

    Each look may err in an equal part of the error rate, so that all together hold it
    (Bonferroni); figures looked at after every round would find a difference that is not
    there.
    """
    found = [rounds]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return tuple(found)


def order(rounds: int, seed: int) -> str:
    """Return who is measured when, a pair after the other: ``AB`` or ``BA`` by a coin."""
    coins = random.Random(seed)  # noqa: S311 - no secret
    return "".join(coins.choice(("AB", "BA")) for _ in range(rounds))


def _log(value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        msg = f"a measurement must be a number above 0, got {value}"
        raise ValueError(msg)
    return math.log(value)


def _as_ratio(logarithm: Estimate) -> Estimate:
    return Estimate(
        value=math.exp(logarithm.value),
        low=math.exp(logarithm.low),
        high=math.exp(logarithm.high),
        confidence=logarithm.confidence,
    )


def _estimate(values: Sequence[float], ways: Sequence[int], error: float) -> Estimate:
    """Cut as many values from both ends as ``error`` allows.

    ``ways`` counts the equally likely cases in which the rank statistic is 0, 1, ...,
    ``len(values)``.
    """
    total = sum(ways)
    tails = [2 * way / total for way in accumulate(ways)]
    cut = max(0, sum(tail <= error for tail in tails) - 1)
    ranked = sorted(values)
    return Estimate(
        value=median(ranked),
        low=ranked[cut],
        high=ranked[-1 - cut],
        confidence=1 - tails[cut],
    )


@lru_cache
def _signed_rank_ways(pairs: int) -> tuple[int, ...]:
    """Count the subsets of the ranks 1 to ``pairs`` by their sum."""
    ways = [1]
    for rank in range(1, pairs + 1):
        longer = ways + [0] * rank
        for total, way in enumerate(ways):
            longer[total + rank] += way
        ways = longer
    return tuple(ways)


@lru_cache
def _rank_sum_ways(first: int, second: int) -> tuple[int, ...]:
    """Count the orders of two samples by how many pairs stand the wrong way round.

    The Gaussian binomial coefficient: multiplied by 1 - q^(first + i), divided by 1 - q^i.
    """
    size = first * second + 1
    ways = [1] + [0] * (size - 1)
    for i in range(1, second + 1):
        for total in range(size - 1, first + i - 1, -1):
            ways[total] -= ways[total - first - i]
        for total in range(i, size):
            ways[total] += ways[total - i]
    return tuple(ways)
