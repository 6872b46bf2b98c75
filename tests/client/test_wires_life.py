"""What happens around a request: servers and models that die, forks, Ctrl-C, certificates."""

import asyncio
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.client.wires import STYLES, ask, async_wire, wire
from toolkit.client.transport import (
    GetServerMetadata,
    InferRequest,
    IsServerLive,
    LoadModel,
    UnloadModel,
)
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server
from toolkit.errors import ConnectionFailedError, UnavailableError

Talk = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_wire_outlives_a_restart_of_its_server(
    tmp_path: Path, free_ports: Callable[[], tuple[int, int, int]]
) -> None:
    http, grpc, metrics = free_ports()
    options = ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)

    async def ask_before_and_after() -> None:
        running = embedded.start(tmp_path, options)
        urls = (running.http_url, running.grpc_url)
        threads, tasks = [wire(url) for url in urls], [async_wire(url) for url in urls]
        for _ in range(2):
            names = [shared.send(GetServerMetadata(), 20).name for shared in threads]
            names += [(await shared.send(GetServerMetadata(), 20)).name for shared in tasks]
            assert names == ["triton"] * 4
            embedded.stop(tmp_path)
            embedded.start(tmp_path, options)
        for shared in threads:
            shared.close()
        for other in tasks:
            await other.close()

    try:
        asyncio.run(ask_before_and_after())
    finally:
        embedded.stop(tmp_path)


@pytest.fixture(scope="module")
def mortal(
    tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], tuple[int, int, int]]
) -> Iterator[Server]:
    """Run a server for the model that dies; Triton 2.51 cannot end one that has died."""
    repository = tmp_path_factory.mktemp("mortal") / "repository"
    shutil.copytree(Path(__file__).parent / "models" / "dies", repository / "dies")
    http, grpc, metrics = free_ports()
    options = ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)
    try:
        yield embedded.start(repository, options)
    finally:
        embedded.stop(repository, timeout=0)


def test_a_model_whose_process_died_is_unavailable_until_it_is_unloaded_and_loaded(
    mortal: Server, scheme: str, style: str
) -> None:
    url = mortal.http_url if scheme == "http" else mortal.grpc_url
    control = wire(mortal.http_url, mortal.token)
    control.send(LoadModel("dies"), 30)

    def row(value: float) -> InferRequest:
        return InferRequest("dies", {"x": np.array([[value]], np.float32)})

    for value in (-1, 1):  # the one that it dies of, and one that comes too late
        with pytest.raises(UnavailableError, match="not healthy") as caught:
            ask(style, url, row(value))
        assert caught.value.retryable
        assert "unload and load" in str(caught.value.hint)
        assert caught.value.status in (500, "INTERNAL")
    control.send(UnloadModel("dies"), 30)
    control.send(LoadModel("dies"), 30)
    control.close()

    assert ask(style, url, row(2)).outputs["y"].tolist() == [[2]]


FORK = """
import os, sys
import numpy as np
from toolkit.client.transport import InferRequest
from toolkit.client.wire_http import HttpTransport

def right(number):
    call = InferRequest("echo", {"x": np.full((1, 4), number, np.float32)})
    return shared.send(call, 30).outputs["y"].tolist() == [[number * 2] * 4]

shared = HttpTransport(sys.argv[1], None)
assert right(0)
child = os.fork()
ok = all(right(number + 1000 * (child == 0)) for number in range(100))
if child == 0:
    shared.close()
    os._exit(not ok)
assert os.waitpid(child, 0)[1] == 0, "the child got a wrong answer"
assert ok and right(1), "the parent got a wrong answer"
shared.close()
"""


def test_a_forked_child_shares_no_connection_with_its_parent(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, server.http_url], capture_output=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, b"")


INTERRUPTED = """
import signal, sys
from tests.client.wires import wire
from toolkit.client.transport import IsServerLive

signal.signal(signal.SIGINT, signal.default_int_handler)
shared = wire(sys.argv[1])
print("waiting", flush=True)
try:
    shared.send(IsServerLive(), 60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
shared.close()
"""


def test_ctrl_c_ends_a_waiting_request(talk: Talk, scheme: str) -> None:
    arrived = threading.Event()

    def silent(connection: socket.socket) -> None:
        connection.recv(65536)
        arrived.set()

    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, f"{scheme}://{talk(silent)}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as program:
        assert arrived.wait(30)
        program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=10)

    assert said == (b"waiting\ninterrupted\n", b"")
    assert program.returncode == 0


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[str]:
    """Serve one word over TLS, with a certificate that nobody knows yet; give the URL."""
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
            " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        ),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_certificate_that_nobody_trusts_is_refused_and_one_of_your_own_can_be_named(
    secure: str, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectionFailedError, match="certificate") as caught:
        ask(style, secure, IsServerLive())
    assert "SSL_CERT_FILE" in str(caught.value.hint)

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert ask(style, secure, IsServerLive())
