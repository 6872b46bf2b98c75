"""One connection of a hop: what is sent on it, and what comes back as a whole or in pieces."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from enum import Enum, auto
from time import monotonic
from typing import NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from toolkit.errors import ConnectionFailedError, DeadlineExceededError

HeaderList = list[tuple[bytes, bytes]]

HINT = "is the server running? see: toolkit status"

_JOINED = 1 << 16  # bytes; a larger body is not copied to stand behind its head
_HELD = 1 << 19  # bytes of a stream that nobody has taken yet, until the server has to wait
_FINAL = 200  # lower statuses announce the answer proper
_BODILESS = (204, 304)


class State(Enum):
    """What a connection is doing."""

    IDLE = auto()
    """It waits in the pool."""
    TAKEN = auto()
    """It is given to a request that has not used it yet."""
    ASKED = auto()
    """It waits for an answer."""
    STREAMING = auto()
    """It gets the pieces of one."""
    CLOSING = auto()
    LOST = auto()


class HopAnswer(NamedTuple):
    """A whole answer; names of headers are in lower case, and those of framing are among them."""

    status: int
    headers: HeaderList
    body: bytes


class Owner(Protocol):
    """Whose connections they are."""

    def give_back(self, connection: "Connection | None") -> None:
        """Take a connection that can be used again, or a place for one."""

    def forget(self, connection: "Connection", *, place: bool) -> None:
        """Know no more of a closed connection; ``place``: others may have its place."""


class HopStream:
    """An answer whose body comes in pieces: iterate or ``read`` it, and close it in the end."""

    def __init__(self, timeout: float) -> None:
        self.status = 0
        self.headers: HeaderList = []
        self._timeout = timeout
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._connection: Connection | None = None  # while more is to come
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces as they arrive."""
        while True:
            if not self._pieces and self._connection is not None:
                await self._more(self._connection)
            if self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
                if self._connection is not None and self._held < _HELD:
                    self._connection.resume()
                yield piece
            elif self._error is not None:
                raise self._error
            elif self._connection is None:
                return

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([piece async for piece in self])

    def close(self) -> None:
        """End the answer here; if more of it was to come, its connection is closed."""
        if self._connection is not None:
            self._connection.fail(closed())

    async def _more(self, connection: "Connection") -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(self._timeout, connection.expire, self._timeout)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def begin(self, connection: "Connection", status: int, headers: HeaderList) -> None:
        """Hear of the head."""
        self._connection, self.status, self.headers = connection, status, headers

    def take(self, piece: bytes) -> bool:
        """Take a piece, and return whether the server should wait with more."""
        self._pieces.append(piece)
        self._held += len(piece)
        self._wake()
        return self._held > _HELD

    def end(self, error: Exception | None) -> None:
        """Hear that this was all."""
        self._connection, self._error = None, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time; ``since`` is when it was last used."""

    __slots__ = ("_begun", "_body", "_headed", "_headers", "_hop", "_is_head",
                 "_parser", "_paused", "_stream", "_transport", "_used", "_waiter", "since",
                 "state")  # fmt: skip

    def __init__(self, hop: Owner) -> None:
        self._hop = hop
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[HopAnswer | None] | None = None
        self._stream: HopStream | None = None
        self._begun = self._headed = False
        self._used = self._paused = self._is_head = False
        self._headers: HeaderList = []
        self._body: list[bytes] = []
        self.since = 0.0
        self.state = State.TAKEN

    async def exchange(  # noqa: PLR0913, PLR0917  the parts of a request
        self,
        head: bytes,
        body: bytes,
        is_head: bool,
        loop: asyncio.AbstractEventLoop,
        ends: float,
        timeout: float,
        stream: HopStream | None,
    ) -> HopAnswer | None:
        """Return the answer, or None if the kept connection was dead; its place is kept then."""
        if self.state is not State.TAKEN:
            return None
        waiter: asyncio.Future[HopAnswer | None] = loop.create_future()
        self._waiter = waiter
        self.state, self._stream, self._is_head, self._begun = State.ASKED, stream, is_head, False
        if len(body) > _JOINED:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)
        timer = loop.call_at(ends, self.expire, timeout)
        try:
            return await waiter
        except asyncio.CancelledError:
            if self._waiter is waiter or (stream is not None and self._stream is stream):
                self.fail(closed())
            elif not waiter.cancelled() and not waiter.exception() and waiter.result() is None:
                self._hop.give_back(None)
            raise
        finally:
            timer.cancel()

    def expire(self, timeout: float) -> None:
        """Give up: the time is over."""
        self.fail(too_late(timeout))

    def fail(self, error: Exception) -> None:
        """Close, and say so to who waits for something."""
        self._end(None, error)
        self.state = State.CLOSING
        self._transport.abort()

    def resume(self) -> None:
        """Let the server send again."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready for the first request."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read a part of an answer."""
        if self.state not in (State.ASKED, State.STREAMING):
            # An answer to nothing, such as 408 from a server that tires of waiting.
            self._transport.abort()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.fail(ConnectionFailedError("the server changed to another protocol"))
        except HttpParserError as error:
            self.fail(ConnectionFailedError(f"what came back is not HTTP: {error}"))

    def eof_received(self) -> None:
        """Hear that the server sends no more; the connection is closed next."""
        if self.state is State.IDLE:
            self.state = State.CLOSING
            self._hop.forget(self, place=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell what became of the request under way."""
        state, self.state = self.state, State.LOST
        stale = state is State.TAKEN or (state is State.ASKED and self._used and not self._begun)
        self._hop.forget(self, place=not stale)
        if state not in (State.ASKED, State.STREAMING):
            return
        if stale:
            self._end(None, None)
        elif exc is None and self._headed and not self._is_framed():
            self._end(self._answer(), None)
        else:
            text = getattr(exc, "strerror", None) or "the connection was closed"
            self._end(None, ConnectionFailedError(f"{text.lower()} in the middle of a request"))

    def on_message_begin(self) -> None:
        """Hear from the parser that an answer begins."""
        if self.state is not State.ASKED:
            raise HttpParserError("more came than was asked for")
        self._headers, self._body, self._headed = [], [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if not self._headed:  # what comes later are trailers
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Hand over the head, if that is wanted or all."""
        status = self._parser.get_status_code()
        if status < _FINAL:
            return
        self._headed = True
        if self._is_head:
            # The parser would wait for the body whose length the head tells.
            self._done(keep=False)
        elif self._stream is not None and self._waiter is not None:
            self.state = State.STREAMING
            self._stream.begin(self, status, self._headers)
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(HopAnswer(status, self._headers, b""))

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body, or hand it over."""
        if self._stream is None:
            self._body.append(piece)
        elif self._stream.take(piece) and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Hear from the parser that the answer is whole."""
        if self._headed and self.state in (State.ASKED, State.STREAMING):
            # An answer that came before all was sent leaves the rest of a request behind.
            unsent = self._transport.get_write_buffer_size()
            self._done(keep=self._parser.should_keep_alive() and not unsent)

    def _done(self, *, keep: bool) -> None:
        """Hand over the answer, and give the connection back or close it."""
        self._end(self._answer(), None)
        self._used = True
        self._headed = False
        if keep:
            self.resume()
            self.since = monotonic()
            self._hop.give_back(self)
        else:
            self.state = State.CLOSING
            self._transport.abort()

    def _is_framed(self) -> bool:
        """Return whether the answer tells where it ends (RFC 9112, 6.3)."""
        return self._parser.get_status_code() in _BODILESS or any(
            name in {b"content-length", b"transfer-encoding"} for name, _ in self._headers
        )

    def _answer(self) -> HopAnswer:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        return HopAnswer(self._parser.get_status_code(), self._headers, body)

    def _end(self, answer: HopAnswer | None, error: Exception | None) -> None:
        """Tell who waits how it ended."""
        waiter, self._waiter = self._waiter, None
        stream, self._stream = self._stream, None
        if stream is not None and answer is not None and waiter is not None:
            stream.begin(self, answer.status, answer.headers)
        if stream is not None and (waiter is None or answer is not None):
            stream.end(error)
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(answer)
            else:
                waiter.set_exception(error)


def too_late(timeout: float) -> DeadlineExceededError:
    """Return the error for an answer that did not come within ``timeout`` seconds."""
    return DeadlineExceededError(
        f"no answer within {timeout:.3g} s", hint="allow more seconds: timeout=…"
    )


def closed() -> ConnectionFailedError:
    """Return the error for a request whose connection is closed by its own side."""
    return ConnectionFailedError("the connections to the server were closed")
