"""Broken networks and strange servers, on real sockets, end in one of our errors."""

import socket
from collections.abc import Callable

import pytest

from toolkit.client import Client
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    PermissionDeniedError,
    RequestError,
    ServerError,
    UnavailableError,
)

Talk = Callable[[Callable[[socket.socket], None]], str]


def reply(text: bytes, *, head: bytes = b"") -> Callable[[socket.socket], None]:
    """Answer any request with ``text``, whole, and hang up."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head + text)
        connection.shutdown(socket.SHUT_RDWR)

    return answer


def page(status: bytes, body: bytes, *more: bytes) -> Callable[[socket.socket], None]:
    length = b"Content-Length: %d" % len(body)
    head = b"\r\n".join([b"HTTP/1.1 " + status, length, *more])
    return reply(body, head=head + b"\r\n\r\n")


def silent(_: socket.socket) -> None:
    """Take the request and never say a word."""


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    # A zero linger time makes close() send RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def stalled(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (page(b"503 Service Unavailable", b"no healthy upstream"), UnavailableError, "no healthy"),
        (page(b"502 Bad Gateway", b"<html>502</html>"), UnavailableError, "502"),
        (page(b"429 Too Many Requests", b"slow down"), UnavailableError, "429"),
        (page(b"504 Gateway Timeout", b"upstream"), DeadlineExceededError, "504"),
        (page(b"401 Unauthorized", b"who are you"), PermissionDeniedError, "401"),
        (page(b"404 Not Found", b"<html>no page</html>"), ServerError, "no page"),
        (page(b"302 Found", b"", b"Location: /login"), ServerError, "302"),
        (page(b"418 I'm a teapot", b"short and stout"), ServerError, "418"),
        (page(b"200 OK", b"<html>hello</html>"), ServerError, "V2 protocol"),
        (page(b"200 OK", b"[]"), ServerError, "V2 protocol"),
        (page(b"200 OK", b'"name"'), ServerError, "V2 protocol"),
        (page(b"200 OK", b"\xff\xfe\0"), ServerError, "V2 protocol"),
        (reply(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"), ConnectionFailedError, "90|89"),
        (reply(b"SSH-2.0-OpenSSH_9.9\r\n"), ConnectionFailedError, "does not speak HTTP"),
        (reply(b"\0\xff\0garbage\n"), ConnectionFailedError, "does not speak HTTP"),
        (reply(b""), ConnectionFailedError, "."),
        (reset, ConnectionFailedError, "reset"),
        (silent, DeadlineExceededError, "no answer within"),
        (stalled, DeadlineExceededError, "no answer within"),
    ],
)
def test_a_strange_answer_over_http_is_named(
    talk: Talk, answer: Callable[[socket.socket], None], kind: type[RequestError], message: str
) -> None:
    host = talk(answer)
    with Client(f"http://{host}", timeout=0.5) as client:
        with pytest.raises(RequestError, match=message) as caught:
            client.server_metadata()

        assert type(caught.value) is kind
        assert host in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (page(b"503 Service Unavailable", b"no healthy upstream"), ConnectionFailedError),
        (reply(b"SSH-2.0-OpenSSH_9.9\r\n"), ConnectionFailedError),
        (reply(b""), ConnectionFailedError),
        (reset, ConnectionFailedError),
        (silent, DeadlineExceededError),
    ],
)
def test_a_strange_answer_over_grpc_is_named(
    talk: Talk, answer: Callable[[socket.socket], None], kind: type[RequestError]
) -> None:
    host = talk(answer)
    with (
        Client(f"grpc://{host}", timeout=0.5) as client,
        pytest.raises(RequestError, match=host) as caught,
    ):
        client.server_metadata()

    assert type(caught.value) is kind


def test_a_port_that_nobody_listens_on_is_a_failed_connection_and_no_timeout(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        Client(f"{scheme}://127.0.0.1:{port}") as client,
        pytest.raises(ConnectionFailedError, match="refused") as caught,
    ):
        client.server_metadata()

    assert "toolkit status" in str(caught.value.hint)


def test_a_host_that_has_no_address_is_a_failed_connection(scheme: str) -> None:
    with (
        Client(f"{scheme}://no-such-host.invalid") as client,
        pytest.raises(ConnectionFailedError, match="cannot be resolved"),
    ):
        client.server_metadata()


def test_a_body_that_trickles_in_does_not_outlive_the_deadline(talk: Talk) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            connection.sendall(b" ")

    with (
        Client(f"http://{talk(trickle)}", timeout=0.5) as client,
        pytest.raises(DeadlineExceededError),
    ):
        client.server_metadata()
