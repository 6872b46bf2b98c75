"""Rows from a file, as arrays.

A file of plain numbers is a matrix; one whose columns have names is a dict of columns in
the order of the file, each ``int64``, ``float64``, ``bool`` or text (``object``). Missing values
are NaN among numbers and ``None`` among texts; a column of nothing is one of numbers.
"""

import csv
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import SampleError

Rows = NDArray[Any] | dict[str, NDArray[Any]]

# What spreadsheets, R and pandas write where a number is missing.
_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"})
_BOOLS: Mapping[str, bool] = {"true": True, "false": False}


def read_rows(source: str | Path) -> Rows:
    """Return the rows in a ``.npy``, ``.npz``, ``.csv``, ``.parquet``, ``.jsonl`` or ``.json``.

    Raises ``SampleError``, with the line where there is one, for a file that is missing,
    empty, ragged, unreadable or of another kind. Never unpickles.
    """
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SampleError(
            f"{path}: rows cannot be read from a {path.suffix or 'file without a suffix'}",
            hint=f"use one of {', '.join(_READERS)}",
        )
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise SampleError(f"{path} is empty")
        rows = reader(path)
    except FileNotFoundError as error:
        raise SampleError(f"{path} does not exist") from error
    except OSError as error:
        raise SampleError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SampleError(f"{path} is not UTF-8 text: {error.reason} at {error.start}") from error
    except UnreadableError as error:
        raise SampleError(f"{path}{error.place}: {error.reason}", hint=error.hint) from error
    return _checked(rows, str(path))


class UnreadableError(Exception):
    """Why a file cannot be read, in which line, and what to do; raised where no name is known."""

    def __init__(self, reason: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = " ".join(reason.split())
        self.place = f", line {line}" if line is not None else ""
        self.hint = hint


def _checked(rows: Rows, where: str) -> Rows:
    arrays = rows if isinstance(rows, dict) else {"": rows}
    if not arrays or any(array.size == 0 for array in arrays.values()):
        raise SampleError(f"{where} holds no rows")
    for name, array in arrays.items():
        if array.dtype.kind not in "biufO":
            column = f", {name!r}" if name else ""
            raise SampleError(f"{where}{column}: {array.dtype} is neither a number nor text")
    return rows


def _read_npy(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _unloadable(error) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UnreadableError("is an archive of arrays", hint="rename it to end in .npz")
    return _text_as_objects(array)


def _read_npz(path: Path) -> Rows:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: _text_as_objects(archive[name]) for name in archive.files}
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise _unloadable(error) from error


def _unloadable(error: Exception) -> UnreadableError:
    if "allow_pickle" in str(error):
        return UnreadableError(
            "holds Python objects or is no numpy file, and loading those could run code",
            hint="save numbers and fixed-width text only, for example array.astype('U')",
        )
    return UnreadableError(f"numpy cannot load it: {error}")


def _text_as_objects(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 0:
        array = array.reshape(1)
    return array.astype(object) if array.dtype.kind in "US" else array


def _read_csv(path: Path) -> Rows:
    import pandas as pd

    first = _check_table(path)
    named = not all(_is_number(cell) for cell in first)
    try:
        table = pd.read_csv(
            path,
            header=0 if named else None,
            names=first if named else None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            index_col=False,
            skipinitialspace=True,
        )
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    columns = {name: _from_cells(table[name].tolist()) for name in table.columns}
    if named:
        return {str(name): column for name, column in columns.items()}
    for place, column in columns.items():
        if column.dtype.kind not in "iuf":
            raise UnreadableError(
                f"its first line is numbers, but column {int(place) + 1} holds text",
                hint="give the columns names in a first line",
            )
    return np.stack(list(columns.values()), axis=1)


def _check_table(path: Path) -> list[str]:
    """Return the first line's cells; pandas fills short lines in silence, we do not."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, skipinitialspace=True)
        try:
            first = next((line for line in lines if line), [])
            for line in lines:
                if line and len(line) != len(first):
                    raise UnreadableError(
                        f"{len(line)} values, but the first line has {len(first)}",
                        line=lines.line_num,
                    )
        except csv.Error as error:
            raise UnreadableError(str(error), line=lines.line_num) from error
    if not first:
        raise UnreadableError("holds no rows")
    if "" in first:
        raise UnreadableError(
            "a column has no name",
            line=1,
            hint="pandas writes the row numbers so: to_csv(…, index=False)",
        )
    repeated = sorted({name for name in first if first.count(name) > 1})
    if repeated and not all(_is_number(cell) for cell in first):
        raise UnreadableError(f"two columns are called {repeated[0]!r}", line=1)
    return first


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in _MISSING
    return "_" not in cell


def _from_cells(cells: Sequence[str]) -> NDArray[Any]:
    """Return a column as numbers or truth values if every cell is one, else as it stands."""
    lowered = [_BOOLS.get(cell.lower()) for cell in cells]
    if None not in lowered:
        return np.array(lowered, dtype=bool)
    if not all(_is_number(cell) for cell in cells):
        # NA is Namibia's code: among texts only an empty cell is surely missing.
        return _objects([cell or None for cell in cells])
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([np.nan if cell in _MISSING else float(cell) for cell in cells])


def _read_parquet(path: Path) -> Rows:
    import pandas as pd
    from pyarrow import ArrowException

    try:
        table = pd.read_parquet(path)
    except (ArrowException, ValueError) as error:
        raise UnreadableError(f"is no Parquet file: {error}") from error
    return {str(name): _from_series(str(name), table[name]) for name in table.columns}


def _from_series(name: str, series: Any) -> NDArray[Any]:
    values: NDArray[Any] = series.to_numpy()
    if values.dtype.kind != "O":
        return values
    return _column([_plain(item) for item in values.tolist()], name)


def _plain(item: Any) -> Any:
    """Return a cell without numpy and pandas: lists for arrays, None for what is missing."""
    if isinstance(item, np.ndarray):
        return item.tolist()
    missing = type(item).__name__ == "NAType" or (isinstance(item, float) and isnan(item))
    return None if missing else item


def _read_jsonl(path: Path) -> Rows:
    rows: list[Any] = []
    for number, text in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not text.strip():
            continue
        row = _loads(text, line=number)
        if not isinstance(row, (list, dict)):
            raise UnreadableError("neither a list nor an object", line=number)
        if rows and type(row) is not type(rows[0]):
            raise UnreadableError("lists and objects are mixed", line=number)
        if rows and (
            len(row) != len(rows[0]) or (isinstance(row, dict) and row.keys() != rows[0].keys())
        ):
            raise UnreadableError(
                "its length or its keys differ from the first line's", line=number
            )
        rows.append(row)
    if not rows:
        raise UnreadableError("holds no rows")
    return _from_json(rows)


def _read_json(path: Path) -> Rows:
    return _from_json(_loads(path.read_text(encoding="utf-8-sig")))


def _loads(text: str, *, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = line or error.lineno
        raise UnreadableError(
            f"not JSON: {error.msg} at column {error.colno}", line=place
        ) from error
    except RecursionError as error:
        raise UnreadableError("nested too deeply", line=line) from error


def _from_json(value: Any) -> Rows:
    """Return lists as an array, an object as columns, a list of objects as columns too."""
    if isinstance(value, dict):
        return {name: _column(items, name) for name, items in value.items()}
    if not isinstance(value, list):
        raise UnreadableError(f"neither a list nor an object: {json.dumps(value)[:40]}")
    if not any(isinstance(row, dict) for row in value):
        return _column(value, "")
    names = list(value[0]) if isinstance(value[0], dict) else []
    for number, row in enumerate(value):
        if not isinstance(row, dict) or row.keys() != set(names):
            raise UnreadableError(f"row {number} has other keys than row 0")
    return {name: _column([row[name] for row in value], name) for name in names}


def _column(items: Any, name: str) -> NDArray[Any]:
    """Return nested lists as an array; ``None`` is NaN among numbers and stays among texts."""
    where = f"{name!r}: " if name else ""
    listed = items if isinstance(items, list) else [items]
    try:
        array = np.asarray(listed, dtype=object)
    except ValueError as error:
        raise UnreadableError(f"{where}ragged, its rows differ in length") from error
    kinds = {type(item) for item in array.flat}
    if kinds and kinds <= {int, float, bool, type(None)}:
        if type(None) in kinds:
            numbers = [np.nan if item is None else item for item in array.flat]
            return np.array(numbers, dtype=np.float64).reshape(array.shape)
        try:
            return np.asarray(listed, dtype=None if kinds == {bool} or bool not in kinds else float)
        except (ValueError, OverflowError) as error:
            raise UnreadableError(f"{where}{error}") from error
    if kinds & {list, tuple}:
        raise UnreadableError(f"{where}ragged, its rows differ in length")
    odd = sorted(kind.__name__ for kind in kinds - {int, float, bool, str, bytes, type(None)})
    if odd:
        raise UnreadableError(f"{where}holds a {odd[0]} where text or a number belongs")
    return array


def _objects(items: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


_READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
}
