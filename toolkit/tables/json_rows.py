"""JSON and JSON Lines: lists of values, records, or an object of columns."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from toolkit.samples import UnreadableError
from toolkit.tables.cells import Column, from_values
from toolkit.tables.fitting import Fitter, Piece

_KINDS: Mapping[type, str] = {list: "a list", dict: "an object"}


def parse(text: bytes, line: int | None = None) -> Any:
    """Return the value; ``UnreadableError`` with the line for what is no JSON."""
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        at = line or text.count(b"\n", 0, error.start) + 1
        raise UnreadableError("not UTF-8 text", line=at, hint="save it as UTF-8") from error
    except json.JSONDecodeError as error:
        at = line or error.lineno
        raise UnreadableError(f"not JSON: {error.msg} at column {error.colno}", line=at) from error
    except (RecursionError, ValueError) as error:
        raise UnreadableError(f"not to be read: {error}", line=line) from error


def is_whole(line: bytes) -> bool:
    """Return whether one line is a value of its own."""
    try:
        parse(line)
    except UnreadableError:
        return False
    return True


def read_lines(source: Any, fitter: Fitter, rows: int) -> Iterator[Piece]:
    """Yield the rows of JSON Lines, each a list or an object."""
    lines = enumerate(itertools.chain(source.first, source.stream), start=1)
    values = ((number, parse(line, number)) for number, line in lines if line.strip())
    kind: type | None = None
    while chunk := list(itertools.islice(values, rows)):
        for number, value in chunk:
            if type(value) is not (kind or type(value)) or type(value) not in _KINDS:
                belongs = _KINDS[kind] if kind else "a list or an object"
                raise UnreadableError(
                    f"{json.dumps(value)[:40]} where {belongs} belongs", line=number
                )
            kind = type(value)
        places = [number for number, _ in chunk]
        yield _piece([value for _, value in chunk], fitter, _lines(places))


def read_whole(source: Any, fitter: Fitter, rows: int) -> Iterator[Piece]:
    """Yield the rows of a JSON value that is in memory already."""
    value = source.value
    if isinstance(value, dict):
        columns = {name: v if isinstance(v, list) else [v] for name, v in value.items()}
        columns = {name: _as_rows(name, columns[name], fitter) for name in fitter.check([*columns])}
        counts = {name: len(values) for name, values in columns.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
            raise UnreadableError(f"the columns differ in their number of rows: {listed}")
        for start in range(0, max(counts.values(), default=0), rows):
            part = {name: values[start : start + rows] for name, values in columns.items()}
            yield _columns(part, fitter, _numbered(start), {})
        return
    if not isinstance(value, list):
        raise UnreadableError(f"neither a list nor an object: {json.dumps(value)[:40]}")
    if any(isinstance(row, dict) for row in value):
        odd = next((row for row in value if not isinstance(row, dict)), None)
        if odd is not None:
            raise UnreadableError("lists and objects are mixed")
    else:
        value = _as_rows("", value, fitter)
    for start in range(0, len(value), rows):
        yield _piece(value[start : start + rows], fitter, _numbered(start))


def _lines(places: Sequence[int]) -> Callable[[int], str]:
    return lambda row: f"line {places[row]}"


def _numbered(start: int) -> Callable[[int], str]:
    return lambda row: f"row {start + row}"


def _as_rows(name: str, values: list[Any], fitter: Fitter) -> list[Any]:
    """Return a lone row, given without the axis of rows, as rows."""
    takes = fitter.takes
    whole = takes.alone is not None and name in {"", takes.alone.name}
    dims = takes.inputs[0].shape[1:] if whole else takes.cell(name)[1]
    depth = 0
    inner: Any = values
    while isinstance(inner, list):
        depth += 1
        inner = inner[0] if inner else None
    return [values] if values and depth == len(dims) and list(dims) != [1] else values


def _piece(rows: Sequence[Any], fitter: Fitter, place: Callable[[int], str]) -> Piece:
    if not isinstance(rows[0], dict):
        spec = fitter.takes.inputs[0]
        if fitter.takes.alone is None:
            listed = ", ".join(one.name for one in fitter.takes.inputs)
            raise UnreadableError(
                f"the model takes {len(fitter.takes.inputs)} inputs ({listed}), got rows"
                " without names",
                hint=f"give objects with {listed}",
            )
        return fitter.piece(from_values(rows, spec.datatype, spec.shape[1:]), len(rows), place, {})
    names = _names(rows, fitter)
    wanted = set(names) | fitter.takes.dropped
    errors = {
        number: _strange(row, wanted) for number, row in enumerate(rows) if row.keys() != wanted
    }
    columns = {name: [row.get(name) for row in rows] for name in names}
    return _columns(columns, fitter, place, errors)


def _names(rows: Sequence[Mapping[str, Any]], fitter: Fitter) -> Sequence[str]:
    """Return the keys of the source's first row, once it is known that they suit the model."""
    return fitter.checked or fitter.check(list(rows[0]))


def _strange(row: Iterable[str], names: Iterable[str]) -> str:
    missing = sorted(name for name in names if name not in row)
    unknown = [name for name in row if name not in names]
    parts = [f"missing: {', '.join(map(repr, missing))}"] if missing else []
    parts += [f"unknown: {', '.join(map(repr, unknown))}"] if unknown else []
    return f"its keys are not those of the first row ({'; '.join(parts)})"


def _columns(
    columns: Mapping[str, Sequence[Any]],
    fitter: Fitter,
    place: Callable[[int], str],
    errors: Mapping[int, str],
) -> Piece:
    made: dict[str, Column] = {}
    for name, values in columns.items():
        datatype, dims = fitter.takes.cell(name)
        array, bad = from_values(values, datatype, dims)
        made[name] = array, {row: why for row, why in bad.items() if row not in errors}
    count = len(next(iter(columns.values()), ()))
    return fitter.piece(made, count, place, errors)
