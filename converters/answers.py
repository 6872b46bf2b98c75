"""What the original answers, in the shapes and types in which Triton will give it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from converters.rows import Array
from toolkit.errors import UnsupportedModelError

_EXACT_INTEGERS = 2**53


class Kind(StrEnum):
    """What an output means, which decides how differences are judged."""

    LABEL = "label"
    PROBABILITY = "probability"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the original: ``values`` with rows first.

    ``method`` is how the original was asked: the name of one of its methods, or for a
    bare LightGBM booster what is made of its ``predict``. ``part`` is the place in what
    the method gives, where that is several arrays. ``alone`` says that the original must
    be asked row by row, because its answer to a row depends on the rows beside it.
    """

    name: str
    kind: Kind
    values: Array
    method: str = ""
    part: int | None = None
    alone: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape of one row's answer."""
        return tuple(self.values.shape[1:])


Answer = tuple[Output, ...]


def _dense(given: Any) -> Array:
    """Return an array of what an estimator gives: an array, a sparse matrix, a data frame."""
    if hasattr(given, "toarray"):
        return np.asarray(given.toarray())
    return np.asarray(given)


def rows_first(what: str, given: Any, count: int) -> Array:
    """Return what ``what``, a class and its method, gives as an array with rows first.

    Raises:
        UnsupportedModelError: it is no array of numbers or texts, or has other rows.
    """
    array = _dense(given)
    if array.dtype.kind not in "biufUO" or not array.ndim:
        msg = f"{what} gives no array of numbers or texts"
        raise UnsupportedModelError(msg)
    if array.shape[0] == count:
        return array
    several, rest = divmod(array.shape[0], count)
    if what.endswith(".transform") and several and not rest:  # So many patches from each image.
        return array.reshape(count, several, *array.shape[1:])
    msg = f"{what} gives {array.shape[0]} entries for {count} rows, so no answer belongs to a row"
    raise UnsupportedModelError(msg)


def numbers(what: str, given: Any, count: int) -> Array:
    """Return numbers as float64, (rows, n) or of more axes.

    Raises:
        UnsupportedModelError: an integer that float64 does not hold, or no numbers.
    """
    array = rows_first(what, given, count)
    if array.dtype.kind in "iu" and array.size and np.abs(array).max() > _EXACT_INTEGERS:
        msg = f"{what} gives integers beyond 2**53, which FP64 does not hold"
        raise UnsupportedModelError(msg)
    values = array.astype(np.float64)
    return values.reshape(-1, 1) if values.ndim == 1 else values


def texts(what: str, given: Any, count: int) -> Array | None:
    """Return a transformer's texts, "" where one is missing; ``None`` for numbers."""
    array = rows_first(what, given, count)
    if array.dtype.kind not in "UO":
        return None
    cells = array.ravel().tolist()
    if not any(isinstance(cell, str) for cell in cells):
        return None
    missing = [cell is None or cell != cell for cell in cells]  # noqa: PLR0124 - NaN
    texts = ["" if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)]
    shape = array.shape if array.ndim > 1 else (-1, 1)
    return np.array(texts, dtype=object).reshape(shape)


def labels(predicted: Array, classes: Any) -> Array:
    """Return labels as int64, as texts, or as float64 where one is no whole number."""
    if predicted.dtype.kind in "UO":
        texts = [str(label) for label in predicted.ravel().tolist()]
        return np.array(texts, dtype=object).reshape(predicted.shape)
    if predicted.dtype.kind == "f":
        # All the classes count: these rows may have met only the whole ones.
        known = (
            [np.asarray(some).ravel() for some in classes]
            if isinstance(classes, list)
            else [np.asarray([] if classes is None else classes).ravel()]
        )
        for some in (predicted, *known):
            if some.dtype.kind == "f" and not np.array_equal(some, np.rint(some)):
                return predicted.astype(np.float64)
    return predicted.astype(np.int64)
