"""Say where a difference between original and converted model comes from, if it can be found."""

from collections.abc import Mapping

import numpy as np

from converters import parity, reference
from converters.rows import Array, Rows
from converters.table import Question
from toolkit.errors import ToolkitError

_MOST_ROWS = 50
_UNEXPLAINED = 0.1
_BY_KIND = {
    "missing": "missing values take another way in it",
    "infinite": "infinity takes another way in it",
    "unseen": "texts or numbers never seen in training are encoded otherwise in it",
    "empty text": "the empty text is taken otherwise in it",
    "texts": "texts are cut into tokens otherwise in it",
    "scaled": "large numbers lose digits or overflow in it",
    "threshold": "numbers next to a split take another way in it",
    "jump": "numbers next to a split take another way in it",
}


def of(question: Question, found: parity.Comparison, given: Mapping[str, Array]) -> str | None:
    """Return the cause of the rows over the tolerance in a few words.

    A cause is only named when it was seen: the original, asked with the numbers rounded to
    float32, gives what the converted model gave; or the rows are all of one kind.
    """
    rows, wrong = question.rows, np.array(found.over[:_MOST_ROWS])
    try:
        if _rounding_explains(question, wrong, given):
            return "a split or a limit is crossed when the numbers are rounded to float32"
    except ToolkitError:
        pass  # The original refuses the rounded rows: that explains nothing.
    kinds = {rows.kind_of(row) for row in found.over}
    return _BY_KIND.get(kinds.pop()) if len(kinds) == 1 else None


def _rounding_explains(question: Question, wrong: Array, given: Mapping[str, Array]) -> bool:
    """Say whether the original answers nearly all rounded rows as the converted model did."""
    picked = question.rows.pick(wrong)
    with np.errstate(over="ignore"):
        rounded = {
            name: array.astype(np.float32).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in picked.tensors.items()
        }
    if all(
        np.array_equal(rounded[n], a, equal_nan=a.dtype.kind == "f")
        for n, a in picked.tensors.items()
    ):
        return False
    asked = Rows(picked.form, picked.columns, rounded, 0)
    names = tuple(output.name for output in question.answer)
    answer = reference.ask(question.source, asked, names)
    same = parity.compare(
        answer, {name: value[wrong] for name, value in given.items()}, asked, atol=1e-4, rtol=1e-4
    )
    return same.rows_over <= _UNEXPLAINED * len(wrong)
