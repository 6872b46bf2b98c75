"""Broken networks and strange servers, on real sockets, end in one of our errors."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.client.wires import STYLES, ask
from toolkit.client.transport import GetServerMetadata
from toolkit.deploy.state import Server
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    PermissionDeniedError,
    RequestError,
    ServerError,
    UnavailableError,
)

Talk = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
    talk: Talk,
    style: str,
    answer: Callable[[socket.socket], None],
    kind: type[RequestError],
    message: str,
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        ask(style, f"http://{talk(answer)}", GetServerMetadata(), 0.5)

    assert type(caught.value) is kind
    assert caught.value.hint


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
    talk: Talk, style: str, answer: Callable[[socket.socket], None], kind: type[RequestError]
) -> None:
    with pytest.raises(RequestError) as caught:
        ask(style, f"grpc://{talk(answer)}", GetServerMetadata(), 0.5)

    assert type(caught.value) is kind


def test_a_port_that_nobody_listens_on_is_a_failed_connection_and_no_timeout(
    scheme: str, style: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailedError, match="refused") as caught:
        ask(style, f"{scheme}://127.0.0.1:{port}", GetServerMetadata())

    assert "toolkit status" in str(caught.value.hint)


def test_a_host_that_has_no_address_is_a_failed_connection(scheme: str, style: str) -> None:
    with pytest.raises(ConnectionFailedError, match="cannot be resolved"):
        ask(style, f"{scheme}://no-such-host.invalid:8000", GetServerMetadata())


def test_a_body_that_trickles_in_does_not_outlive_the_deadline(talk: Talk, style: str) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            connection.sendall(b" ")

    with pytest.raises(DeadlineExceededError):
        ask(style, f"http://{talk(trickle)}", GetServerMetadata(), 0.5)


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        (b"7", 7, 7),
        (b"0.5", 0.5, 0.5),
        (b"-3", 0, 0),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True).encode(), 1800, 3600),
        (b"Sat, 01 Jan 2000 00:00:00 GMT", 0, 0),
    ],
)
def test_how_long_to_stay_away_is_told_with_the_error(
    talk: Talk, said: bytes, low: float, high: float
) -> None:
    host = talk(page(b"503 Service Unavailable", b"", b"Retry-After: " + said))
    with pytest.raises(UnavailableError) as caught:
        ask("threads", f"http://{host}", GetServerMetadata())

    assert caught.value.status == 503
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize("said", [b"soon", b"nan", b"inf", b""])
def test_what_is_no_time_at_all_asks_for_none(talk: Talk, said: bytes) -> None:
    host = talk(page(b"429 Too Many Requests", b"", b"Retry-After: " + said))
    with pytest.raises(UnavailableError) as caught:
        ask("threads", f"http://{host}", GetServerMetadata())

    assert (caught.value.status, caught.value.retry_after) == (429, None)


def test_only_the_last_of_several_replies_to_one_request_counts(talk: Talk, style: str) -> None:
    first = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n"
    last = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(UnavailableError) as caught:
        ask(style, f"http://{talk(reply(first + last))}", GetServerMetadata())

    assert (caught.value.status, caught.value.retry_after) == (503, None)


def test_an_error_without_an_answer_has_no_status(talk: Talk, scheme: str, style: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(style, f"{scheme}://{talk(silent)}", GetServerMetadata(), 0.3)

    assert (caught.value.status, caught.value.retry_after) == (None, None)


def test_a_proxy_that_the_environment_names_is_not_asked(
    talk: Talk, server: Server, scheme: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"http://{talk(page(b'502 Bad Gateway', b'from the proxy'))}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, proxy)
    url = server.http_url if scheme == "http" else server.grpc_url

    assert ask(style, url, GetServerMetadata()).name == "triton"
