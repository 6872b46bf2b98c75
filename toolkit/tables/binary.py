"""Parquet, NPY and NPZ: columns and arrays as they lie on the disk, a piece at a time."""

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.samples import UnreadableError
from toolkit.tables.cells import Column, from_array, from_values, without
from toolkit.tables.fitting import Fitter, Piece

_PICKLED = "save numbers and fixed-width text only, for example array.astype('U')"


def read_parquet(source: Any, fitter: Fitter, rows: int) -> Iterator[Piece]:
    """Yield the rows of a Parquet file, one batch of columns after the other."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with _seekable(source.stream) as file:
        try:
            table = ParquetFile(file)
            names = [str(name) for name in table.schema_arrow.names]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise UnreadableError(f"two columns are called {repeated[0]!r}")
            names = fitter.check(names)
            start = 0
            for batch in table.iter_batches(rows, columns=names):
                columns = {name: _from_arrow(batch.column(name), name, fitter) for name in names}
                yield _piece(columns, start, batch.num_rows, fitter)
                start += batch.num_rows
        except (ArrowException, OSError) as error:
            reason = str(error).partition(". ")[0]
            raise UnreadableError(f"is no whole Parquet file: {reason}") from error


def _from_arrow(column: Any, name: str, fitter: Fitter) -> Column:
    from pyarrow import compute, types

    datatype, dims = fitter.takes.cell(name)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if listed or types.is_null(kind) or types.is_decimal(kind):
        values = column.to_pylist()
        if types.is_decimal(kind):
            values = [None if value is None else float(value) for value in values]
        return from_values(values, datatype, dims)
    if types.is_temporal(kind) or types.is_nested(kind):
        raise fitter.bad_column(name, f"holds {kind}, the model takes {datatype}")
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if missing.any():
        text = types.is_string(kind) or types.is_large_string(kind)
        column = compute.fill_null(column, "" if text else b"" if types.is_binary(kind) else 0)
    try:
        made = from_array(column.to_numpy(zero_copy_only=False), datatype)
    except ValueError as error:
        raise fitter.bad_column(name, error) from error
    return made if made[0].dtype.kind == "O" else without(made, missing, datatype)


def read_npy(source: Any, fitter: Fitter, rows: int) -> Iterator[Piece]:
    """Yield the rows of one array; nothing is ever unpickled."""
    array = _Array(source.stream)
    spec = fitter.takes.inputs[0]
    dims = spec.shape[1:]
    if fitter.takes.alone is None:
        names = ", ".join(one.name for one in fitter.takes.inputs)
        raise UnreadableError(
            f"is one array, and the model takes {len(fitter.takes.inputs)} inputs ({names})",
            hint="save them together: numpy.savez",
        )
    lone = len(array.shape) == len(dims) and list(dims) != [1]
    start = 0
    for part in array.parts(array.shape[0] if lone and array.shape else rows):
        rows_of = part[np.newaxis] if lone else part
        yield _piece(_converted(rows_of, "", spec.datatype, fitter), start, len(rows_of), fitter)
        start += len(rows_of)


def read_npz(source: Any, fitter: Fitter, rows: int) -> Iterator[Piece]:
    """Yield the rows of named arrays, read side by side."""
    try:
        with _seekable(source.stream) as file, zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            names = fitter.check(names)
            arrays = {name: _Array(archive.open(f"{name}.npy")) for name in names}
            counts = {name: (array.shape or (1,))[0] for name, array in arrays.items()}
            if len(set(counts.values())) > 1:
                listed = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
                raise UnreadableError(f"the arrays differ in their number of rows: {listed}")
            parts = {name: array.parts(rows) for name, array in arrays.items()}
            start = 0
            for together in zip(*parts.values(), strict=True):
                columns = {
                    name: _converted(part, name, fitter.takes.cell(name)[0], fitter)
                    for name, part in zip(parts, together, strict=True)
                }
                yield _piece(columns, start, len(together[0]), fitter)
                start += len(together[0])
    except (zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise UnreadableError(f"is no whole NPZ file: {error}") from error


class _Array:
    """An array in NPY form: its shape, and its rows part by part."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        try:
            version = np.lib.format.read_magic(stream)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            self.shape, self._by_column, self.dtype = header(stream)
        except (ValueError, KeyError, EOFError) as error:
            raise UnreadableError(f"is no NPY file: {' '.join(str(error).split())}") from error
        if self.dtype.hasobject:
            raise UnreadableError(
                "holds Python objects, and loading those could run code", hint=_PICKLED
            )
        if self.dtype.kind not in "biufUS":
            raise UnreadableError(f"holds {self.dtype}, which is neither a number nor text")

    def parts(self, rows: int) -> Iterator[NDArray[Any]]:
        shape = self.shape or (1,)
        tail = shape[1:]
        step = shape[0] if self._by_column and len(shape) > 1 else rows
        width = self.dtype.itemsize * int(np.prod(tail, dtype=np.int64))
        for start in range(0, shape[0], max(step, 1)):
            count = min(step, shape[0] - start)
            data = self._stream.read(count * width)
            if len(data) != count * width:
                raise UnreadableError(f"is cut short: {shape[0]} rows were announced")
            flat = np.frombuffer(data, self.dtype)
            if self._by_column and len(shape) > 1:
                whole = flat.reshape(shape, order="F")
                for row in range(0, len(whole), rows):
                    yield whole[row : row + rows]
            else:
                yield flat.reshape(count, *tail)


def _converted(array: NDArray[Any], name: str, datatype: str, fitter: Fitter) -> Column:
    try:
        return from_array(array, datatype)
    except ValueError as error:
        raise fitter.bad_column(name, error) from error


def _piece(columns: Mapping[str, Column] | Column, start: int, count: int, fitter: Fitter) -> Piece:
    return fitter.piece(columns, count, lambda row: f"row {start + row}", {})


def _seekable(stream: Any) -> Any:
    """Return the stream, or what it holds in a file of its own if it cannot go back."""
    if stream.seekable() and not isinstance(getattr(stream, "raw", None), zipfile.ZipExtFile):
        return stream
    copy = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    while data := stream.read(1 << 20):
        copy.write(data)
    copy.seek(0)
    return copy
