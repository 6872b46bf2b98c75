"""Say which is faster for a whole batch, the original or what it was converted to."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from converters import offline, reference
from converters.options import ConversionOptions
from converters.rows import sent
from converters.table import Converted, Question

_REPEATS = 5
_WORTH_A_WORD = 1.3
_HOPELESS = 5.0


def advantage_of_original(
    question: Question, converted: Converted, options: ConversionOptions
) -> float:
    """Return how many times as fast the original answers ``options.batch_size`` rows.

    Both on one thread, as served; the best of some repeats, since other work only slows.
    """
    rows = question.rows.pick(np.arange(options.batch_size) % question.rows.count)
    outputs = tuple(output.name for output in question.answer)
    folder = next(iter(converted.files.values())).parent
    run = offline.open_runner(converted.spec, folder, 1)
    inputs = sent(rows, converted.spec.inputs)
    with _one_thread():
        ours = _best(lambda: run(inputs))
        original = _best(lambda: reference.ask(question.source, rows, outputs), enough=ours)
    return ours / original


def worth_a_word(advantage: float) -> bool:
    """Say whether the original is so much faster that its user ought to know."""
    return advantage >= _WORTH_A_WORD


def _best(run: Callable[[], object], enough: float = float("inf")) -> float:
    """Return the shortest time of some runs; of one, where that is far above ``enough``."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if times[-1] > _HOPELESS * enough:
            break
    return min(times)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # It comes with scikit-learn; without that, as it is.
        yield
        return
    with threadpool_limits(limits=1):
        yield
