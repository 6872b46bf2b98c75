"""Values in the model's data type, or the first that it cannot hold refused by its place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client.tensors import DTYPES
from toolkit.client.transport import TensorMetadata
from toolkit.errors import InvalidInputError

_LINE = 40


def convert(array: NDArray[Any], spec: TensorMetadata, where: str) -> NDArray[Any]:
    """Return the array in the model's data type, or refuse the first value it cannot hold.

    ``where`` names the input or the column. An array that already has the type is not
    copied. Raises ``InvalidInputError``.
    """
    target = DTYPES.get(spec.datatype)
    if target is None:
        raise InvalidInputError(f"{where}: numpy has no data type for {spec.datatype}")
    if target.kind == "O":
        return _texts(array, where)
    if array.dtype == target:
        return array
    if array.dtype == object:
        array = _numbers(array, spec, where)
    if array.dtype.kind not in "biuf":
        raise _no_numbers(array, spec, where)
    converted, lost = cast(array, target)
    if lost.any():
        place = np.unravel_index(int(np.argmax(lost)), lost.shape)
        value = array[place].item()
        raise InvalidInputError(
            f"{where}: {value!r} in {place_of(place)} cannot be {spec.datatype}",
            hint=f"{spec.datatype} has no missing value: fill it, or leave the row out"
            if array.dtype.kind == "f" and np.isnan(value)
            else None,
        )
    return converted


def cast(array: NDArray[Any], target: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return numbers in another data type, and where it changed a value beyond rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(target)
    return converted, _lost(array, converted)


def shown(value: object) -> str:
    """Return a value as a message shows it: in at most a line's worth."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _LINE else f"{text[:_LINE]}…"


def is_utf8(text: str) -> bool:
    """Say whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as a broken JSON escape leaves it
        return False
    return True


def place_of(place: Sequence[int | np.intp]) -> str:
    """Return an index as words: ``row 3, value 1``."""
    row, *rest = (int(index) for index in place) if len(place) else (0,)
    return f"row {row}" + (f", value {', '.join(map(str, rest))}" if rest else "")


def _no_numbers(array: NDArray[Any], spec: TensorMetadata, where: str) -> InvalidInputError:
    what = "text" if array.dtype.kind in "US" else str(array.dtype)
    dates = array.dtype.kind in "mM"
    return InvalidInputError(
        f"{where} takes {spec.datatype}, got {what} ({array.flat[0]!r})",
        hint="no model takes dates: give the numbers it was trained with" if dates else None,
    )


def _lost(array: NDArray[Any], converted: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the values that the conversion changed beyond rounding."""
    target = converted.dtype
    lost: NDArray[np.bool_]
    if array.dtype.kind == "b":
        lost = np.zeros(array.shape, dtype=bool)
    elif target.kind == "f":
        lost = np.isinf(converted) & np.isfinite(array)
    elif target.kind == "b":
        lost = (array != 0) & (array != 1)
    elif array.dtype.kind in "iu":
        bounds = np.iinfo(target)
        lost = (array < bounds.min) | (array > bounds.max)
    else:
        bounds = np.iinfo(target)
        doubles = array.astype(np.float64)
        # float(2**63 - 1) rounds up to 2**63, so the upper bound itself is already too large.
        fits = (doubles >= float(bounds.min)) & (doubles < float(int(bounds.max) + 1))
        lost = ~(fits & (doubles == np.trunc(doubles)))
    return lost


_NUMBERS = (bool, int, float, np.number, np.bool_)


def _numbers(array: NDArray[Any], spec: TensorMetadata, where: str) -> NDArray[Any]:
    """Return an array of objects as one of numbers, if that is what they all are."""
    values = array.ravel().tolist()
    if not all(issubclass(kind, _NUMBERS) for kind in set(map(type, values))):
        bad = next(i for i, value in enumerate(values) if not isinstance(value, _NUMBERS))
        place = place_of(np.unravel_index(bad, array.shape))
        raise InvalidInputError(
            f"{where} takes {spec.datatype}, got {shown(values[bad])} in {place}"
        )
    return np.array(array.tolist())


def _texts(array: NDArray[Any], where: str) -> NDArray[Any]:
    values = array.ravel().tolist()
    texts = np.empty(len(values), dtype=object)
    try:
        texts[:] = [value if isinstance(value, bytes) else str.encode(value) for value in values]
    except (TypeError, UnicodeEncodeError) as error:
        raise _no_text(array, values, where) from error
    return texts.reshape(array.shape)


def _no_text(array: NDArray[Any], values: Sequence[Any], where: str) -> InvalidInputError:
    for index, value in enumerate(values):
        place = place_of(np.unravel_index(index, array.shape))
        if not isinstance(value, (str, bytes)):
            return InvalidInputError(f"{where} takes text, got {shown(value)} in {place}")
        if isinstance(value, str) and not is_utf8(value):
            return InvalidInputError(f"{where}: the text in {place} cannot be written as UTF-8")
    raise AssertionError(where)
