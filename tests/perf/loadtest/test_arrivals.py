import itertools
import statistics

import pytest

from perf.loadtest.arrivals import Stage, arrival_times, parse_seconds, parse_stage, requests_by
from toolkit.errors import ConfigError


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_a_constant_rate_is_evenly_spaced() -> None:
    times = list(arrival_times([Stage(2.0, 100.0, 100.0)]))
    assert len(times) == 200
    assert times[0] == 0.0
    assert gaps(times) == pytest.approx([0.01] * 199)


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    times = list(arrival_times([Stage(200.0, 100.0, 100.0)], seed=1))
    spaces = gaps(times)
    assert len(times) == pytest.approx(20_000, rel=0.03)
    # An exponential distribution: its deviation is its mean, and 1 - 1/e lie below it.
    assert statistics.stdev(spaces) == pytest.approx(statistics.mean(spaces), rel=0.03)
    below = sum(space < 0.01 for space in spaces) / len(spaces)
    assert below == pytest.approx(0.632, abs=0.015)


def test_poisson_counts_of_a_second_have_the_variance_of_their_mean() -> None:
    times = arrival_times([Stage(2000.0, 20.0, 20.0)], seed=2)
    counts = [len(list(group)) for _, group in itertools.groupby(times, key=int)]
    assert statistics.variance(counts) == pytest.approx(statistics.mean(counts), rel=0.1)


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    stages = [Stage(1.0, 50.0, 50.0)]
    assert list(arrival_times(stages, seed=3)) == list(arrival_times(stages, seed=3))
    assert list(arrival_times(stages, seed=3)) != list(arrival_times(stages, seed=4))


@pytest.mark.parametrize(("first", "last"), [(0.0, 100.0), (100.0, 0.0), (20.0, 80.0)])
def test_a_ramp_sends_what_the_rate_adds_up_to_in_every_part_of_it(
    first: float, last: float
) -> None:
    times = list(arrival_times([Stage(10.0, first, last)]))
    assert len(times) == 500
    for second in range(1, 11):
        due = second * first + (last - first) * second**2 / 20
        assert sum(time < second for time in times) == pytest.approx(due, abs=1)


def test_how_many_are_due_by_a_time_is_what_was_sent_by_then() -> None:
    stages = [Stage(2.0, 0.0, 100.0), Stage(1.0, 50.0, 50.0), Stage(1.0, 80.0, 0.0)]
    times = list(arrival_times(stages))
    for tenth in range(-5, 50):
        sent = sum(time < tenth / 10 for time in times)
        assert requests_by(stages, tenth / 10) == pytest.approx(sent, abs=1)


def test_stages_follow_one_another_without_a_gap() -> None:
    times = list(arrival_times([Stage(1.0, 10.0, 10.0), Stage(1.0, 100.0, 100.0)]))
    assert len(times) == 110
    assert times == sorted(times)
    assert max(gaps(times)) == pytest.approx(0.1)
    assert [time for time in times if time < 1.0][-1] == pytest.approx(0.9)


def test_the_times_of_a_poisson_ramp_follow_its_rate() -> None:
    times = list(arrival_times([Stage(100.0, 0.0, 200.0)], seed=5))
    assert sum(time < 50 for time in times) / len(times) == pytest.approx(0.25, abs=0.02)


def test_a_long_schedule_is_not_made_in_advance() -> None:
    first = list(itertools.islice(arrival_times([Stage(1e9, 1e4, 1e4)], seed=1), 3))
    assert len(first) == 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5s", 1.5), ("250ms", 0.25), ("2m", 120.0), ("1h", 3600)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1d", "1e3", "1 s s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        parse_seconds(text)


def test_stages_are_read() -> None:
    assert parse_stage("500:30s") == Stage(30.0, 500.0, 500.0)
    assert parse_stage("0-500:2m") == Stage(120.0, 0.0, 500.0)


@pytest.mark.parametrize("text", ["500", "a:1s", "1.2.3:1s", "0:1s", "5:0s", "-5:1s", "5:1d"])
def test_what_is_no_stage_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_stage(text)
