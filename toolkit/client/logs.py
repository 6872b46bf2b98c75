"""The access log, the error log and the terminal: one line for each call."""

import fcntl
import logging
import os
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import time_ns
from typing import Any

from toolkit.client.records import RequestRecord
from toolkit.client.summaries import Summaries, as_json, line_of
from toolkit.errors import ConfigError

_FILES: dict[Path, "_WholeLines"] = {}
_ADDING = threading.Lock()

# A server's text must not move the cursor of the terminal it is shown on.
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class RequestLogs:
    """A hook that writes ``access.log`` and ``error.log`` into a folder, as JSON lines.

    Successes go to the first (INFO), failures to the second (ERROR), never both;
    ``stream`` shows each on stderr as well, for people. Tensors of up to ``values``
    elements are written in full, larger ones as data type, shape and extent, binary ones
    as length and the start of their SHA-256. ``redact`` leaves the values out, of all
    tensors or of those named, and with them error messages that may quote one.

    A file that would grow beyond ``max_bytes`` is moved to ``….log.1``, an older one to
    ``….log.2`` and so on up to ``backups``; 0 means no bound. Objects, threads and
    processes may share a folder: lines stay whole and come once. For one folder the bounds
    given last hold. A write that fails is told once on stderr and breaks no call.

    Raises ``ConfigError`` if the folder cannot be written.
    """

    def __init__(  # noqa: PLR0913  each is one choice of its own
        self,
        folder: str | Path,
        *,
        stream: bool = False,
        redact: bool | Collection[str] = False,
        values: int = 10,
        max_bytes: int = 50_000_000,
        backups: int = 5,
    ) -> None:
        if max_bytes < 0 or backups < 1 or values < 0:
            raise ConfigError("logs need max_bytes of 0 or more, backups of 1 or more, values ≥ 0")
        names = (redact,) if isinstance(redact, str) else redact
        self._summaries = Summaries(values, names if isinstance(names, bool) else frozenset(names))
        folder = Path(folder).absolute()
        self._access = _logger(folder / "access.log", logging.INFO, max_bytes, backups)
        self._error = _logger(folder / "error.log", logging.ERROR, max_bytes, backups)
        self._stream = _terminal() if stream else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestLogs) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self._access.name, self._summaries))

    def __call__(self, record: RequestRecord) -> None:
        """Write one line about a finished call."""
        level = logging.INFO if record.error is None else logging.ERROR
        logger = self._access if record.error is None else self._error
        written, shown = logger.isEnabledFor(level), self._stream is not None
        if not written and not shown:
            return
        inputs = self._summaries.of_tensors(record.inputs)
        outputs = self._summaries.of_tensors(record.outputs)
        error = self._summaries.of_error(record.error)
        if written:
            _write(logger, level, as_json(_entry(record, inputs, outputs, error)))
        if self._stream is not None:
            self._stream.log(level, _sentence(record, inputs, outputs, error))


def _entry(record: RequestRecord, inputs: object, outputs: object, error: object) -> dict[str, Any]:
    now = time_ns()
    return {
        "time": f"{_second(now // 1_000_000_000)}.{now // 1_000_000 % 1000:03d}Z",
        "level": "INFO" if error is None else "ERROR",
        "request_id": record.request_id,
        "operation": record.operation,
        "model": record.model,
        "version": record.version,
        "protocol": record.protocol,
        "url": record.url,
        "attempts": record.attempts,
        "duration_ms": round(record.duration * 1e3, 3),
        "queue_ms": _milliseconds(record.queue_seconds),
        "compute_ms": _milliseconds(record.compute_seconds),
        "rows": record.rows,
        "outcome": record.outcome,
        "error": error,
        "inputs": inputs,
        "outputs": outputs,
    }


@lru_cache(maxsize=2)  # most lines share theirs with the line before
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _sentence(
    record: RequestRecord,
    inputs: dict[str, Any] | None,
    outputs: dict[str, Any] | None,
    error: dict[str, Any] | None,
) -> str:
    version = f" version {record.version}" if record.version else ""
    what = f"{record.operation} {record.model}{version}" if record.model else record.operation
    took = f"{record.duration * 1e3:.1f} ms"
    if record.attempts > 1:
        took += f", {record.attempts} attempts"
    if error is None:
        told = [f"{what} at {record.url}, {took}", _arrow(line_of(inputs), line_of(outputs))]
    else:  # whose message begins with the model and the URL
        told = [f"{what}, {took}", f"{error['kind']} {error['class']}: {error['message']}"]
        told += [f"try: {error['hint']}" if error["hint"] else "", line_of(inputs)]
    told.append(f"id {record.request_id}")
    return " | ".join(filter(None, told)).translate(_VISIBLE)


def _arrow(inputs: str, outputs: str) -> str:
    return f"{inputs} → {outputs}" if inputs and outputs else inputs or outputs


def _logger(path: Path, level: int, max_bytes: int, backups: int) -> logging.Logger:
    """Return the one logger of this file, with the one handler of it."""
    with _ADDING:
        handler = _FILES.get(path)
        if handler is None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                handler = _FILES[path] = _WholeLines(path)
            except OSError as error:
                raise ConfigError(
                    f"cannot write {path}: {error.strerror}", hint="give a folder you may write"
                ) from error
        handler.max_bytes, handler.backups = max_bytes, backups
        return _with(f"toolkit.client.logs:{path}", level, handler)


def _write(logger: logging.Logger, level: int, line: str) -> None:
    only = logger.handlers[0] if len(logger.handlers) == 1 and not logger.filters else None
    if isinstance(only, _WholeLines):
        only.write(line)  # a LogRecord would cost as much as all the rest
    else:
        logger.log(level, line)


def _terminal() -> logging.Logger:
    with _ADDING:
        logger = logging.getLogger("toolkit.client.logs")
        handler = next(iter(logger.handlers), None)
        if handler is None:
            handler = _Terminal()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-5s %(message)s"))
        return _with(logger.name, logging.INFO, handler)


def _with(name: str, level: int, handler: logging.Handler) -> logging.Logger:
    logger = logging.getLogger(name)
    logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(handler)  # does nothing the second time
    return logger


class _Terminal(logging.Handler):
    """Whatever ``sys.stderr`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(self.format(record))


class _WholeLines(logging.Handler):
    """Appends each line with one ``write``, also where other processes move the file.

    Python's ``RotatingFileHandler`` writes long lines in pieces, and once another process
    has moved the file it goes on in the old one, then moves the new one away (3.13).
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.max_bytes, self.backups = 0, 1
        self._path = path
        self._file = _append(path)
        self._identity = _identity(os.fstat(self._file))
        self._torn = False
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))

    def write(self, line: str) -> None:
        """Append one line, or say on stderr that it is lost."""
        self.acquire()
        try:
            # A lone surrogate becomes \udXXX, which is how JSON writes it.
            data = f"{line}\n".encode("utf-8", "backslashreplace")
            size = self._follow()
            if self.max_bytes and size and size + len(data) > self.max_bytes:
                with suppress(FileNotFoundError):  # another process is just moving it
                    self._move()
                self._follow()
            self._append(data)
        except OSError as error:
            self._complain(error)
        finally:
            self.release()

    def _follow(self) -> int:
        """Open the file that has the name by now, if it is another; return its size."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        if found is None or _identity(found) != self._identity:
            fresh = _append(self._path)
            os.close(self._file)
            self._file, self._torn = fresh, False
            found = os.fstat(fresh)
            self._identity = _identity(found)
        return found.st_size

    def _move(self) -> None:
        """Move the full file away, unless another process is at it."""
        full = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(full, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _identity(self._path.stat()) == self._identity:
                names = [self._path, *map(self._backup, range(1, self.backups + 1))]
                for older, newer in zip(names[::-1], names[-2::-1], strict=False):
                    with suppress(FileNotFoundError):
                        newer.replace(older)
            # A child forked meanwhile holds the same lock, and would for all its life.
            fcntl.flock(full, fcntl.LOCK_UN)
        except BlockingIOError:
            return
        finally:
            os.close(full)

    def _backup(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _append(self, data: bytes) -> None:
        if self._torn:  # a disk became full within a line; the next one starts afresh
            data = b"\n" + data
        written = os.write(self._file, data)
        while written < len(data):
            self._torn = True
            written += os.write(self._file, data[written:])
        self._torn = False

    def _complain(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            _say(f"toolkit: lines of {self._path} are lost: {error.strerror}")


def _say(line: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # stderr is closed, or None
        sys.stderr.write(f"{line}\n")


def _append(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
