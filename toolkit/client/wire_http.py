"""HTTP for threads: a pool of libcurl handles, each used by one thread at a time."""

import os
from collections import deque
from collections.abc import Mapping
from threading import Event

import pycurl

from toolkit.client.http_codec import decode, encode
from toolkit.client.http_handle import IDLE_SECONDS, Handle
from toolkit.client.lifetimes import warn_unclosed
from toolkit.client.transport import NO_HEADERS, Answer, Call
from toolkit.errors import ConnectionFailedError

# A child process must not even close what it got from its parent: to say goodbye over TLS
# would end the parent's connection.
_INHERITED: list[deque[Handle]] = []


class HttpTransport:
    """One Triton over HTTP; up to ``connections`` unused connections are kept.

    A connection unused for ``idle_seconds`` is replaced by a new one.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        connections: int = 128,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._over = Event()
        self.url = url
        self._token = token
        self._connections = connections
        self._idle_seconds = idle_seconds
        # The last one given back is the first one taken: its connection is the freshest.
        self._idle: deque[Handle] = deque()
        self._process = os.getpid()

    def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        request = encode(call, timeout)
        handle = self._take()
        try:
            handle.prepare(request, timeout, headers)
            handle.perform()
            reply = handle.reply()
        except pycurl.error as error:
            raise handle.error(error, timeout) from error
        finally:
            self._give_back(handle)
        return decode(call, reply)

    def _take(self) -> Handle:
        if self._over.is_set():
            raise ConnectionFailedError("the client was closed")
        if os.getpid() != self._process:
            _INHERITED.append(self._idle)
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return Handle(self.url, self._token, self._idle_seconds, self._over.is_set)

    def _give_back(self, handle: Handle) -> None:
        if len(self._idle) < self._connections:
            self._idle.append(handle)
        else:
            handle.close()
        if self._over.is_set():
            self._drain()

    def _drain(self) -> None:
        while self._idle:
            try:
                handle = self._idle.pop()
            except IndexError:  # another thread took the last one
                return
            handle.close()

    def close(self) -> None:
        """Close the connections; requests under way fail within a second."""
        self._over.set()
        if os.getpid() == self._process:
            self._drain()

    def __del__(self) -> None:
        warn_unclosed(self, closed=self._over.is_set())
