"""What is made of counts, without any server."""

import pytest

from perf.loadtest.buckets import count
from perf.loadtest.recorder import Second, together
from perf.loadtest.results import Collector, Result, behind, broken_limits


def second(index: int, milliseconds: float = 1.0, *, due: int = 2, cpu: float = 0.1) -> Second:
    """Make a second of which every request was answered after the same time."""
    made = Second(index, due=due, succeeded=due, answered_in_time=due, cpu_seconds=cpu)
    made.statuses[200] = due
    for _ in range(due):
        count(made.from_due, milliseconds / 1e3)
        count(made.from_send, milliseconds / 1e3)
        count(made.late, 1e-5)
    made.sum_from_due_seconds = made.sum_from_send_seconds = due * milliseconds / 1e3
    made.max_from_due_seconds = made.max_from_send_seconds = milliseconds / 1e3
    return made


def collected(*seconds: Second, workers: int = 1) -> Result:
    collector = Collector(workers)
    for one in seconds:
        collector.take(one)
    return collector.result(float(len(seconds)), interrupted=False, closed=False)


def test_seconds_of_workers_are_put_together_once_all_have_come() -> None:
    watched: list[Second] = []
    collector = Collector(2, watched.append)
    collector.take(second(0, 1.0))
    assert watched == []
    collector.take(second(0, 9.0))
    assert [(one.index, one.due) for one in watched] == [(0, 4)]
    collector.take(second(1))  # The other worker never gets there.
    result = collector.result(2.0, interrupted=True, closed=False)
    assert [row.due for row in result.series] == [4, 2]
    assert result.total.due == 6
    assert result.from_schedule is not None
    assert result.from_schedule.max_ms == pytest.approx(9.0)
    assert result.from_schedule.mean_ms == pytest.approx(4 * 1 / 6 + 2 * 9 / 6)


def test_percentiles_of_all_are_those_of_the_values_and_not_means_of_percentiles() -> None:
    result = collected(*(second(i, 1.0) for i in range(99)), second(99, 1000.0))
    assert result.from_schedule is not None
    percentiles = result.from_schedule.percentiles_ms
    assert percentiles["p95"] == pytest.approx(1.0, rel=0.002)
    assert percentiles["p99"] == pytest.approx(1.0, rel=0.002)
    assert percentiles["p99.9"] == pytest.approx(1000.0, rel=0.002)


def test_a_soak_of_hours_keeps_a_bounded_series_that_loses_nothing() -> None:
    hours = 5000
    result = collected(*(second(i, 1.0 if i < hours // 2 else 50.0, due=1) for i in range(hours)))
    assert 600 <= len(result.series) <= 1200
    assert sum(row.due for row in result.series) == sum(row.seconds for row in result.series)
    assert sum(row.due for row in result.series) == hours
    begins = [row.begin_seconds for row in result.series]
    lengths = [row.seconds for row in result.series]
    assert all(a + n == b for a, n, b in zip(begins, lengths, begins[1:], strict=False))
    assert result.series[0].p99_ms == pytest.approx(1.0, rel=0.002)
    assert result.series[-1].p50_ms == pytest.approx(50.0, rel=0.002)


def test_the_first_example_of_a_failure_is_kept() -> None:
    first = Second(0, failures={"reset": 1}, examples={"reset": "first"})
    later = Second(0, failures={"reset": 2, "tls": 1}, examples={"reset": "later", "tls": "t"})
    total = together([first, later], 0)
    assert total.failures == {"reset": 3, "tls": 1}
    assert total.examples == {"reset": "first", "tls": "t"}


def test_what_an_interruption_cut_off_is_no_failure() -> None:
    cut = second(0, due=4)
    cut.due, cut.unfinished = 10, 6
    assert collected(cut).success_percent == 100.0
    lost = second(0, due=4)
    lost.due, lost.not_sent = 10, 6
    assert collected(lost).success_percent == 40.0


def test_limits_say_what_is_broken() -> None:
    result = collected(second(0, 20.0))
    assert broken_limits(result, max_p99_ms=25, min_success_percent=100) == []
    (line,) = broken_limits(result, max_p99_ms=10, min_success_percent=None)
    assert line == "the p99 is 20 ms, and may be 10 ms at most"
    nothing = collected(Second(0, due=5, failures={"connect": 5}))
    assert len(broken_limits(nothing, max_p99_ms=10, min_success_percent=1)) == 2


def test_lateness_matters_where_it_is_a_part_of_the_latency() -> None:
    late, slow = second(0, 4.0), second(0, 500.0)
    for one in (late, slow):
        one.late.clear()
        count(one.late, 0.003)
        one.max_late_seconds = 0.003
    assert "3.0 ms after they were due" in (behind(collected(late)) or "")
    assert behind(collected(slow)) is None
    assert "100 % of a core" in (behind(collected(second(0, cpu=1.0))) or "")
