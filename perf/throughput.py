"""How many calls a second something answers."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def calls_per_second(
    call: Callable[[int], object], *, callers: int = 1, seconds: float = 1.0
) -> float:
    """Return how many times a second ``call`` returns, asked by ``callers`` threads.

    ``call`` gets a running number. Each caller asks again as soon as it has an answer (a
    closed loop) for ``seconds`` seconds, after one call each that is not counted. What
    ``call`` raises is raised.
    """
    numbers = itertools.count()

    def ask() -> tuple[int, float]:
        call(next(numbers))
        count = 0
        start = now = time.perf_counter()
        while now - start < seconds:
            call(next(numbers))
            count += 1
            now = time.perf_counter()
        return count, now - start

    with ThreadPoolExecutor(callers) as pool:
        results = [future.result() for future in [pool.submit(ask) for _ in range(callers)]]
    return sum(count / elapsed for count, elapsed in results)
