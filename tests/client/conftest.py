"""One real server with a few small models, and a client on each of its two wires."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from toolkit.client import Client
from toolkit.client.transport import Transport
from toolkit.deploy.state import Server

SERVED = ("echo", "text", "people", "types", "unbatched", "slow", "raises")
"""Models loaded at the start; ``broken`` cannot be, and a failed load stays in the index."""


@pytest.fixture(scope="session")
def server(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    repository = tmp_path_factory.mktemp("client") / "repository"
    shutil.copytree(Path(__file__).parent / "models", repository)
    running = serve(repository)
    with Client(running.http_url, token=running.token) as control:
        for model in SERVED:
            control.load(model)
    return running


@pytest.fixture(params=["http", "grpc"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(server: Server, scheme: str) -> str:
    return server.http_url if scheme == "http" else server.grpc_url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def control(url: str, server: Server) -> Iterator[Client]:
    with Client(url, token=server.token) as client:
        yield client


@pytest.fixture
def transport(client: Client) -> Transport:
    """Give the bare wire, for requests that the client itself would not let pass."""
    wire: Transport = client._policy.replicas.all[0].transport
    return wire


@pytest.fixture
def talk() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Run ``answer`` on each connection to a fresh port; return its ``host:port``."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def listen(answer: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                with suppress(OSError):  # the client may hang up in the middle
                    answer(connection)

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield listen
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for connection in connections:
        connection.close()
    for thread in threads:
        thread.join(5)
