"""CSV: names in the first line, values by the model's data types, line by line."""

import csv
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from toolkit.samples import UnreadableError
from toolkit.tables.cells import Column, from_cells
from toolkit.tables.fitting import Fitter, Piece

_SEPARATORS = ",;\t|"
_LARGEST_CELL = 1 << 26
_UTF8 = "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 in.csv > out.csv"


def read(source: Any, fitter: Fitter, rows: int) -> Iterator[Piece]:
    """Yield the rows of CSV text; the separator is told from the first line."""
    csv.field_size_limit(_LARGEST_CELL)
    lines = _decoded(source.stream)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        raise UnreadableError("holds no rows")
    separator = _separator(first[1], fitter)
    table = _Table(itertools.chain([first], lines), separator)
    header = [cell.strip() for cell in next(table)]
    start = table.line
    named = _has_names(header, fitter, start)
    kept = set(fitter.check(header)) if named else None
    body = table.rows(len(header), first=None if named else header)
    while chunk := list(itertools.islice(body, rows)):
        places = [place for place, _ in chunk]
        cells = list(zip(*(row for _, row in chunk), strict=True))
        yield _piece(header, kept, cells, places, fitter)


def _piece(
    header: Sequence[str],
    kept: Container[str] | None,
    cells: Sequence[Sequence[str]],
    places: Sequence[int],
    fitter: Fitter,
) -> Piece:
    columns: dict[str, Column] | Column
    if kept is not None:
        columns = {
            name: from_cells(column, fitter.takes.cell(name)[0])
            for name, column in zip(header, cells, strict=True)
            if name in kept
        }
    else:
        columns = _matrix(cells, fitter)
    return fitter.piece(columns, len(places), lambda row: f"line {places[row]}", {})


def _matrix(cells: Sequence[Sequence[str]], fitter: Fitter) -> Column:
    """Return columns without names as the rows of the one input."""
    datatype = fitter.takes.inputs[0].datatype
    arrays, bad = [], dict[int, str]()
    for number, column in enumerate(cells, start=1):
        array, reasons = from_cells(column, datatype)
        arrays.append(array)
        for row, reason in reasons.items():
            bad.setdefault(row, f"column {number}: {reason}")
    return np.stack(arrays, axis=1), bad


def _decoded(stream: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableError(
                f"not UTF-8 text (byte {error.start + 1} of the line)", line=number, hint=_UTF8
            ) from error


class _Table:
    """Lines as rows of cells; knows in which line it stands."""

    def __init__(self, lines: Iterable[tuple[int, str]], separator: str) -> None:
        self.line = 0
        self._reader = csv.reader(
            self._counted(lines), delimiter=separator, skipinitialspace=True, strict=True
        )

    def _counted(self, lines: Iterable[tuple[int, str]]) -> Iterator[str]:
        for self.line, text in lines:
            yield text

    def __next__(self) -> list[str]:
        begins = self.line + 1
        try:
            return next(self._reader)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                what = "a quote that is opened here is never closed"
                raise UnreadableError(what, line=begins) from error
            raise UnreadableError(str(error), line=self.line) from error

    def rows(self, width: int, first: list[str] | None) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells; empty lines are none, unless there is one column."""
        if first is not None:
            yield self.line, first
        blank: list[int] = []
        while True:
            before = self.line + 1
            try:
                row = next(self)
            except StopIteration:
                return
            if not row:
                blank.append(before)
                continue
            if width == 1:
                yield from ((number, [""]) for number in blank)
            blank.clear()
            if len(row) != width:
                raise UnreadableError(
                    f"{len(row)} values, but the first line has {width}",
                    line=before,
                    hint="a value that holds the separator stands in double quotes",
                )
            yield before, row


def _separator(line: str, fitter: Fitter) -> str:
    """Return the separator that finds most of the model's names, or else most columns."""
    known = fitter.takes.columns

    def found(separator: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        return sum(cell.strip() in known for cell in cells), len(cells)

    return max(_SEPARATORS, key=found)


def _has_names(header: Sequence[str], fitter: Fitter, line: int) -> bool:
    numbers = all(_is_number(cell) for cell in header)
    if numbers and not set(header) & fitter.takes.columns:
        if len(header) > 1 and list(header) == [str(place) for place in range(len(header))]:
            raise UnreadableError(
                f"{','.join(header)} may be names or values",
                line=line,
                hint="give the columns names, or write the values as 0.0,1.0",
            )
        if fitter.takes.alone is None:
            raise UnreadableError(
                "the first line is numbers, and the model's inputs go by name",
                line=line,
                hint=f"begin with the names: {','.join(i.name for i in fitter.takes.inputs)}",
            )
        return False
    if "" in header:
        raise UnreadableError(
            "a column has no name",
            line=line,
            hint="pandas writes the row numbers so: to_csv(…, index=False)",
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UnreadableError(f"two columns are called {repeated[0]!r}", line=line)
    return True


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
