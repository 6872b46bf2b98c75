import random

from hdrh.histogram import HdrHistogram

from perf.loadtest.buckets import (
    Counts,
    count,
    histogram,
    lowest_microseconds,
    pack,
    percentile_microseconds,
    unpack,
)


def test_counted_times_are_the_histogram_that_hdrh_makes_of_them() -> None:
    numbers = random.Random(0)
    times = [int(numbers.lognormvariate(8, 3)) + 1 for _ in range(5000)]
    edges = [1, 2047, 2048, 2049, 4095, 4096, 599_999_999, 600_000_000]
    theirs = HdrHistogram(1, 600_000_000, 3)
    counts: Counts = {}
    for microseconds in [*times, *edges]:
        assert theirs.record_value(min(microseconds, 600_000_000))
        count(counts, (microseconds + 0.5) / 1e6)
    ours = histogram(counts)
    assert ours.get_total_count() == theirs.get_total_count()
    for percentile in (0, 1, 10, 50, 90, 99, 99.9, 99.99, 100):
        there = theirs.get_value_at_percentile(percentile)
        assert ours.get_value_at_percentile(percentile) == there
        assert percentile_microseconds(counts, percentile) == there


def test_packed_counts_come_back() -> None:
    counts = {1: 7, 21_000: 2**40}
    assert unpack(pack(counts)) == counts
    assert unpack(pack({})) == {}


def test_a_time_is_known_to_three_digits() -> None:
    for microseconds in (7, 999, 123_456, 98_765_432):
        counts: Counts = {}
        count(counts, (microseconds + 0.5) / 1e6)
        (bucket,) = counts
        assert 0 <= microseconds - lowest_microseconds(bucket) <= microseconds / 1000


def test_times_outside_the_range_count_at_its_ends() -> None:
    counts: Counts = {}
    for seconds in (-1e-6, 0.0, 7200.0):
        count(counts, seconds)
    assert counts[1] == 2
    assert histogram(counts).get_total_count() == 3
