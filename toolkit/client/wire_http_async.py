"""HTTP for asyncio: libcurl's multi handle, driven by the running event loop."""

import asyncio
from collections.abc import Mapping

import pycurl

from toolkit.client.http_codec import decode, encode
from toolkit.client.http_handle import IDLE_SECONDS, Handle
from toolkit.client.lifetimes import may_stay, warn_unclosed
from toolkit.client.refusals import too_late
from toolkit.client.transport import NO_HEADERS, Answer, Call
from toolkit.errors import ConnectionFailedError


class AsyncHttpTransport:
    """One Triton over HTTP for one event loop, on at most ``connections`` connections.

    Requests beyond them wait, and their time-outs count. A connection unused for
    ``idle_seconds`` is replaced by a new one.
    """

    _closed = True

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        connections: int = 128,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.url = url
        self._token = token
        self._connections = connections
        self._idle_seconds = idle_seconds
        self._idle: list[Handle] = []
        self._multi: _Multi | None = None
        self._closed = False

    async def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        if self._closed:
            raise ConnectionFailedError("the client was closed")
        loop = asyncio.get_running_loop()
        multi = self._multi
        if multi is None or not may_stay(multi.loop, loop):
            multi = self._multi = _Multi(loop, self._connections)
        ends = loop.time() + timeout
        try:
            async with asyncio.timeout_at(ends):
                await multi.places.acquire()
        except TimeoutError:
            raise too_late(timeout) from None
        try:
            return await self._exchange(call, ends - loop.time(), headers, multi)
        finally:
            multi.places.release()

    async def _exchange(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str], multi: "_Multi"
    ) -> Answer:
        if self._closed:
            raise ConnectionFailedError("the client was closed")
        request = encode(call, timeout)
        idle = self._idle
        handle = idle.pop() if idle else Handle(self.url, self._token, self._idle_seconds)
        try:
            handle.prepare(request, timeout, headers)
            await multi.perform(handle.curl)
            reply = handle.reply()
        except pycurl.error as error:
            raise handle.error(error, timeout) from error
        finally:
            if self._closed:
                handle.close()
            else:
                idle.append(handle)
        return decode(call, reply)

    async def close(self) -> None:
        """Close the connections; requests under way fail."""
        self._closed = True
        multi, self._multi = self._multi, None
        if multi is not None:
            multi.close()
        for handle in self._idle:
            handle.close()
        self._idle.clear()

    def __del__(self) -> None:
        warn_unclosed(self, closed=self._closed or self._multi is None)


class _Multi:
    """libcurl's transfers as futures of one loop.

    ``places`` is for who waits for a connection, first come, first served: of a thousand
    transfers libcurl's own limit of connections (8.23) forgot one until its time-out.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: int) -> None:
        self.loop = loop
        self.places = asyncio.Semaphore(connections)
        self._running: dict[pycurl.Curl, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    async def perform(self, curl: pycurl.Curl) -> None:
        """Do what ``curl`` is prepared for; a cancelled wait closes its connection."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._running[curl] = future
        self._multi.add_handle(curl)
        try:
            await future
        finally:
            if self._running.pop(curl, None) is not None:
                self._multi.remove_handle(curl)

    def _watch(self, event: int, fd: int, _: object, __: object) -> None:
        """Note what libcurl waits for at a socket."""
        if self.loop.is_closed():
            return
        if event in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            self.loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
        else:
            self.loop.remove_reader(fd)
        if event in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            self.loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)
        else:
            self.loop.remove_writer(fd)

    def _set_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            self._timer = self.loop.call_later(
                milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0
            )

    def _act(self, fd: int, events: int) -> None:
        """Let libcurl go on where something happened, and end what is done."""
        self._multi.socket_action(fd, events)
        more = 1
        while more:
            more, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, None)
            for curl, code, text in failed:
                self._end(curl, pycurl.error(code, text))

    def _end(self, curl: pycurl.Curl, error: pycurl.error | None) -> None:
        self._multi.remove_handle(curl)
        future = self._running.pop(curl)
        if future.cancelled():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def close(self) -> None:
        """End everything."""
        for curl, future in tuple(self._running.items()):
            del self._running[curl]
            self._multi.remove_handle(curl)
            if not future.done():
                future.set_exception(ConnectionFailedError("the client was closed"))
        self._multi.close()
        self._set_timer(-1)
