"""Answers as numpy files: NPY for one output, NPZ for several."""

import tempfile
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ConfigError
from toolkit.tables.layout import ERROR, FILE, Block

_MANY = "write JSON Lines, or CSV with its column of errors"


class _Column:
    """One output's rows, numbers on the disk until all are there, texts in memory."""

    def __init__(self, name: str, first: NDArray[Any]) -> None:
        self.name = name
        self.dtype, self.shape = first.dtype, first.shape[1:]
        self.rows = 0
        self._texts: list[NDArray[Any]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the column

    def add(self, block: Block) -> None:
        values = block.outputs.get(self.name)
        if values is not None and values.shape[1:] != self.shape:
            raise ConfigError(
                f"output {self.name!r} has {list(values.shape[1:])} values a row here and"
                f" {list(self.shape)} before, which one array cannot hold",
                hint="write JSON Lines: --output answers.jsonl",
            )
        rows: NDArray[Any] = np.zeros((block.count, *self.shape), self.dtype)
        if self.dtype.kind == "O":
            rows[...] = ""
        if self.dtype.kind == "f":
            rows[...] = np.nan
        if values is not None:
            rows[block.answered()] = values
        self.rows += block.count
        if self.dtype.kind == "O":
            self._texts.append(rows.astype(str))
        else:
            self._file.write(rows.tobytes())

    def save(self, to: IO[bytes]) -> None:
        if self.dtype.kind == "O":
            np.lib.format.write_array(to, np.concatenate(self._texts), allow_pickle=False)
            return
        header = np.lib.format.header_data_from_array_1_0(np.empty((0, *self.shape), self.dtype))
        np.lib.format.write_array_header_1_0(to, {**header, "shape": (self.rows, *self.shape)})
        self._file.seek(0)
        while data := self._file.read(1 << 20):
            to.write(data)

    def close(self) -> None:
        self._file.close()
        self._texts.clear()


class Npz:
    """All outputs; failed rows are NaN, 0 or empty, and ``error`` says why."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._columns: dict[str, _Column] = {}

    def write(self, block: Block) -> None:
        """Add some rows."""
        extra = {ERROR: [block.errors.get(row, "") for row in range(block.count)]}
        if block.names is not None:
            extra[FILE] = list(block.names)
        texts = {name: np.array(values, dtype=object) for name, values in extra.items()}
        if not self._columns:
            together = {**block.outputs, **texts}
            self._columns = {name: _Column(name, first) for name, first in together.items()}
        for name, column in self._columns.items():
            rows = texts.get(name)
            column.add(block if rows is None else Block(block.count, {name: rows}, {}))

    def finish(self) -> None:
        """Put the arrays into one archive."""
        with zipfile.ZipFile(self._file, "w") as archive:
            for name, column in self._columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    column.save(member)

    def close(self) -> None:
        """Let go of the rows."""
        for column in self._columns.values():
            column.close()


class Npy:
    """The one output of a model; an array has no place for errors."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._column: _Column | None = None

    def write(self, block: Block) -> None:
        """Add some rows; ``ConfigError`` for several outputs, and for rows without an answer."""
        if len(block.outputs) > 1:
            raise ConfigError(
                f"NPY holds one array, and the model answers {', '.join(block.outputs)}",
                hint="choose one with --outputs, or write NPZ",
            )
        if block.errors:
            row, reason = next(iter(block.errors.items()))
            raise ConfigError(f"NPY has no place for the error of row {row}: {reason}", hint=_MANY)
        if self._column is None:
            ((name, first),) = block.outputs.items()
            self._column = _Column(name, first)
        self._column.add(block)

    def finish(self) -> None:
        """Write the array, whose length is known now."""
        if self._column is not None:
            self._column.save(self._file)

    def close(self) -> None:
        """Let go of the rows."""
        if self._column is not None:
            self._column.close()
