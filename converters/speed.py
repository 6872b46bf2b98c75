"""Say which is fastest for a whole batch: the original, or what it was converted to."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from converters import offline, reference
from converters.options import ConversionOptions
from converters.proof import Proof
from converters.rows import sent
from converters.table import Converted, Question

_REPEATS = 5
_MOST_REPEATS = 100
_LONGEST_SECONDS = 1.0
_WORTH_A_WORD = 1.3
_CLEARLY_FASTER = 1.1
_HOPELESS = 5.0


def seconds(candidates: Sequence[Proof], rows: int) -> list[float]:
    """Return how long each takes for ``rows`` rows of those that it was proven on.

    All on one thread, in turns; the least of some repeats, since other work only slows.
    """
    runs = [_run(candidate.question, candidate.converted, rows) for candidate in candidates]
    least, spent = [float("inf")] * len(runs), [0.0] * len(runs)
    with _one_thread():
        for repeat in range(_MOST_REPEATS):
            for i, run in enumerate(runs):
                in_the_running = least[i] <= _HOPELESS * min(least)
                # The first runs of some, TorchScript's for one, are slow: they still optimize.
                if spent[i] < _LONGEST_SECONDS or (repeat < _REPEATS and in_the_running):
                    took = _timed(run)
                    least[i], spent[i] = min(least[i], took), spent[i] + took
    return least


def first_of_the_fastest(times: Sequence[float]) -> int:
    """Return the place of the first that no other is clearly faster than."""
    return next(i for i, took in enumerate(times) if took <= _CLEARLY_FASTER * min(times))


def comparison(factor: float, taken: str, rows: int) -> str:
    """Say that a proven form is left, which takes ``factor`` times as long as ``taken``."""
    batch = "1 row" if rows == 1 else f"{rows} rows"
    not_clearly = "not clearly faster: " if factor < 1 else ""
    told = f"{not_clearly}it takes {factor:.2f} times as long as {taken}, which was taken"
    return f"right, but for {batch} {told}"


def advantage_of_original(
    question: Question, converted: Converted, options: ConversionOptions
) -> float:
    """Return how many times as fast the original answers ``options.batch_size`` rows.

    Both on one thread, as served; the best of some repeats, since other work only slows.
    """
    rows = question.rows.pick(np.arange(options.batch_size) % question.rows.count)
    outputs = tuple(output.name for output in question.answer)
    run = _run(question, converted, options.batch_size)
    with _one_thread():
        ours = _best(run)
        original = _best(lambda: reference.ask(question.source, rows, outputs), enough=ours)
    return ours / original


def worth_a_word(advantage: float) -> bool:
    """Say whether the original is so much faster that its user ought to know."""
    return advantage >= _WORTH_A_WORD


def _run(question: Question, converted: Converted, count: int) -> Callable[[], object]:
    """Open the converted model; return how to ask it for ``count`` rows at once."""
    rows = question.rows.pick(np.arange(count) % question.rows.count)
    folder = next(iter(converted.files.values())).parent
    run = offline.open_runner(converted.spec, folder, 1)
    return functools.partial(run, sent(rows, converted.spec.inputs))


def _best(run: Callable[[], object], enough: float = float("inf")) -> float:
    """Return the shortest time of some runs; of one, where that is far above ``enough``."""
    times: list[float] = []
    while len(times) < _REPEATS:
        times.append(_timed(run))
        if times[-1] > _HOPELESS * enough:
            break
    return min(times)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # It comes with scikit-learn; without that, as it is.
        yield
        return
    with threadpool_limits(limits=1):
        yield
