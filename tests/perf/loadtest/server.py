"""A real HTTP server on a real socket that answers as a test tells it to."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfull"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
    b"3\r\ntwo\r\n0\r\n",
    b"\r\n",
)


@dataclass
class Exchange:
    """A request as it came in, and the way back."""

    number: int
    head: bytes
    body: bytes
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """Send parts, each in a packet of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()


Answer = Callable[[Exchange], Awaitable[None]]


@dataclass
class Server:
    """What a server has seen. The first request, number 0, is the trial."""

    port: int = 0
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    most_connections: int = 0
    open_connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/model"


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Answer every request with ``answer``, in a thread of its own."""
    server = Server()
    ready = threading.Event()
    finished: list[Callable[[], object]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open_connections += 1
        server.most_connections = max(server.most_connections, server.open_connections)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    await answer(await _read(reader, writer, server))
        finally:
            server.open_connections -= 1
            writer.close()

    async def main() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        finished.append(lambda: loop.call_soon_threadsafe(over.set))
        listener = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        listener.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        finished[0]()
        thread.join(10)


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server
) -> Exchange:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = await reader.readexactly(length)
    exchange = Exchange(len(server.requests), head, body, writer)
    server.requests.append(exchange)
    return exchange


async def ok(exchange: Exchange) -> None:
    """Answer at once."""
    await exchange.send(ANSWER)
