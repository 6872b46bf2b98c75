"""Leave out the rows that the original itself answers another way in another batch.

Of neighbours equally far scikit-learn takes those that its search meets first, and a matrix
product is rounded another way in a batch of another size. Which answer is right for such a
row nobody can say: the Python road gives what the original gives for the batch at hand.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np

from converters import anatomy, parity, proof, reference
from converters.answers import Answer
from converters.rows import Array, Rows
from converters.table import Question

_NEIGHBOURS = ("KNeighbors", "NearestNeighbors", "LocalOutlierFactor", "KNNImputer")
_TOLERANCE = 1e-4
_MOST_ROUNDS = 12


def steady(question: Question) -> Question:
    """Return the question without such rows, where a search for neighbours can have them.

    The rows that the proof asks in batches of several sizes are asked so here first; those
    whose answer moves are left out, until none does. A model with a step that is not
    scikit-learn's own is left alone: that step may mix rows.
    """
    parts = list(anatomy.parts(question.source.model))
    searched = any(type(part).__name__.startswith(_NEIGHBOURS) for part in parts)
    own = any(type(part).__module__.partition(".")[0] != "sklearn" for part in parts)
    functions = any(type(part).__name__ == "FunctionTransformer" for part in parts)
    if not searched or own or functions or any(output.alone for output in question.answer):
        return question
    for _ in range(_MOST_ROUNDS):
        chosen = proof.rows_to_keep(question.rows)
        moved = chosen[_moved(question, chosen)]
        stay = np.setdiff1d(np.arange(question.rows.count), moved)
        if not moved.size or not stay.size:
            break
        rows = _kept(question.rows, stay)
        question = replace(question, rows=rows, answer=_asked(question, rows))
    return question


def _moved(question: Question, chosen: Array) -> Array:
    """Say which of the rows ``chosen`` the original answers otherwise in smaller batches."""
    rows = question.rows.pick(chosen)
    answer = tuple(replace(output, values=output.values[chosen]) for output in question.answer)
    moved = np.zeros(rows.count, dtype=bool)
    for size in (1, *proof.PART_SIZES):
        found = list(_in_batches(question, rows, size))
        given = {
            output.name: np.concatenate([each[i].values for each in found])
            for i, output in enumerate(answer)
        }
        over = parity.compare(answer, given, rows, atol=_TOLERANCE, rtol=_TOLERANCE).over
        moved[list(over)] = True
    return moved


def _in_batches(question: Question, rows: Rows, size: int) -> Iterator[Answer]:
    for start in range(0, rows.count, size):
        chosen = np.arange(start, min(start + size, rows.count))
        yield _asked(question, rows.pick(chosen))


def _asked(question: Question, rows: Rows) -> Answer:
    return reference.ask(question.source, rows, tuple(output.name for output in question.answer))


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
