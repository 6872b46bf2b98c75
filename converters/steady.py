"""Leave out the rows that the original itself answers another way in another batch.

Of neighbours equally far scikit-learn takes those that its search meets first, and a matrix
product is rounded another way in a batch of another size. Which answer is right for such a
row nobody can say: the Python road gives what the original gives for the batch at hand.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np

from converters import anatomy, parity, reference
from converters.rows import Array, Rows
from converters.table import Question

_NEIGHBOURS = ("KNeighbors", "NearestNeighbors", "LocalOutlierFactor", "KNNImputer")
_SIZES = (7, 2, 1)
_TOLERANCE = 1e-4
_SECONDS = 30.0


def steady(question: Question) -> Question:
    """Return the question without such rows, where a search for neighbours can have them.

    A model with a step that is not scikit-learn's own is left alone: that step may mix rows.
    """
    parts = list(anatomy.parts(question.source.model))
    searched = any(type(part).__name__.startswith(_NEIGHBOURS) for part in parts)
    own = any(type(part).__module__.partition(".")[0] != "sklearn" for part in parts)
    functions = any(type(part).__name__ == "FunctionTransformer" for part in parts)
    if not searched or own or functions or any(output.alone for output in question.answer):
        return question
    moved = np.zeros(question.rows.count, dtype=bool)
    until = time.monotonic() + _SECONDS
    for size in _SIZES:
        found = list(_answers(question, size, until))
        asked = sum(len(values[0]) for values in found)
        given = {
            output.name: np.concatenate([values[i] for values in found])
            for i, output in enumerate(question.answer)
        }
        answer = tuple(replace(out, values=out.values[:asked]) for out in question.answer)
        rows = _kept(question.rows, np.arange(asked))
        over = parity.compare(answer, given, rows, atol=_TOLERANCE, rtol=_TOLERANCE).over
        moved[list(over)] = True
    if not moved.any() or moved.all():
        return question
    kept = np.flatnonzero(~moved)
    answer = tuple(replace(out, values=out.values[kept]) for out in question.answer)
    return replace(question, rows=_kept(question.rows, kept), answer=answer)


def _answers(question: Question, size: int, until: float) -> Iterator[list[Array]]:
    """Ask in batches of ``size``, at least one, as long as there is time."""
    names = tuple(output.name for output in question.answer)
    for start in range(0, question.rows.count, size):
        chosen = np.arange(start, min(start + size, question.rows.count))
        said = reference.ask(question.source, question.rows.pick(chosen), names)
        yield [output.values for output in said]
        if time.monotonic() > until:
            return


def _kept(rows: Rows, chosen: Array) -> Rows:
    """Return the rows at these positions, each of the kind that it was."""
    kinds = groupby(rows.kind_of(int(row)) for row in chosen)
    return Rows(
        rows.form,
        rows.columns,
        {name: array[chosen] for name, array in rows.tensors.items()},
        int((chosen < rows.sample_rows).sum()),
        tuple((kind, len(list(each))) for kind, each in kinds),
    )
