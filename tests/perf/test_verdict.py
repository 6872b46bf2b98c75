"""The statistics hold what they promise, against SciPy and on thousands of made-up comparisons."""

import math
import random
from collections.abc import Callable, Iterator

import pytest
from scipy import stats

from perf import verdict
from perf.verdict import Outcome

COMPARISONS = 2000
NOISE = 0.02

Noise = Callable[[random.Random, int], list[float]]


def normal(dice: random.Random, count: int) -> list[float]:
    return [dice.gauss(0, NOISE) for _ in range(count)]


def heavy_tailed(dice: random.Random, count: int) -> list[float]:
    """Student's t with two degrees of freedom: no variance."""
    return [dice.gauss(0, NOISE) / math.sqrt(dice.expovariate(1)) for _ in range(count)]


def drifting(dice: random.Random, count: int) -> list[float]:
    """A machine that becomes 20 % faster while it is measured."""
    return [dice.gauss(0, NOISE) + 0.2 * i / count for i in range(count)]


def autocorrelated(dice: random.Random, count: int) -> list[float]:
    values, value = [], dice.gauss(0, 1)
    for _ in range(count):
        value = 0.5 * value + math.sqrt(0.75) * dice.gauss(0, 1)
        values.append(NOISE * value)
    return values


def periodic(dice: random.Random, count: int) -> list[float]:
    """Another job of the machine that returns every fourth measurement, for two of them."""
    phase = dice.randrange(4)
    return [dice.gauss(0, 0.005) + 0.05 * ((i + phase) % 4 < 2) for i in range(count)]


def with_outages(dice: random.Random, count: int) -> list[float]:
    return [dice.gauss(0, NOISE) - 0.5 * (dice.random() < 0.1) for _ in range(count)]


def comparisons(
    noise: Noise, effect: float, *, rounds: int = 10, order: str | None = None
) -> Iterator[verdict.Estimate]:
    """Compare two sides whose speeds differ by the factor ``1 + effect``, again and again."""
    dice = random.Random(20)
    for seed in range(COMPARISONS):
        speeds: dict[str, list[float]] = {"A": [], "B": []}
        turns = order or verdict.order(rounds, seed)
        for side, wobble in zip(turns, noise(dice, 2 * rounds), strict=True):
            speeds[side].append(1000 * math.exp(wobble) * (1 + effect * (side == "B")))
        yield verdict.paired(speeds["A"], speeds["B"])


def share(outcome: Outcome, ratios: Iterator[verdict.Estimate]) -> float:
    return sum(verdict.judge(one, more_is_better=True) is outcome for one in ratios) / COMPARISONS


@pytest.mark.parametrize(
    "noise", [normal, heavy_tailed, drifting, autocorrelated, periodic, with_outages]
)
def test_two_equal_sides_are_told_apart_at_most_once_in_a_hundred(noise: Noise) -> None:
    apart = 1 - share(Outcome.NO_DIFFERENCE, comparisons(noise, 0.0))
    # What is promised, and three standard deviations of the count.
    assert apart < verdict.ERROR_RATE + 3 * math.sqrt(verdict.ERROR_RATE / COMPARISONS)


def test_a_coin_says_who_goes_first_because_taking_turns_strictly_can_fall_in_step() -> None:
    strictly = share(Outcome.NO_DIFFERENCE, comparisons(periodic, 0.0, order="ABBA" * 5))
    assert strictly < 0.8


def test_a_model_that_is_slow_after_loading_is_no_difference_though_not_every_turn_loads() -> None:
    dice, apart = random.Random(8), 0
    for seed in range(COMPARISONS):
        order = verdict.order(10, seed)
        speeds: dict[str, list[float]] = {"A": [], "B": []}
        for before, side in zip("A" + order, order, strict=False):
            slow = 0.9 if side != before else 1.0
            speeds[side].append(slow * math.exp(dice.gauss(0, 0.005)))
        ratio = verdict.paired(speeds["A"], speeds["B"])
        apart += verdict.judge(ratio, more_is_better=True) is not Outcome.NO_DIFFERENCE
    assert apart / COMPARISONS < verdict.ERROR_RATE


@pytest.mark.parametrize(("percent", "found"), [(5, 0.92), (10, 0.999)])
def test_a_real_difference_is_found_in_ten_rounds(percent: int, found: float) -> None:
    """At 2 % noise a measurement; 3 % would be found in half of all cases."""
    assert share(Outcome.FASTER, comparisons(normal, percent / 100)) >= found
    assert share(Outcome.SLOWER, comparisons(normal, -percent / 100)) >= found


def test_the_interval_holds_the_true_difference() -> None:
    held = sum(one.low <= 1.03 <= one.high for one in comparisons(normal, 0.03)) / COMPARISONS
    assert held > 0.983


def test_going_on_while_undecided_does_not_raise_the_error_rate() -> None:
    looks = verdict.looks(10, 40)
    dice, apart = random.Random(5), 0
    for _ in range(COMPARISONS):
        a, b = ([math.exp(one) for one in normal(dice, 40)] for _ in "AB")
        apart += any(
            verdict.judge(
                verdict.paired(a[:look], b[:look], verdict.ERROR_RATE / len(looks)),
                more_is_better=True,
            )
            is not Outcome.NO_DIFFERENCE
            for look in looks
        )
    assert apart / COMPARISONS < verdict.ERROR_RATE + 3 * math.sqrt(
        verdict.ERROR_RATE / COMPARISONS
    )


@pytest.mark.parametrize("rounds", [6, 7, 10, 25])
def test_the_interval_is_that_of_the_exact_signed_rank_test(rounds: int) -> None:
    """It leaves out 1 where, and only where, SciPy's exact test rejects at the same level."""
    dice = random.Random(rounds)
    for _ in range(100):
        a, b = ([math.exp(dice.gauss(0, 1)) for _ in range(rounds)] for _ in "AB")
        b = [one * 3 for one in b]
        ratio = verdict.paired(a, b)
        gaps = [math.log(y / x) for x, y in zip(a, b, strict=True)]
        p = float(stats.wilcoxon(gaps, method="exact").pvalue)
        assert (p <= 1 - ratio.confidence + 1e-12) == (not ratio.low <= 1 <= ratio.high)


@pytest.mark.parametrize("counts", [(6, 6), (10, 10), (7, 12)])
def test_the_unpaired_interval_is_that_of_the_exact_mann_whitney_test(
    counts: tuple[int, int],
) -> None:
    dice = random.Random(sum(counts))
    for _ in range(100):
        a, b = ([math.exp(dice.gauss(0, 1)) for _ in range(count)] for count in counts)
        b = [one * 4 for one in b]
        ratio = verdict.unpaired(a, b)
        p = float(stats.mannwhitneyu(a, b, method="exact").pvalue)
        assert (p <= 1 - ratio.confidence + 1e-12) == (not ratio.low <= 1 <= ratio.high)


@pytest.mark.parametrize("count", [6, 10, 11, 30])
def test_the_interval_of_a_median_is_between_the_order_statistics_of_the_sign_test(
    count: int,
) -> None:
    found = verdict.middle([float(i) for i in range(count)])
    below = int(found.low)
    assert found.high == count - 1 - below
    assert found.confidence == pytest.approx(1 - 2 * stats.binom.cdf(below, count, 0.5))
    assert found.confidence >= 0.95
    assert 1 - 2 * stats.binom.cdf(below + 1, count, 0.5) < 0.95


def test_fewer_than_seven_rounds_cannot_promise_ninety_eight_of_a_hundred() -> None:
    enough = verdict.paired([1.0] * verdict.FEWEST_ROUNDS, [2.0] * verdict.FEWEST_ROUNDS)
    few = verdict.paired([1.0] * 6, [2.0] * 6)
    assert enough.confidence > 0.98 > few.confidence


def test_equal_figures_are_no_difference() -> None:
    ratio = verdict.paired([812.0] * 10, [812.0] * 10)
    assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)
    assert verdict.judge(ratio, more_is_better=True) is Outcome.NO_DIFFERENCE


def test_more_is_better_or_worse_and_a_slowdown_may_be_allowed() -> None:
    ratio = verdict.Estimate(value=1.04, low=1.03, high=1.05, confidence=0.99)
    assert verdict.judge(ratio, more_is_better=True) is Outcome.FASTER
    assert verdict.judge(ratio, more_is_better=False) is Outcome.SLOWER
    allowed = verdict.judge(ratio, more_is_better=False, allowed_percent=3)
    assert allowed is Outcome.NO_DIFFERENCE
    allowed = verdict.judge(ratio, more_is_better=False, allowed_percent=2.9)
    assert allowed is Outcome.SLOWER
    slower = verdict.Estimate(value=0.9, low=0.88, high=0.92, confidence=0.99)
    assert verdict.judge(slower, more_is_better=True, allowed_percent=7) is Outcome.SLOWER
    allowed = verdict.judge(slower, more_is_better=True, allowed_percent=9)
    assert allowed is Outcome.NO_DIFFERENCE


def test_what_could_have_been_missed_is_the_far_end_of_the_interval() -> None:
    ratio = verdict.Estimate(value=1.0, low=0.96, high=1.03, confidence=0.99)
    assert ratio.unseen_percent == pytest.approx(4)


def test_looks_double_up_to_the_most() -> None:
    assert verdict.looks(10, 0) == (10,)
    assert verdict.looks(10, 10) == (10,)
    assert verdict.looks(10, 35) == (10, 20, 35)


def test_each_pair_is_one_of_each_side_and_either_goes_first() -> None:
    order = verdict.order(100, seed=3)
    pairs = [order[i : i + 2] for i in range(0, 200, 2)]
    assert set(pairs) == {"AB", "BA"}
    assert order == verdict.order(100, seed=3) != verdict.order(100, seed=4)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_figure_that_has_no_logarithm_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        verdict.paired([1.0] * 6, [value] * 6)
