"""Where a value stands among the categories that an encoder was fitted with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

NOWHERE = 1 << 40
"""No table has such an index: ONNX Runtime ends the request with an error when it is
looked up, as the original raises for an unknown category."""

_NOT_THERE = object()


def unknown_in(x: Table, i: int) -> str:
    """Return what is told of a request with an unknown category in column ``i``."""
    column = x.names[i] if x.names else str(i)
    return f"a category in column {column} that the model was not fitted with"


def positions(x: Table, categories: Sequence[Any], name: str, *, strict: bool) -> list[Tensor]:
    """Return the position of each column's values in its categories, int64 ``(rows, 1)``.

    An unknown value stands behind the last category, or ``NOWHERE`` where ``strict``.

    Raises:
        UnsupportedModelError: the categories are of another type than the column.
    """
    columns = x.columns()
    if len(columns) != len(categories):
        msg = f"{name}: it has {len(categories)} columns and is given {len(columns)}"
        raise UnsupportedModelError(msg)
    return [
        position(column, values, name, NOWHERE if strict else len(values))
        for column, values in zip(columns, categories, strict=True)
    ]


def position(column: Tensor, categories: Any, name: str, unknown: int) -> Tensor:
    """Return the position of each cell in ``categories``, int64; ``unknown`` of no other.

    The empty text is the missing value of a column whose categories hold one.
    """
    values = np.asarray(categories).tolist()
    if column.is_text:
        return _of_texts(column, values, name, unknown)
    if values and all(isinstance(value, str) for value in values):
        msg = f"{name}: its categories are texts and the column holds numbers"
        raise UnsupportedModelError(msg)
    return _of_numbers(column, values, unknown)


def missing_among(values: Sequence[Any]) -> Any:
    """Return the first missing value among categories (``None`` or NaN), or a mark of none."""
    for value in values[-2:]:  # They are sorted to the end.
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return value
    return _NOT_THERE


def has_missing(values: Sequence[Any]) -> bool:
    """Say whether a missing value is among categories."""
    return missing_among(values) is not _NOT_THERE


def looked_up(column: Tensor, keys: Sequence[Any], codes: Sequence[int], default: int) -> Tensor:
    """Return the code of each cell that is a key, ``default`` of any other; int64."""
    from onnx import numpy_helper

    if not keys:
        keys, codes = (["\0"] if column.is_text else [0]), [default]
    if column.is_text:
        return column.apply(
            "LabelEncoder",
            np.int64,
            domain="ai.onnx.ml",
            keys_strings=[key.encode() for key in keys],
            values_int64s=list(codes),
            default_int64=default,
        )
    return column.apply(
        "LabelEncoder",
        np.int64,
        domain="ai.onnx.ml",
        keys_tensor=numpy_helper.from_array(np.array(keys, dtype=column.dtype), "keys"),
        values_tensor=numpy_helper.from_array(np.array(codes, dtype=np.int64), "values"),
        default_tensor=numpy_helper.from_array(np.array([default], dtype=np.int64), "default"),
    )


def one_hot(graph: Graph, codes: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    """Return 1.0 at each column's code, side by side; a code of ``width`` or more gives none."""
    total = sum(widths)
    wanted = np.array([code for width in widths for code in range(width)], dtype=np.int64)
    columns = graph.concat(list(codes))
    if len(codes) > 1:
        columns = columns.take(np.repeat(np.arange(len(widths)), widths).tolist())
    return columns.eq(wanted.reshape(1, total)).cast(np.float64)


def _of_texts(column: Tensor, values: list[Any], name: str, unknown: int) -> Tensor:
    codes = {value: i for i, value in enumerate(values) if isinstance(value, str)}
    missing = missing_among(values)
    if not codes and any(value is not missing for value in values):
        kind = type(values[0]).__name__
        msg = f"{name}: its categories are of type {kind} and the column holds texts"
        raise UnsupportedModelError(msg)
    if missing is not _NOT_THERE:
        codes[""] = next(i for i, value in enumerate(values) if value is missing)
    return looked_up(column, list(codes), list(codes.values()), unknown)


def _of_numbers(column: Tensor, values: list[Any], unknown: int) -> Tensor:
    known = {i: value for i, value in enumerate(values) if isinstance(value, int | float)}
    whole = all(isinstance(value, int) for value in known.values())
    numbers: Array = np.array(list(known.values()), dtype=np.int64 if whole else np.float64)
    kept = column.cast(np.int64 if whole and column.dtype.kind in "bi" else np.float64)
    return looked_up(kept, numbers.astype(kept.dtype).tolist(), list(known), unknown)
