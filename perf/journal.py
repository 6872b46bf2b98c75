"""The journal of a sweep, a tuning or a comparison: JSON Lines, written as it goes.

The first line is a ``Header``, each further one a ``Point``. A line is flushed to the disk
before the next measurement begins, so what was measured outlives Ctrl-C, a crash and a
machine that goes down; a last line that is cut off is cut away when the journal is opened
again.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TextIO, cast

from perf.candidates import Candidate
from perf.measurement import Load, Measurement, mapping, require_types
from toolkit.errors import ConfigError

_FORMAT = 1


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a journal is about; ``plan`` says what was asked for, and must be equal to go on.

    ``configuration`` is the model's configuration as the server had it before the first
    change, in Triton's JSON.
    """

    command: str
    model: str
    plan: Mapping[str, Any]
    configuration: Mapping[str, Any]
    machine: Mapping[str, Any]
    server: Mapping[str, Any]
    started: str = field(default_factory=now)

    def to_json(self) -> dict[str, Any]:
        """Return the header as JSON can hold it, with the format of the journal."""
        return {"format": _FORMAT, **{name: getattr(self, name) for name in Header.__slots__}}

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read what ``to_json`` gave; raises as ``Measurement.from_json``."""
        known = dict(mapping(record))
        if known.pop("format") != _FORMAT:
            raise ValueError("it is of another release of this toolkit")
        require_types(cls, known)
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One candidate under one load: its measurement, or why there is none."""

    candidate: Candidate
    load: Load
    measurement: Measurement | None = None
    failure: str | None = None
    at: str = field(default_factory=now)

    def to_json(self) -> dict[str, Any]:
        """Return the point as JSON can hold it."""
        load = {name: getattr(self.load, name) for name in Load.__slots__}
        measured = self.measurement.to_json() if self.measurement else None
        return {
            "candidate": self.candidate.to_json(),
            "load": load,
            "measurement": measured,
            "failure": self.failure,
            "at": self.at,
        }

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read what ``to_json`` gave; raises as ``Measurement.from_json``."""
        given = mapping(record)
        candidate = Candidate.from_json(mapping(given["candidate"]))
        require_types(Candidate, candidate.changes())
        measured = given["measurement"]
        known = {
            "candidate": candidate,
            "load": Load.from_json(given["load"]),
            "measurement": None if measured is None else Measurement.from_json(measured),
            "failure": given["failure"],
            "at": given["at"],
        }
        require_types(cls, known)
        return cls(**known)


class Journal:
    """A journal that is open for writing; use it as a context manager."""

    def __init__(self, path: Path, header: Header, points: tuple[Point, ...], file: TextIO) -> None:
        self.path = path
        self.header = header
        self.points = points
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, point: Point) -> None:
        """Write ``point`` through to the disk."""
        _write(self._file, point.to_json())
        self.points = (*self.points, point)


def begin(path: Path, header: Header) -> Journal:
    """Begin a journal at ``path``, or go on with the one that is there.

    Raises ``ConfigError`` when the one that is there is about something else, or is none.
    """
    if not path.exists() or not path.stat().st_size:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _opened(path, "w")
        _write(file, header.to_json())
        return Journal(path, header, (), file)
    earlier, points = read(path)
    different = _difference(earlier, header)
    if different:
        raise ConfigError(
            f"{path} holds a {earlier.command} of {earlier.model!r} with another {different}",
            hint="ask for the same to go on with it, or name another file with --output",
        )
    _cut_off_the_broken_line(path)
    return Journal(path, earlier, points, _opened(path, "a"))


def read(path: Path) -> tuple[Header, tuple[Point, ...]]:
    """Return what a journal holds; a last line that was cut off is passed over.

    Raises ``ConfigError`` for a file that is no journal.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="toolkit perf sweep MODEL") from None
    # Whole lines alone are text: one may be cut off within a character.
    lines = content.split(b"\n")[:-1]
    with _said_of(path, 1):
        if not lines:
            raise ValueError("it has no line that ends")
        header = Header.from_json(json.loads(lines[0].decode()))
    points = []
    for number, line in enumerate(lines[1:], start=2):
        with _said_of(path, number):
            points.append(Point.from_json(json.loads(line.decode())))
    return header, tuple(points)


@contextmanager
def _said_of(path: Path, line: int) -> Iterator[None]:
    """Say of what line it is that it cannot be read, and why."""
    try:
        yield
    except UnicodeDecodeError:
        raise _no_journal(path, line, "it is no text") from None
    except RecursionError:
        raise _no_journal(path, line, "it is nested too deeply") from None
    except KeyError as error:
        raise _no_journal(path, line, f"it has no {error}") from None
    except (ValueError, TypeError, ConfigError) as error:
        raise _no_journal(path, line, str(error)) from error


def _no_journal(path: Path, line: int, reason: str) -> ConfigError:
    return ConfigError(
        f"{path}, line {line}, is not of a journal of toolkit perf: {reason}",
        hint="name a file that toolkit perf sweep, tune or compare wrote",
    )


def _difference(earlier: Header, wanted: Header) -> str:
    for name in ("command", "model", "plan", "configuration"):
        if _plain(getattr(earlier, name)) != _plain(getattr(wanted, name)):
            return name
    return ""


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _cut_off_the_broken_line(path: Path) -> None:
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _opened(path: Path, mode: str) -> TextIO:
    # A name of a file may hold half a surrogate pair; escaped it is JSON, which reads it again.
    return cast("TextIO", path.open(mode, encoding="utf-8", errors="backslashreplace"))


def _write(file: TextIO, record: Mapping[str, Any]) -> None:
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()
    os.fsync(file.fileno())
