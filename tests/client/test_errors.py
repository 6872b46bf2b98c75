"""Whatever goes wrong at the real server arrives as one of our errors, with a hint."""

import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pycurl
import pytest

from toolkit.client import Client, grpc_codec, http_codec, http_handle
from toolkit.client.transport import GetModelMetadata, InferRequest, Transport
from toolkit.deploy.state import Server
from toolkit.errors import (
    ConfigError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    RequestError,
    ServerError,
    UnknownModelError,
)


@pytest.mark.parametrize(
    ("kind", "ask", "message"),
    [
        (UnknownModelError, lambda client: client.predict("nobody", [1]), "'nobody'"),
        (UnknownModelError, lambda client: client.predict("broken", [1]), "'broken'"),
        (UnknownModelError, lambda client: client.predict("echo", [1], version=7), "version 7"),
        (UnknownModelError, lambda client: client.metadata("nobody"), "'nobody'"),
        (UnknownModelError, lambda client: client.metadata("echo", "seven"), "'echo'"),
        (UnknownModelError, lambda client: client.config("nobody"), "'nobody'"),
        (UnknownModelError, lambda client: client.statistics("nobody"), "'nobody'"),
        (InvalidInputError, lambda client: client.predict("echo", [1]), r"'x'.*\[-1, 4\].*\[1\]"),
        (
            InvalidInputError,
            lambda client: client.predict("echo", [1, 2, 3, 4], outputs=["z"]),
            "no output 'z'",
        ),
        (
            InvalidInputError,
            lambda client: client.predict("people", {"age": [1, 2], "city": ["a"]}),
            "age has 2, city has 1",
        ),
        (ServerError, lambda client: client.predict("raises", [1]), "the sums do not add up"),
        (DeadlineExceededError, lambda client: client.predict("slow", 5, timeout=0.2), "'slow'"),
        (DeadlineExceededError, lambda client: client.predict("slow", 5, timeout=1e-9), "'slow'"),
        (PermissionDeniedError, lambda client: client.load("echo"), "restricted"),
        (PermissionDeniedError, lambda client: client.unload("echo"), "restricted"),
        (PermissionDeniedError, lambda client: client.repository_index(), "restricted"),
    ],
)
def test_a_refusal_has_its_type_names_the_server_and_says_what_to_do(
    client: Client, kind: type[RequestError], ask: Callable[[Client], object], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        ask(client)

    assert type(caught.value) is kind
    assert client.url in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "model", "message"),
    [
        (ServerError, "broken", "weights.bin is missing"),
        (UnknownModelError, "nobody", "'nobody'"),
    ],
)
def test_a_model_that_does_not_load_says_why(
    control: Client, kind: type[RequestError], model: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        control.load(model)

    assert type(caught.value) is kind


def test_a_wrong_token_opens_nothing(url: str) -> None:
    with Client(url, token="guessed") as client, pytest.raises(PermissionDeniedError) as caught:
        client.load("echo")

    assert "token" in str(caught.value.hint)
    assert "guessed" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "outputs"),
    [
        ("x", np.zeros((1, 3), np.float32), ()),
        ("x", np.zeros((1, 4), np.float64), ()),
        ("z", np.zeros((1, 4), np.float32), ()),
        ("x", np.zeros((9, 4), np.float32), ()),
        ("x", np.zeros((1, 4), np.float32), ("z",)),
    ],
    ids=["shape", "data type", "input name", "batch size", "output name"],
)
def test_what_the_server_itself_finds_wrong_with_a_request_is_an_invalid_input(
    transport: Transport, name: str, array: np.ndarray, outputs: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInputError, match="'echo'"):
        transport.send(InferRequest("echo", {name: array}, outputs=outputs), 10)


def test_a_name_that_needs_quoting_is_an_unknown_model(transport: Transport) -> None:
    with pytest.raises(UnknownModelError):
        transport.send(GetModelMetadata("../a b?c#ü"), 10)


def test_http_on_the_grpc_port_is_told_which_scheme_to_use(server: Server) -> None:
    url = f"http://{server.address}:{server.grpc_port}"
    with (
        Client(url, timeout=5) as client,
        pytest.raises(ConnectionFailedError, match=url) as caught,
    ):
        client.predict("echo", [1, 2, 3, 4])

    assert f"grpc://{server.address}:{server.grpc_port}" in str(caught.value.hint)


def test_grpc_on_the_http_port_is_told_which_scheme_to_use(server: Server) -> None:
    url = f"grpc://{server.address}:{server.http_port}"
    with (
        Client(url, timeout=5) as client,
        pytest.raises(ConnectionFailedError, match=url) as caught,
    ):
        client.predict("echo", [1, 2, 3, 4])

    assert f"http://{server.address}:{server.http_port}" in str(caught.value.hint)


def test_a_closed_client_says_so(url: str) -> None:
    client = Client(url)
    client.predict("echo", [1, 2, 3, 4])
    client.close()
    client.close()

    with pytest.raises(ConnectionFailedError, match="closed"):
        client.predict("echo", [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost", "http://localhost:8000"),
        ("localhost:9000", "http://localhost:9000"),
        ("http://localhost/", "http://localhost:8000"),
        ("https://triton.example/v1/", "https://triton.example:443/v1"),
        ("grpc://localhost", "grpc://localhost:8001"),
        ("grpcs://triton.example", "grpcs://triton.example:443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_url_may_leave_out_what_is_usual(url: str, expected: str) -> None:
    with Client(url) as client:
        assert client.url == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "ftp://localhost"},
        {"url": ""},
        {"url": "http://"},
        {"url": "http://localhost:port"},
        {"url": "http://localhost:99999"},
        {"url": "http://[::1"},
        {"url": "http://user:secret@localhost"},
        {"url": "grpc://localhost:8001/path"},
        {"token": "two\nlines"},
        {"token": "ünsafe"},
        {"token": ""},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
    ],
    ids=str,
)
def test_a_client_that_cannot_work_is_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Client(**arguments)

    assert "secret" not in f"{caught.value}"


# What libcurl says of other protocols, of its multi interface and of wrong use of it.
ELSEWHERE = re.compile(
    "E_(FTP_(?!WEIRD_SERVER_REPLY)|TFTP|RTSP|LDAP|SSH|TELNET|UNKNOWN_TELNET|MULTI|CALL_MULTI|BAD|"
    "CHUNK|CONV|FILE|FILESIZE|REMOTE_(?!ACCESS)|QUOTE|LOGIN|RANGE|HTTP_RANGE|HTTP_PORT|MALFORMAT|"
    "OK|OUT_OF|URL_MALFORMAT_USER|UNKNOWN|NOT_BUILT|FAILED_INIT|FUNCTION|LIBRARY|SHARE|ALREADY|ABORTED|WRITE)"
)


def test_every_reason_of_libcurl_has_its_translation() -> None:
    names = [name for name in dir(pycurl) if name.startswith("E_") and not ELSEWHERE.match(name)]

    assert {name for name in names if getattr(pycurl, name) not in http_handle.ERRORS} == set()
    assert all(issubclass(kind, RequestError) for kind in http_handle.ERRORS.values())


def test_every_status_of_grpc_has_its_translation() -> None:
    assert set(grpc.StatusCode) - {grpc.StatusCode.OK} == set(grpc_codec.ERRORS)
    assert all(issubclass(kind, RequestError) for kind in grpc_codec.ERRORS.values())


def test_both_wires_answer_every_call() -> None:
    assert http_codec.EXCHANGES.keys() == grpc_codec.EXCHANGES.keys()
