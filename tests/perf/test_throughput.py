import threading

import pytest

from perf.throughput import calls_per_second


def test_every_caller_asks_until_the_time_is_over_and_numbers_never_repeat() -> None:
    numbers: list[int] = []
    threads: set[int] = set()

    everybody = threading.Barrier(4)

    def call(number: int) -> None:
        if number < everybody.parties:
            everybody.wait(timeout=30)
        numbers.append(number)
        threads.add(threading.get_ident())

    rate = calls_per_second(call, callers=4, seconds=0.05)
    assert rate > 0
    assert len(threads) == 4
    assert len(set(numbers)) == len(numbers)


def test_what_a_call_raises_is_raised() -> None:
    def call(_: int) -> None:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        calls_per_second(call, callers=2, seconds=0.05)
