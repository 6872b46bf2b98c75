"""Columns out of what people keep rows in; no library is imported that they did not import.

pandas and polars DataFrames, Arrow tables, numpy's structured arrays and lists of dicts
become a dict of arrays; torch's tensors become arrays.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InvalidInputError

Columns = Mapping[str, object]


def columns_of(rows: object) -> dict[str, Any] | None:
    """Return the columns of ``rows`` by name, in their order; None if it has no names.

    A missing number is NaN, a missing text None. Raises ``InvalidInputError`` for columns
    of the same name, a LazyFrame, and dicts of different keys.
    """
    if isinstance(rows, np.ndarray):
        return {name: rows[name] for name in rows.dtype.names} if rows.dtype.names else None
    if isinstance(rows, (list, tuple)):
        return _of_rows(rows)
    for library, kind, reader in (
        ("pandas", "DataFrame", _of_pandas),
        ("polars", "DataFrame", _of_polars),
        ("pyarrow", "Table", _of_arrow),
        ("pyarrow", "RecordBatch", _of_arrow),
    ):
        if _is(rows, library, kind):
            return reader(rows)
    if _is(rows, "polars", "LazyFrame"):
        raise InvalidInputError("a LazyFrame holds no rows yet", hint="give frame.collect()")
    return None


def row_by_names(rows: object, names: Sequence[str]) -> dict[str, Any] | None:
    """Return a pandas Series as one row, where its labels stand for the columns ``names``."""
    if len(names) < 2 or not _is(rows, "pandas", "Series"):  # noqa: PLR2004
        return None
    row = _labelled(rows)
    return None if row is None or len(row) != len(names) else _of_records([row])


def plain(values: object) -> object:
    """Return torch's tensors as arrays, also those in a list; anything else as it is.

    A tensor leaves its device and its graph; bfloat16, which numpy lacks, becomes float32.
    Raises ``InvalidInputError`` for what has no plain array: sparse matrices, masked values.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InvalidInputError(
            f"a masked array with {int(np.ma.getmaskarray(values).sum())} values masked",
            hint="give rows.filled(…) with what the model was trained to see there",
        )
    scipy = sys.modules.get("scipy.sparse")
    if scipy is not None and scipy.issparse(values):
        shape = list(getattr(values, "shape", ()))
        raise InvalidInputError(f"a sparse matrix of shape {shape}", hint="give rows.toarray()")
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is None:
        return values
    if isinstance(values, (list, tuple)):
        tensors = any(isinstance(value, tensor) for value in values)
        return [plain(value) for value in values] if tensors else values
    return _of_torch(values) if isinstance(values, tensor) else values


def _is(value: object, library: str, kind: str) -> bool:
    # A program that never imported the library holds nothing of it.
    found = getattr(sys.modules.get(library), kind, None)
    return found is not None and isinstance(value, found)


def _of_torch(tensor: Any) -> NDArray[Any]:
    torch = sys.modules["torch"]
    try:
        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        array: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(
            f"a tensor of {tensor.dtype}, {tensor.layout}, on {tensor.device},"
            f" which has no array: {str(error).splitlines()[0]}"
        ) from error
    return array


def _of_rows(rows: Sequence[Any]) -> dict[str, Any] | None:
    """Return rows that name their values as columns: dicts, Series, rows of a structured array."""
    first = rows[0] if rows else None
    if isinstance(first, Mapping):
        return _of_records(rows)
    if isinstance(first, np.void) and first.dtype.names:
        return columns_of(np.array(rows))
    if _is(first, "pandas", "Series"):
        labelled = [_labelled(row) for row in rows]
        return None if None in labelled else _of_records(labelled)
    return None


def _labelled(series: Any) -> dict[str, Any] | None:
    """Return a Series as a dict, if its labels are names and not numbers."""
    labels = list(getattr(series, "index", (0,)))
    if not all(isinstance(label, str) for label in labels):
        return None
    _refuse_repeated("the Series has", labels)
    return dict(zip(labels, series.tolist(), strict=True))


def _of_records(rows: Sequence[Any]) -> dict[str, Any]:
    names = list(rows[0])
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidInputError(
                f"row {place} is a {type(row).__name__}, but row 0 is a dict of values by name"
            )
        if row.keys() != rows[0].keys():
            missing = [repr(name) for name in names if name not in row]
            spare = [repr(name) for name in row if name not in rows[0]]
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"has {', '.join(spare)}, which row 0 lacks"] if spare else []
            raise InvalidInputError(f"row {place} {' and '.join(parts)}")
    _refuse_repeated("the rows have", [str(name) for name in names])
    return {str(name): [row[name] for row in rows] for name in names}


def _of_pandas(frame: Any) -> dict[str, Any]:
    names = [str(name) for name in frame.columns]
    _refuse_repeated("the DataFrame has", names)
    return {name: _of_series(frame.iloc[:, place], name) for place, name in enumerate(names)}


def _of_series(series: Any, name: str) -> NDArray[Any]:
    pandas: Any = sys.modules["pandas"]
    dtype = series.dtype
    # Nullable integers would come as objects, with pandas' own NA among them.
    nullable = isinstance(dtype, pandas.api.extensions.ExtensionDtype)
    if nullable and getattr(dtype, "kind", "O") in "biuf" and series.isna().any():
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return _stacked(np.asarray(series.to_numpy()), name)


def _of_polars(frame: Any) -> dict[str, Any]:
    return {series.name: _stacked(series.to_numpy(), series.name) for series in frame.get_columns()}


def _of_arrow(table: Any) -> dict[str, Any]:
    names = list(table.column_names if hasattr(table, "column_names") else table.schema.names)
    _refuse_repeated("the table has", names)
    return {
        name: _stacked(_of_arrow_column(table.column(place)), name)
        for place, name in enumerate(names)
    }


def _of_arrow_column(column: Any) -> NDArray[Any]:
    # As a dictionary it would show the last of its values where one is missing (pyarrow 26).
    if hasattr(column.type, "index_type"):
        column = column.cast(column.type.value_type)
    if getattr(column, "num_chunks", None) is not None:
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _stacked(column: NDArray[Any], name: str) -> NDArray[Any]:
    """Return a column of lists or arrays, such as embeddings, as one array if they are alike."""
    if column.dtype != object or column.ndim != 1 or not len(column):
        return column
    if not all(isinstance(value, (list, tuple, np.ndarray)) for value in column):
        return column
    lengths = [len(value) for value in column]
    odd = next((row for row, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is not None:
        raise InvalidInputError(
            f"column {name!r}: row {odd} has length {lengths[odd]}, but row 0 has {lengths[0]}"
        )
    return np.stack([np.asarray(value) for value in column])


def _refuse_repeated(what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        listed = ", ".join(map(repr, repeated))
        raise InvalidInputError(f"{what} columns of the same name: {listed}")
