"""One HTTP/1.1 server asked over kept connections: the gateway's short way to Triton."""

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

from toolkit.errors import ConnectionFailedError
from toolkit.gateway.hop_connection import (
    HINT,
    Connection,
    HopAnswer,
    HopStream,
    State,
    closed,
    too_late,
)

IDLE_SECONDS = 60.0
"""Age at which an unused connection is not trusted any more; load balancers drop theirs too."""


class Hop:
    """One server for one event loop, on at most ``connections`` connections.

    Requests beyond them wait, first come, first served, and their time-outs count. A
    connection unused for ``idle_seconds`` is replaced. A request that met a kept connection
    which the server had closed, before a byte of an answer, is sent once more on a new one.

    ``ask`` and ``stream`` raise ``ConnectionFailedError`` and ``DeadlineExceededError`` of
    ``toolkit.errors``; cancelled, they close their connection, so that the server knows.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        connections: int = 128,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._idle_seconds = idle_seconds
        named = f"[{host}]" if ":" in host else host
        self._host_line = b" HTTP/1.1\r\nhost: %b:%d\r\n" % (
            named.encode("ascii" if host.isascii() else "idna"),
            port,
        )
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._places = connections
        self._closed = False

    async def ask(
        self,
        method: bytes,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        timeout: float = 60.0,
    ) -> HopAnswer:
        """Return the answer within ``timeout`` seconds, connecting and waiting included.

        ``target`` is a path with its query as it stands in a request line. ``headers`` must
        not hold ``host``, ``connection``, ``content-length``, ``transfer-encoding`` or
        ``expect``: framing is done here.
        """
        return await self._sent(method, target, headers, body, timeout, None)

    async def stream(
        self,
        method: bytes,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        timeout: float = 60.0,
    ) -> "HopStream":
        """Return the answer once its head has come; ``timeout`` is for that and each piece."""
        stream = HopStream(timeout)
        await self._sent(method, target, headers, body, timeout, stream)
        return stream

    async def close(self) -> None:
        """Close the connections; requests under way and waiting ones fail."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(closed())
        self._waiting.clear()
        for connection in tuple(self._open):
            connection.fail(closed())

    async def _sent(  # noqa: PLR0913, PLR0917  the parts of a request
        self,
        method: bytes,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
        timeout: float,
        stream: "HopStream | None",
    ) -> HopAnswer:
        if self._closed:
            raise closed()
        length = b"content-length: %d\r\n" % len(body) if body or method == b"POST" else b""
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        head = b"%b %b%b%b%b\r\n" % (method, target, self._host_line, length, lines)
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        connection = self._kept() or await self._place(loop, ends, timeout)
        is_head = method == b"HEAD"
        answer = await connection.exchange(head, body, is_head, loop, ends, timeout, stream)
        if answer is None:
            connection = await self._connected(loop, ends, timeout)
            answer = await connection.exchange(head, body, is_head, loop, ends, timeout, stream)
        assert answer is not None  # only a connection that was used before gives none
        return answer

    def _kept(self) -> "Connection | None":
        """Return the connection that was used last, if one is idle and can be trusted."""
        while self._idle:
            connection = self._idle.pop()
            if monotonic() - connection.since <= self._idle_seconds:
                connection.state = State.TAKEN
                return connection
            connection.fail(closed())
        return None

    async def _place(
        self, loop: asyncio.AbstractEventLoop, ends: float, timeout: float
    ) -> "Connection":
        """Return a connection, new or given back by another request."""
        if self._places:
            self._places -= 1
            return await self._connected(loop, ends, timeout)
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting.append(waiter)
        timer = loop.call_at(ends, _expire, waiter, timeout)
        try:
            connection = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            raise
        finally:
            timer.cancel()
        return connection or await self._connected(loop, ends, timeout)

    async def _connected(
        self, loop: asyncio.AbstractEventLoop, ends: float, timeout: float
    ) -> "Connection":
        """Return a new connection, for which a place is reserved already."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout_at(ends):
                _, made = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls
                )
            if made.state is State.LOST:
                raise ConnectionFailedError("the server closed a new connection", hint=HINT)
            if self._closed:
                made.fail(closed())
                raise closed()
            connection = made
        except TimeoutError:
            raise too_late(timeout) from None
        except OSError as error:
            raise _unreachable(error) from error
        finally:
            if connection is None:
                self.give_back(None)
        self._open.add(connection)
        return connection

    def forget(self, connection: "Connection", *, place: bool) -> None:
        """Know no more of a closed connection; ``place``: others may have its place."""
        if connection in self._open:
            self._open.discard(connection)
            with suppress(ValueError):
                self._idle.remove(connection)
            if place:
                self.give_back(None)

    def give_back(self, connection: "Connection | None") -> None:
        """Give a connection that can be used again, or a place for one, to who waits for it."""
        if connection is not None and connection.state is State.LOST:
            connection = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                if connection is not None:
                    connection.state = State.TAKEN
                waiter.set_result(connection)
                return
        if connection is None:
            self._places += 1
        else:
            connection.state = State.IDLE
            self._idle.append(connection)


def _expire(waiter: "asyncio.Future[Connection | None]", timeout: float) -> None:
    if not waiter.done():
        waiter.set_exception(too_late(timeout))


def _unreachable(error: OSError) -> ConnectionFailedError:
    if isinstance(error, ssl.SSLError):
        text = getattr(error, "verify_message", "") or error.reason or str(error)
        hint = "a certificate of your own is trusted with SSL_CERT_FILE=…"
        return ConnectionFailedError(text.lower(), hint=hint)
    text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return ConnectionFailedError(text.lower(), hint=HINT)
