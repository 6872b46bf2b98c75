"""Values of one column in the data type of the model, and why the others cannot be.

Nothing is bent to fit: a text is no number in JSON and Parquet, and a number that the data
type cannot hold is refused. In CSV all cells are texts, so there the model's data type
decides: ``0123`` stays a text where the model takes text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client.tensors import DTYPES
from toolkit.client.values import cast, is_utf8, shown

Column = tuple[NDArray[Any], dict[int, str]]
"""One value (or tensor) a row, and for each row without one the reason."""

# What spreadsheets, R and pandas write where a number is missing.
_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"})
_BOOLS: Mapping[str, bool] = {"true": True, "false": False}
_EXACT = 2**53  # From here on a double does not hold every whole number.


class _BadValueError(Exception):
    pass


def from_cells(cells: Sequence[str], datatype: str) -> Column:
    """Return cells of a CSV file as values; an empty cell is NaN, or the empty text."""
    target = DTYPES[datatype]
    if target.kind == "O":
        return _objects(cells), {}
    try:
        if target.kind == "b" or "_" in "".join(cells):
            raise ValueError  # noqa: TRY301  Python reads 1_000 as a number, files do not
        wide = np.float64 if target.kind == "f" else np.uint64 if target.kind == "u" else np.int64
        array = np.array([cell or "nan" for cell in cells] if wide is np.float64 else cells, wide)
    except (ValueError, OverflowError):
        array, bad = _one_by_one(cells, datatype)
        fitted, lost = _fitted(array, datatype)
        return fitted, lost | bad
    return _fitted(array, datatype)


def from_values(values: Sequence[Any], datatype: str, dims: Sequence[int]) -> Column:
    """Return values of JSON, each of shape ``dims`` (-1 is any), None is missing."""
    target = DTYPES[datatype]
    alone = len(dims) == 0 or list(dims) == [1]
    if target.kind == "O":
        if alone and all(type(value) is str for value in values) and is_utf8("".join(values)):
            return _objects(values), {}
    else:
        if alone and target.kind == "f":
            values = [np.nan if value is None else value for value in values]
        try:
            array = np.array(values)
        except (ValueError, OverflowError):
            array = np.empty(0, dtype=object)
        exact = array.dtype.kind in ("biuf" if target.kind == "f" else "biu")
        if exact and len(array) == len(values) and _matches(array.shape[1:], dims):
            return _fitted(array, datatype)
    return _row_by_row(values, datatype, dims)


def from_array(array: NDArray[Any], datatype: str) -> Column:
    """Return numbers, or texts, in the model's data type.

    Raises ``ValueError`` where numbers stand for texts or texts for numbers.
    """
    target = DTYPES[datatype]
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype.kind not in "biufO":
        raise ValueError(f"holds {array.dtype}, the model takes {datatype}")
    if (target.kind == "O") != (array.dtype.kind == "O"):
        held = "text" if array.dtype.kind == "O" else str(array.dtype)
        wanted = "text" if target.kind == "O" else datatype
        raise ValueError(f"holds {held}, the model takes {wanted}")
    return (array, {}) if target.kind == "O" else _fitted(array, datatype)


def without(column: Column, missing: NDArray[np.bool_], datatype: str) -> Column:
    """Return the column with the marked rows missing: NaN, or a reason where there is none."""
    array, bad = column
    if not missing.any():
        return column
    if array.dtype.kind == "f":
        array = array.copy()
        array[missing] = np.nan
        return array, {row: reason for row, reason in bad.items() if not missing[row]}
    reason = _no_missing(datatype)
    return array, bad | dict.fromkeys(np.flatnonzero(missing).tolist(), reason)


def _no_missing(datatype: str) -> str:
    return f"a value is missing, and {datatype} has no word for that"


def _objects(items: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _one_by_one(cells: Sequence[str], datatype: str) -> Column:
    target, bad, numbers = DTYPES[datatype], {}, []
    for row, cell in enumerate(cells):
        try:
            numbers.append(_number(cell.strip(), target))
        except _BadValueError:
            missing = cell.strip() in _MISSING
            bad[row] = _no_missing(datatype) if missing else _not_a(cell, datatype)
            numbers.append(0)
    return np.array(numbers, np.float64 if target.kind == "f" else None), bad


def _number(cell: str, target: np.dtype[Any]) -> float | int:
    truth = _BOOLS.get(cell.lower())
    if truth is not None:
        return int(truth)
    if cell in _MISSING and target.kind == "f":
        return float("nan")
    if cell in _MISSING or "_" in cell:
        raise _BadValueError
    try:
        return float(cell) if target.kind == "f" else _whole(cell)
    except (ValueError, OverflowError) as error:
        raise _BadValueError from error


def _whole(cell: str) -> int:
    """Return ``12`` and ``12.0`` as whole numbers; ``ValueError`` for all else."""
    try:
        number = int(cell)
    except ValueError:
        value = float(cell)
        number = int(value)
        if number != value or abs(number) >= _EXACT:
            raise
    if not -(2**63) <= number < 2**64:
        raise ValueError(cell)
    return number


def _not_a(value: object, datatype: str) -> str:
    comma = isinstance(value, str) and value.replace(",", "", 1).strip("-").isdigit()
    hint = " (decimals are written with a point)" if comma and "," in str(value) else ""
    return f"{shown(value)} is no {datatype}{hint}"


def _row_by_row(values: Sequence[Any], datatype: str, dims: Sequence[int]) -> Column:
    rows: list[NDArray[Any] | None] = []
    bad: dict[int, str] = {}
    for number, value in enumerate(values):
        try:
            rows.append(_row(value, datatype, dims))
        except _BadValueError as error:
            bad[number] = str(error)
            rows.append(None)
    target = DTYPES[datatype]
    shape = next((row.shape for row in rows if row is not None), ())
    array = np.zeros((len(rows), *shape), dtype=target)
    for number, row in enumerate(rows):
        if row is None:
            continue
        if row.shape != shape:
            bad[number] = f"has shape {list(row.shape)}, the rows before it {list(shape)}"
            continue
        array[number] = row if shape else row.item()
    return array, bad


def _row(value: Any, datatype: str, dims: Sequence[int]) -> NDArray[Any]:
    """Return one row's tensor."""
    try:
        array = np.asarray(value, dtype=object)
    except ValueError as error:
        raise _BadValueError("is ragged") from error
    if any(isinstance(item, list) for item in array.flat):
        raise _BadValueError("is ragged")
    if not _matches(array.shape, dims):
        held = "a single value" if array.ndim == 0 else f"shape {list(array.shape)}"
        wanted = f"shape {list(dims)}" if dims else "a single value"
        raise _BadValueError(f"has {held}, the model takes {wanted}")
    if DTYPES[datatype].kind == "O":
        return _objects([_text(item) for item in array.flat]).reshape(array.shape)
    return _numbers(array, datatype)


def _text(item: Any) -> str:
    if item is None:
        return ""
    if not isinstance(item, str):
        raise _BadValueError(f"{shown(item)} is no text")
    if not is_utf8(item):
        raise _BadValueError("a text cannot be written as UTF-8")
    return item


def _numbers(array: NDArray[Any], datatype: str) -> NDArray[Any]:
    for item in array.flat:
        if item is None and DTYPES[datatype].kind != "f":
            raise _BadValueError(_no_missing(datatype))
        if item is not None and not isinstance(item, (bool, int, float)):
            raise _BadValueError(_not_a(item, datatype))
    try:
        numbers = np.array([np.nan if item is None else item for item in array.flat])
        fitted, lost = _fitted(numbers.reshape(1, *array.shape), datatype)
    except (ValueError, OverflowError, TypeError) as error:
        raise _BadValueError(f"a number is too large for {datatype}") from error
    if lost:
        raise _BadValueError(lost[0])
    row: NDArray[Any] = fitted[0]
    return row


def _matches(shape: Sequence[int], dims: Sequence[int]) -> bool:
    if not shape and list(dims) == [1]:
        return True
    return len(shape) == len(dims) and all(
        there in {-1, here} for here, there in zip(shape, dims, strict=True)
    )


def _fitted(array: NDArray[Any], datatype: str) -> Column:
    """Return the numbers in the model's data type, and the rows that would change."""
    target = DTYPES[datatype]
    if array.dtype == target:
        return array, {}
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype}, the model takes {datatype}")
    converted, lost = cast(array, target)
    if not lost.any():
        return converted, {}
    bad = {}
    for row in np.flatnonzero(lost.reshape(len(array), -1).any(axis=1)).tolist():
        value = array[row][lost[row]].flat[0].item()
        bad[row] = _no_missing(datatype) if value != value else _not_a(value, datatype)  # noqa: PLR0124
    return converted, bad
