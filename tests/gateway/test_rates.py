"""How often a caller may ask: exactly so often in any period, each name on its own."""

import math
import random
from collections import defaultdict

import pytest

from toolkit.errors import ConfigError
from toolkit.gateway import rates
from toolkit.gateway.exchange import Refused
from toolkit.gateway.rates import Rate, Rates, Window


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_so_many_are_allowed_and_the_next_is_told_how_long_to_wait(clock: Clock) -> None:
    window = Window(Rate(2, 10.0), clock)
    assert window.wait_seconds("a") == 0
    clock.now += 4
    assert window.wait_seconds("a") == 0
    clock.now += 1
    assert window.wait_seconds("a") == 5.0
    clock.now += 5
    assert window.wait_seconds("a") == 0, "the first is now a whole period ago"
    assert window.wait_seconds("a") == 4.0, "and the second is the oldest"


def test_names_do_not_touch_each_other(clock: Clock) -> None:
    window = Window(Rate(1, 10.0), clock)
    assert window.wait_seconds("a") == 0
    assert window.wait_seconds("b") == 0
    assert window.wait_seconds("a") > 0


def test_a_limit_of_nothing_never_allows_and_gives_no_time(clock: Clock) -> None:
    window = Window(Rate(0, 10.0), clock)
    assert window.wait_seconds("a") == math.inf
    clock.now += 1000
    with pytest.raises(Refused) as refused:
        Rates(clock).check("a", Rate(0, 10.0))
    assert (refused.value.status, refused.value.headers) == (429, ())
    assert not len(window), "names that may never ask are not remembered"


def test_refusals_do_not_count_so_waiting_helps_who_kept_asking(clock: Clock) -> None:
    window = Window(Rate(1, 10.0), clock)
    assert window.wait_seconds("a") == 0
    for _ in range(9):
        clock.now += 1
        assert window.wait_seconds("a") > 0
    clock.now += 1
    assert window.wait_seconds("a") == 0


@pytest.mark.parametrize("seed", range(8))
def test_any_sequence_is_judged_as_the_rule_says(clock: Clock, seed: int) -> None:
    chance = random.Random(seed)
    rate = Rate(chance.randint(1, 6), 8.0)
    window = Window(rate, clock)
    allowed: dict[str, list[float]] = defaultdict(list)
    refusals = 0
    for _ in range(4000):
        clock.now += chance.choice([0, 0.25, 0.5, 1, 4, 9, 17]) * chance.random() / 2
        name = chance.choice("abcd")
        last = [time for time in allowed[name] if clock.now - time < rate.period_seconds]
        wait = window.wait_seconds(name)
        if len(last) < rate.most:
            assert wait == 0
            allowed[name].append(clock.now)
        else:
            refusals += 1
            assert wait == pytest.approx(last[-rate.most] + rate.period_seconds - clock.now)
    assert refusals > 100


def test_idle_names_are_forgotten_and_busy_ones_are_not(clock: Clock) -> None:
    window = Window(Rate(3, 10.0), clock)
    for number in range(500):
        window.wait_seconds(f"once-{number}")
    for _ in range(6):
        clock.now += 5
        window.wait_seconds("busy")
    assert len(window) == 1
    clock.now += 1000
    assert window.wait_seconds("busy") == 0


def test_names_that_a_caller_makes_up_do_not_fill_the_memory(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "MOST_NAMES", 1000)
    window = Window(Rate(3, 10.0), clock)
    for number in range(10_000):
        window.wait_seconds(str(number))
    assert len(window) <= 2000


def test_a_refusal_is_429_with_whole_seconds_to_wait(clock: Clock) -> None:
    limits = Rates(clock)
    limits.check("key", Rate(1, 2.5))
    with pytest.raises(Refused, match="Too Many Requests - Rate limit exceeded") as refused:
        limits.check("key", Rate(1, 2.5))
    assert refused.value.status == 429
    assert refused.value.headers == ((b"retry-after", b"3"),)
    clock.now += 3
    limits.check("key", Rate(1, 2.5))


def test_each_rate_has_its_own_window(clock: Clock) -> None:
    limits = Rates(clock)
    limits.check("a", Rate(1, 10.0))
    limits.check("a", Rate(1, 20.0))
    assert limits.wait_seconds("a", Rate(1, 10.0)) == 10.0


def test_a_rate_is_written_as_requests_and_seconds() -> None:
    assert Rate.parse("100/60") == Rate(100, 60.0)
    assert Rate.parse("0/0.5") == Rate(0, 0.5)


@pytest.mark.parametrize(
    "text", ["", "100", "100/", "/60", "-1/60", "5/0", "5/inf", "5/nan", "a/b"]
)
def test_anything_else_is_no_rate(text: str) -> None:
    with pytest.raises(ConfigError, match="a rate is"):
        Rate.parse(text)
