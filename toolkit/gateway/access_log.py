"""One line of JSON for each request, written by a thread so that no request waits for a disk."""

import json
import os
import re
import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import perf_counter, time
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import orjson

from toolkit.errors import ConfigError
from toolkit.gateway.exchange import Asked

NAME = "ml_inference_api.log"
"""The file below ``LOG_DIRECTORY``."""

MAX_WAITING = 20_000
"""How many lines may wait to be written; those beyond are counted and lost."""

RECENT_ERRORS = 100

_GATHER_SECONDS = 0.05
_CLOSE_SECONDS = 5.0
_BATCH = 100  # the thread keeps others from running while it makes lines
_LONGEST = 512
_TOLD_AS_ERROR = 400
_REFUSED_INPUTS = frozenset({400, 422})

_SECRET = re.compile(
    r"key|token|secret|passw|pwd|auth|credential|signature|session|\bsig\b", re.IGNORECASE
)
_VALUE = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.|'(?=\w))*(?:'|\Z)  # what is quoted; an apostrophe quotes nothing
    | "(?:[^"\\]|\\.)*(?:"|\Z)
    | [-+]?\b\d[\w.+-]*
    | \b(?:nan|inf(?:inity)?)\b""",
    re.IGNORECASE | re.VERBOSE,
)


class _Seen(NamedTuple):
    """What a line is made of; nothing here holds on to the body of a request."""

    time: float
    seconds: float
    request_id: str
    client: str
    method: str
    path: str
    query: bytes
    model: str
    version: str
    endpoint: str
    key_id: str
    rows: int
    bytes_in: int
    status: int
    bytes_out: int
    error: str


class AccessLog:
    """The lines of one gateway, in a file or on stderr; for one event loop.

    The file is opened anew when it was moved away. Several processes may share it: lines
    stay whole. What a request holds is not told: features never, values in the error of a
    refused input and in a query's keys are masked.

    Raises ``ConfigError`` if the folder cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = None if folder is None else _File(folder / NAME)
        self._waiting: deque[_Seen] = deque()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._idle = True
        self._told_dropped = 0
        self.dropped = 0
        """How many lines were lost because too many waited, or could not be written."""
        self.errors: deque[dict[str, Any]] = deque(maxlen=RECENT_ERRORS)
        """The last requests that were refused or failed, as their lines; the newest last."""

    def write(self, asked: Asked, status: int, bytes_out: int, error: str = "") -> None:
        """Have a line written about a request that is answered; it is not there at once."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        key = asked.key
        seen = (
            time(),
            perf_counter() - asked.began,
            asked.request_id,
            asked.client,
            asked.method,
            asked.path,
            asked.query,
            asked.model,
            asked.version,
            asked.endpoint,
            "" if key is None else key.id,
            asked.rows,
            len(asked.body),
            status,
            bytes_out,
            error,
        )
        self._waiting.append(tuple.__new__(_Seen, seen))  # the usual way takes three times as long
        if self._idle:
            self._idle = False
            self._wake()

    def reopen(self) -> None:
        """Open the file anew with the next lines: for programs that rotate logs and say so."""
        if self._file is not None:
            self._file.stale = True

    def close(self) -> None:
        """Write what waits and end the thread; give up after five seconds."""
        self._closing = True
        self._ready.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            self._thread = None

    def _wake(self) -> None:
        if self._thread is None:
            # Not sooner: a server that starts workers forks in between.
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()
        self._ready.set()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._ready.wait()
            self._ready.clear()
            if not self._closing:
                pause.wait(_GATHER_SECONDS)
            self._drain()
            if self._closing:
                return
            self._idle = True
            if self._waiting:  # one came between the last look and this
                self._idle = False
                self._ready.set()

    def _drain(self) -> None:
        while self._waiting:
            count = min(_BATCH, len(self._waiting))
            lines = [self._line(self._waiting.popleft()) for _ in range(count)]
            if self.dropped > self._told_dropped:
                lines.append(_encoded({"time": _moment(time()), "lines_lost": self.dropped}))
                self._told_dropped = self.dropped
            self._out(b"\n".join(lines) + b"\n", count)

    def _out(self, data: bytes, count: int) -> None:
        try:
            if self._file is not None:
                self._file.append(data)
            else:
                sys.stderr.write(data.decode())
                sys.stderr.flush()
        except (OSError, ValueError, AttributeError) as error:  # stderr is closed, or None
            self.dropped += count
            if self._file is not None:
                self._file.complain(error)

    def _line(self, seen: _Seen) -> bytes:
        entry = _entry(seen)
        if seen.status >= _TOLD_AS_ERROR:
            self.errors.append(entry)
        return _encoded(entry)


class _File:
    """Appends each batch with one ``write``, to whatever file has the name by then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = self._torn = self.stale = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise ConfigError(
                f"cannot write {path}: {error.strerror}",
                hint="give a LOG_DIRECTORY that may be written",
            ) from error

    def append(self, data: bytes) -> None:
        if self.stale or self._moved():
            old = self._descriptor
            self._open()
            self.stale = self._torn = False
            os.close(old)
        if self._torn:  # a disk became full within a line; the next one starts afresh
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        while written < len(data):
            self._torn = True
            written += os.write(self._descriptor, data[written:])
        self._told = self._torn = False

    def complain(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"toolkit: lines of {self._path} are lost: {error}\n")

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        self._identity = _identity(os.fstat(self._descriptor))

    def _moved(self) -> bool:
        try:
            return _identity(self._path.stat()) != self._identity
        except FileNotFoundError:
            return True


def masked(query: bytes) -> str:
    """Return a query with the values of all names that sound like a secret as ``***``."""
    parts = []
    for part in query.decode("latin-1").split("&"):
        name, equals, _ = part.partition("=")
        secret = equals and _SECRET.search(unquote_plus(name))
        parts.append(f"{name}=***" if secret else part)
    return "&".join(parts)


def _entry(seen: _Seen) -> dict[str, Any]:
    # By position: names would take as long as all the rest.
    (moment, seconds, request_id, client, method, path, query, model, version) = seen[:9]
    (endpoint, key_id, rows, bytes_in, status, bytes_out, error) = seen[9:]
    if error:
        error = error[: 4 * _LONGEST]
        if status in _REFUSED_INPUTS:
            error = _VALUE.sub("…", error)
    return {
        "time": _moment(moment),
        "request_id": request_id,
        "client": client,
        "method": method,
        "path": path[:_LONGEST],
        "query": masked(query)[:_LONGEST] if query else "",
        "model": model,
        "version": version,
        "endpoint": endpoint,
        "status": status,
        "milliseconds": int(seconds * 1e6) / 1e3,
        "rows": rows,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "key_id": key_id,
        "error": error[:_LONGEST],
    }


def _encoded(entry: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(entry)
    except TypeError:  # half of a character that UTF-16 writes as two
        return json.dumps(entry).encode()


def _moment(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e3):03d}Z"


@lru_cache(maxsize=2)  # most lines share theirs with the line before
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
