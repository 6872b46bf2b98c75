"""A proxy in front of a server that breaks answers in the ways real ones do.

A fault is a function that gets the caller's connection and a way to fetch the server's
answer; it does to the connection what a broken network would.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

Fault = Callable[[socket.socket, Callable[[], bytes]], None]
_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of zero seconds: close() sends RST and not FIN.


def page(status: str, *headers: str) -> Fault:
    """Answer in the server's stead; the connection stays open."""

    def fault(connection: socket.socket, _: Callable[[], bytes]) -> None:
        body = "<html>no server today</html>"
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
        connection.sendall(f"{head}\r\n\r\n{body}".encode())

    return fault


def cut(connection: socket.socket, answer: Callable[[], bytes]) -> None:
    """Send half of the body and hang up."""
    connection.sendall(_first_half(answer()))
    connection.shutdown(socket.SHUT_RDWR)


def garbage(connection: socket.socket, _: Callable[[], bytes]) -> None:
    """Send what belongs to no protocol and hang up."""
    connection.sendall(b"\0\xff\xfe" * 20 + b"\r\n\r\n")
    connection.shutdown(socket.SHUT_RDWR)


def trash(connection: socket.socket, _: Callable[[], bytes]) -> None:
    """Send a well-formed answer of nonsense."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\0\xff{]\0\0")


def reset(connection: socket.socket, _: Callable[[], bytes]) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def silent(connection: socket.socket, _: Callable[[], bytes]) -> None:
    """Never answer; end when the caller hangs up."""
    while connection.recv(65536):
        pass


def stall(connection: socket.socket, answer: Callable[[], bytes]) -> None:
    """Send the headers and half of the body, then nothing more."""
    connection.sendall(_first_half(answer()))
    silent(connection, answer)


def drip(connection: socket.socket, answer: Callable[[], bytes]) -> None:
    """Send the answer byte by byte, too slowly for any deadline of these tests."""
    for byte in answer():
        connection.sendall(bytes([byte]))
        if select.select([connection], [], [], 0.05)[0]:
            break
    silent(connection, answer)


def _first_half(answer: bytes) -> bytes:
    body = answer.partition(b"\r\n\r\n")[2] or answer
    return answer[: len(answer) - (len(body) + 1) // 2]


class Proxy:
    """Stands before a server until it is closed; ``arrivals`` are the times of requests."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 0))
        self._relay: _Relay = _relay_http if parts.scheme == "http" else _relay_bytes
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._left: float = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.arrivals: list[float] = []
        self.broken = 0
        self.url = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._spawn(self._accept)

    def breaks(self, fault: Fault, times: float = float("inf")) -> None:
        """Let ``fault`` befall the next answers, as many as ``times``; forget the past."""
        with self._lock:
            self._fault, self._left = fault, times
            self.arrivals.clear()
            self.broken = 0

    def close(self) -> None:
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(10)

    def next_fault(self) -> Fault | None:
        """Count a request and return what is to befall its answer."""
        with self._lock:
            self.arrivals.append(time.monotonic())
            if self._fault is None or self._left <= 0:
                return None
            self._left -= 1
            self.broken += 1
            return self._fault

    def reach(self) -> socket.socket:
        """Open a connection to the server behind."""
        connection = socket.create_connection(self._target, 10)
        self._connections.append(connection)
        return connection

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections.append(connection)
                self._spawn(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # either side may hang up in the middle
            self._relay(self, connection)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()


class _Relay(Protocol):
    def __call__(self, proxy: Proxy, connection: socket.socket, /) -> None: ...


def _relay_http(proxy: Proxy, connection: socket.socket) -> None:
    """Carry whole requests and answers, so that a fault befalls one request."""
    with proxy.reach() as server:
        while request := _read_message(connection):
            fault = proxy.next_fault()
            if fault is None:
                connection.sendall(_forward(server, request))
            else:
                fault(connection, partial(_forward, server, request))


def _forward(server: socket.socket, request: bytes) -> bytes:
    server.sendall(request)
    return _read_message(server)


def _read_message(connection: socket.socket) -> bytes:
    """Return one message with a ``Content-Length``, or nothing when the peer hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:]]
    length = next((int(value) for name, value in lines if name == b"content-length"), 0)
    while len(body) < length:
        chunk = connection.recv(length - len(body))
        if not chunk:
            return b""
        body += chunk
    return head + b"\r\n\r\n" + body


def _relay_bytes(proxy: Proxy, connection: socket.socket) -> None:
    """Carry bytes both ways, for gRPC; a fault befalls what the server sends next."""
    with proxy.reach() as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            for ready in select.select([connection, server], [], [])[0]:
                chunk = ready.recv(65536)
                if not chunk:
                    return
                if ready is connection:
                    server.sendall(chunk)
                    continue
                fault = proxy.next_fault()
                if fault is not None:
                    fault(connection, partial(bytes, chunk))
                    return
                connection.sendall(chunk)
