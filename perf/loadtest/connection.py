"""One HTTP/1.1 connection that carries one request at a time."""

import asyncio
import math
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_NEVER = math.inf
_HEAD_END = b"\r\n\r\n"
_LARGEST_HEAD = 1 << 16
_SHOWN = 200  # Bytes of an answer in a message.


class Owner(Protocol):
    """Who hears what becomes of a request."""

    def answered(self, connection: "Connection", status: int) -> None:
        """Hear that a whole answer came, and use the connection again if it is ``open``."""

    def broke(self, connection: "Connection", kind: str, why: str) -> None:
        """Hear that no answer will come; the connection is closed."""

    def gone(self, connection: "Connection") -> None:
        """Hear that the connection is closed."""


class Connection(asyncio.Protocol):
    """Sends prepared requests and tells ``owner`` of each one once how it ended.

    ``due``, ``sent`` and ``deadline`` are times of ``time.monotonic()``; the deadline of an
    idle connection never comes. ``used`` says whether it has carried an answer before.
    """

    __slots__ = ("_head", "_owner", "_parser", "_transport", "again", "deadline", "due", "open",
                 "received", "sent", "size", "used")  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._head = b""
        self.open = False
        self.used = self.again = False
        self.due = self.sent = 0.0
        self.deadline = _NEVER
        self.received = self.size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def send(self, request: bytes, due: float, now: float, deadline: float) -> None:
        """Send a request; the connection must be open and idle."""
        self.due, self.sent, self.deadline = due, now, deadline
        self.received, self.size = 0, len(request)
        self._head = b""
        self._transport.write(request)

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self.deadline != _NEVER

    @property
    def shown(self) -> str:
        """The beginning of the answer's body, as far as it came with the head."""
        _, _, body = self._head.partition(_HEAD_END)
        return " ".join(body[:_SHOWN].decode("utf-8", "replace").split())

    def data_received(self, data: bytes) -> None:
        """Read a part of an answer."""
        if self.deadline == _NEVER:
            # An answer to nothing, such as 408 from a server that tires of waiting.
            self.close()
            return
        self.received += len(data)
        if _HEAD_END not in self._head and len(self._head) < _LARGEST_HEAD:
            self._head += data
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._break("invalid answer", "the server changed to another protocol")
        except HttpParserError as error:
            self._break("invalid answer", f"no HTTP ({error}): {self._head[:_SHOWN]!r}")

    def on_message_complete(self) -> None:
        """Hear from the parser that the answer is whole."""
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - the answer proper follows
            self._head = b""
            return
        if self.deadline == _NEVER:
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._end(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell what became of the request under way."""
        self.open = False
        if self.busy:
            if exc is None and self._ends_with_connection():
                self._end(self._parser.get_status_code())
            elif exc is None:
                self._break("closed", "the server closed the connection before its answer ended")
            else:
                self._break("reset", str(exc) or type(exc).__name__)
        self._owner.gone(self)

    def close(self) -> None:
        """Close without waiting for anything."""
        if self.open:
            self.open = False
            self._transport.abort()

    def give_up(self) -> None:
        """Forget the request under way, and close."""
        self.deadline = _NEVER
        self.close()

    def _end(self, status: int) -> None:
        self.deadline = _NEVER
        self.used = True
        self._owner.answered(self, status)

    def _break(self, kind: str, why: str) -> None:
        if self.busy:
            self.deadline = _NEVER
            self.close()
            self._owner.broke(self, kind, why)

    def _ends_with_connection(self) -> bool:
        """Whether the answer has no length of its own (RFC 9112, 6.3, rule 8)."""
        head, ended, _ = self._head.partition(_HEAD_END)
        lines = head.lower()
        framed = b"\r\ncontent-length:" in lines or b"\r\ntransfer-encoding:" in lines
        return bool(ended) and not framed
