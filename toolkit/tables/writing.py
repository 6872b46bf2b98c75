"""Answers to a file or to standard output, a line a row, in the order of the rows.

A file is written beside the one that is meant and takes its place at the end.
"""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from toolkit.errors import ConfigError
from toolkit.tables import arrays
from toolkit.tables.layout import Block, Layout, plain

_GROUP = 1 << 16


class Sink(Protocol):
    """Takes blocks of answers in order."""

    def write(self, block: Block) -> None:
        """Write some rows."""

    def finish(self) -> None:
        """Write what is still to be written; the rows are complete."""

    def close(self) -> None:
        """Let go of what is held, finished or not."""


@contextmanager
def open_sink(path: Path | None, kind: str, stdout: Callable[[], IO[bytes]]) -> Iterator[Sink]:
    """Give a sink of the format ``kind``; the file appears once all is written.

    ``path`` None is standard output. Whatever ends the writing early leaves the file that
    was there, or none. Raises ``ConfigError`` for a file that cannot be written.
    """
    with _target(path, stdout) as file:
        packed = path is not None and path.suffix.lower() == ".gz"
        stream = gzip.GzipFile(fileobj=file, mode="wb") if packed else file
        sink: Sink = _SINKS[kind](stream)
        with closing(sink):
            yield sink
            sink.finish()
        if stream is not file:
            stream.close()
        file.flush()


@contextmanager
def _target(path: Path | None, stdout: Callable[[], IO[bytes]]) -> Iterator[IO[bytes]]:
    if path is None:
        yield stdout()
        return
    path = path.resolve()
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise ConfigError(f"{path} is a folder, and the answers go into a file")
        with path.open("wb") as file:  # A pipe or a device has no place beside it.
            yield file
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = part.open("xb")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


@dataclass(slots=True)
class _JsonLines:
    """One object a row; a row that failed has nothing but its error."""

    file: IO[bytes]

    def write(self, block: Block) -> None:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in block.records()]
        self.file.write("".join(lines).encode("utf-8", "surrogatepass"))
        self.file.flush()

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(slots=True)
class _Json:
    """A list of the same objects."""

    file: IO[bytes]
    begun: bool = False

    def write(self, block: Block) -> None:
        for row in block.records():
            before = ",\n" if self.begun else "[\n"
            self.begun = True
            line = before + json.dumps(row, ensure_ascii=False)
            self.file.write(line.encode("utf-8", "surrogatepass"))

    def finish(self) -> None:
        self.file.write(b"\n]\n" if self.begun else b"[]\n")

    def close(self) -> None:
        pass


@dataclass(slots=True)
class _Delimited:
    file: IO[bytes]
    separator: str = ","
    layout: Layout | None = None

    def write(self, block: Block) -> None:
        from pyarrow import csv as arrow_csv

        if self.layout is None:
            self.layout = Layout.of(block)
            head = io.StringIO()
            csv.writer(head, delimiter=self.separator, lineterminator="\n").writerow(
                self.layout.names
            )
            self.file.write(head.getvalue().encode())
        options = arrow_csv.WriteOptions(
            include_header=False, delimiter=self.separator, quoting_style="needed"
        )
        arrow_csv.write_csv(self.layout.table(block, for_text=True), self.file, options)
        self.file.flush()

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Tabbed(_Delimited):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, "\t")


class _Parquet:
    """Groups of some ten thousand rows, as readers of Parquet like them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._layout: Layout | None = None
        self._writer: Any = None
        self._waiting: list[Any] = []

    def write(self, block: Block) -> None:
        self._layout = self._layout or Layout.of(block)
        self._waiting.append(self._layout.table(block))
        if sum(table.num_rows for table in self._waiting) >= _GROUP:
            self._flush()

    def finish(self) -> None:
        if self._waiting:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        self._waiting.clear()

    def _flush(self) -> None:
        from pyarrow import concat_tables
        from pyarrow.parquet import ParquetWriter

        table = concat_tables(self._waiting)
        self._waiting.clear()
        if self._writer is None:
            self._writer = ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)


def whole(blocks: Sequence[Block]) -> Mapping[str, Any]:
    """Return all answers as an object of columns; a row that failed has null in each."""
    if len(blocks) == 1 and not blocks[0].errors:
        columns: dict[str, Any] = {
            name: plain(values) for name, values in blocks[0].outputs.items()
        }
    else:
        rows = [row for block in blocks for row in block.records()]
        names = dict.fromkeys(name for block in blocks for name in block.outputs)
        columns = {name: [row.get(name) for row in rows] for name in names}
        if any(block.errors for block in blocks):
            columns["error"] = [row.get("error") for row in rows]
    if blocks[0].names is not None:
        files = [name for block in blocks for name in block.names or ()]
        return {"file": files, **columns}
    return columns


_SINKS: Mapping[str, Any] = {
    "csv": _Delimited,
    "tsv": _Tabbed,
    "jsonl": _JsonLines,
    "json": _Json,
    "parquet": _Parquet,
    "npy": arrays.Npy,
    "npz": arrays.Npz,
}
