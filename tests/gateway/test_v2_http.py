"""Triton's HTTP API through the gateway: the same bytes, without keys and controls."""

import asyncio
import gzip
import json
import shutil
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.faults.replica import ports
from tests.gateway.conftest import running
from tests.gateway.sockets import serving
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError, ConnectionFailedError, DeadlineExceededError
from toolkit.gateway.exchange import Asked, Refused, Reply
from toolkit.gateway.v2_http import Streamed, V2Http, is_control, model_of, send_on

TOKEN = b"triton-companion-token"

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

Given = dict[bytes, bytes]


@pytest.fixture(scope="module")
def words(triton: Server, models_folder: Path) -> Server:
    """Serve a model of many answers beside the others."""
    shutil.copytree(
        Path(__file__).parent / "models/words", models_folder / "words", dirs_exist_ok=True
    )
    with embedded.client(triton) as control:
        control.load("words")
    return triton


@asynccontextmanager
async def through(url: str, **options: Any) -> AsyncIterator[V2Http]:
    v2 = V2Http(url, **options)
    try:
        yield v2
    finally:
        await v2.close()


@pytest.fixture
def recorder() -> Callable[..., Any]:
    """Give a server that keeps what it hears and answers 200."""

    @asynccontextmanager
    async def serve(answer: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
        heard: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer or b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.read()
            heard.append(b"closed")

        async with serving(talk) as port:
            yield f"http://127.0.0.1:{port}", heard

    return serve


def leaving(left: asyncio.Event) -> Any:
    """Give what ASGI says of a caller who hangs up once ``left`` is set."""

    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    return receive


async def closed(heard: list[bytes]) -> None:
    """Wait until the recorder's connection was closed by the other side."""
    async with asyncio.timeout(5):
        while b"closed" not in heard:  # noqa: ASYNC110  the list is what the server fills
            await asyncio.sleep(0.01)


def ask(url: str, asked: Asked, seconds: float = 20.0, **options: Any) -> Reply:
    """Pass one request on, and expect a whole answer."""

    async def one() -> Reply | Streamed:
        async with through(url, **options) as v2:
            return await v2.pass_on(asked, seconds)

    reply = asyncio.run(one())
    assert isinstance(reply, Reply)
    return reply


def directly(server: Server, asked: Asked) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask Triton itself, with another client."""
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    target = asked.path + (f"?{asked.query.decode()}" if asked.query else "")
    headers = {name.decode(): value.decode() for name, value in asked.headers.items()}
    connection.request(asked.method, target, asked.body or None, headers)
    answer = connection.getresponse()
    said = {name.lower().encode(): value.encode() for name, value in answer.getheaders()}
    body = answer.read()
    connection.close()
    return answer.status, said, body


def rows(*rows: list[float]) -> tuple[bytes, Given]:
    """Write an inference of the model ``echo`` with binary tensors both ways."""
    x = np.array(rows, np.float32)
    head = json.dumps(
        {
            "id": "seven",
            "inputs": [
                {
                    "name": "x",
                    "shape": x.shape,
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": x.nbytes},
                }
            ],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    length = b"%d" % len(head)
    return head + x.tobytes(), {b"inference-header-content-length": length}


def text(model_input: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": [model_input]}).encode()


ECHO = text({"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]})
BINARY, LENGTH = rows([1, 2, 3, 4], [float("nan"), float("inf"), -0.0, 1e-45])
MANY = text(
    {"name": "x", "shape": [8, 4], "datatype": "FP32", "data": [value / 7 for value in range(32)]}
)
GZIP = {b"content-encoding": b"gzip"}
INFER = "/v2/models/echo/infer"

ASKED = {
    "server": ("GET", "/v2", {}, b""),
    "live": ("GET", "/v2/health/live", {}, b""),
    "metadata": ("GET", "/v2/models/echo/versions/1", {}, b""),
    "config": ("GET", "/v2/models/echo/config", {}, b""),
    "head": ("HEAD", "/v2/health/live", {}, b""),
    "put": ("PUT", "/v2", {}, b""),
    "JSON": ("POST", INFER, {b"content-type": b"application/json"}, ECHO),
    "version": ("POST", "/v2/models/echo/versions/1/infer", {}, ECHO),
    "binary": ("POST", INFER, LENGTH, BINARY),
    "gzip to it": ("POST", INFER, GZIP, gzip.compress(ECHO)),
    "gzip from it": ("POST", INFER, {b"accept-encoding": b"gzip"}, MANY),
    "gzip both ways": (
        "POST",
        INFER,
        {**LENGTH, **GZIP, b"accept-encoding": b"gzip"},
        gzip.compress(BINARY),
    ),
    "deflate": ("POST", INFER, {b"accept-encoding": b"deflate"}, MANY),
    "unknown model": ("POST", "/v2/models/nobody/infer", {}, ECHO),
    "unknown version": ("POST", "/v2/models/echo/versions/9/infer", {}, ECHO),
    "unknown path": ("GET", "/v2/such/a/thing", {}, b""),
    "no JSON": ("POST", INFER, {}, b"{"),
    "no body": ("POST", INFER, {}, b""),
    "fails": (
        "POST",
        "/v2/models/raises/infer",
        {},
        text({"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}),
    ),
    "logging": ("GET", "/v2/logging", {}, b""),
    "restricted": ("POST", "/v2/repository/index", {}, b""),
    "strange path": ("GET", "/v2/models/a%20b%C3%A9/ready", {}, b""),
    "generate, refused": ("POST", "/v2/models/nobody/generate_stream", {}, b"{}"),
}


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_through_the_gateway_is_that_of_triton_byte_for_byte(
    triton: Server, name: str
) -> None:
    method, path, headers, body = ASKED[name]
    decoded = path.replace("%20", " ").replace("%C3%A9", "é")
    status, said, expected = directly(triton, Asked(method, path, headers, body=body))

    reply = ask(triton.http_url, Asked(method, decoded, headers, request_id="r", body=body))

    assert (reply.status, reply.body) == (status, expected)
    assert reply.media == said.pop(b"content-type", b"")
    ours = {b"content-length", b"transfer-encoding", b"connection"}
    assert dict(reply.headers) == {k: v for k, v in said.items() if k not in ours}


def test_tensors_and_their_compression_are_still_readable(triton: Server) -> None:
    _, _, headers, body = ASKED["gzip both ways"]
    reply = ask(triton.http_url, Asked("POST", INFER, headers, body=body))

    said = dict(reply.headers)
    assert said[b"content-encoding"] == b"gzip"
    plain = gzip.decompress(reply.body)
    y = np.frombuffer(plain[int(said[b"inference-header-content-length"]) :], np.float32)
    assert json.loads(plain[: -y.nbytes])["id"] == "seven"
    expected = np.array([[1, 2, 3, 4], [np.nan, np.inf, -0.0, 1e-45]], np.float32).ravel() * 2
    assert y.tobytes() == expected.tobytes()


def test_a_huge_body_goes_through(triton: Server) -> None:
    x = np.arange(1 << 21, dtype=np.float32).reshape(-1, 2)  # 8 MiB
    head = {"name": "x", "shape": x.shape, "datatype": "FP32"}
    told = json.dumps(
        {
            "inputs": [{**head, "parameters": {"binary_data_size": x.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    asked = Asked(
        "POST",
        "/v2/models/unbatched/infer",
        {b"inference-header-content-length": b"%d" % len(told)},
        body=told + x.tobytes(),
    )

    reply = ask(triton.http_url, asked)

    assert reply.status == 200
    begin = int(dict(reply.headers)[b"inference-header-content-length"])
    total = np.frombuffer(reply.body[begin:], np.float64)
    assert total.tobytes() == x.astype(np.float64).sum(axis=1).tobytes()


def nested(levels: int) -> bytes:
    return ECHO.replace(b"[1, 2, 3, 4]", b"[" * levels + b"1, 2, 3, 4" + b"]" * levels)


@pytest.mark.parametrize("headers", [{}, GZIP, LENGTH | {b"content-encoding": b"Deflate"}])
@pytest.mark.parametrize("path", [INFER, "/v2/models/words/generate"])
def test_brackets_that_would_end_triton_are_refused_however_they_are_packed(
    triton: Server, headers: Given, path: str
) -> None:
    body = nested(200_000)  # the server of 2.51 dies of it
    if headers:
        body = gzip.compress(body)
        headers = {**headers, b"inference-header-content-length": b"999999"}
    with pytest.raises(Refused, match="nested deeper than 64") as deep:
        ask(triton.http_url, Asked("POST", path, headers, body=body))
    assert deep.value.status == 422


def test_what_hides_its_depth_is_refused_and_brackets_of_tensors_pass(triton: Server) -> None:
    def status(headers: Given, body: bytes) -> int:
        with pytest.raises(Refused) as refused:
            ask(triton.http_url, Asked("POST", INFER, headers, body=body), largest_bytes=1 << 20)
        return refused.value.status

    assert status(GZIP, gzip.compress(bytes(2 << 20))) == 413
    assert status(GZIP, ECHO) == 400
    assert status(GZIP, gzip.compress(ECHO) + gzip.compress(nested(200_000))) == 400
    assert ask(triton.http_url, Asked("POST", INFER, {}, body=nested(30))).status == 200
    opening = struct.unpack("<f", b"[[[[")[0]
    body, length = rows(*[[opening] * 4] * 8)
    assert ask(triton.http_url, Asked("POST", INFER, length, body=body)).status == 200


def test_the_query_and_the_path_of_the_url_are_kept_and_what_was_decoded_is_written_anew(
    recorder: Callable[..., Any],
) -> None:
    async def one() -> bytes:
        async with recorder() as (url, heard), through(f"{url}/behind") as v2:
            path = "/v2/models/a\r\nb: ?#%/infer"
            await v2.pass_on(Asked("GET", path, {}, query=b"a=%20&b"), 5)
            return bytes(heard[0])

    line = asyncio.run(one()).partition(b"\r\n")[0]
    expected = b"GET /behind/v2/models/a%0D%0Ab:%20%3F%23%25/infer?a=%20&b HTTP/1.1"
    assert line == expected


def test_keys_and_headers_of_a_connection_end_here_and_all_others_go_on(
    recorder: Callable[..., Any],
) -> None:
    given = {
        b"x-api-key": b"secret-1",
        b"authorization": b"Bearer secret-2",
        b"host": b"gateway",
        b"connection": b"keep-alive, X-Of-This-Hop",
        b"x-of-this-hop": b"1",
        b"keep-alive": b"timeout=1",
        b"te": b"trailers",
        b"transfer-encoding": b"chunked",
        b"content-length": b"17",
        b"expect": b"100-continue",
        b"upgrade": b"h2c",
        b"x-request-id": b"the caller's",
        b"traceparent": b"00-old",
        TOKEN: b"the caller's own",
        b"x-forwarded-header": b"kept",
    }

    async def one() -> bytes:
        async with recorder() as (url, heard), through(url, token=lambda: "ours") as v2:
            asked = Asked("POST", INFER, given, request_id="r7", body=b"ab")
            await v2.pass_on(asked, 5, added=((b"traceparent", b"00-new"),))
            return bytes(heard[0])

    lines = asyncio.run(one()).strip().split(b"\r\n")[1:]
    assert sorted(line for line in lines if not line.startswith(b"host: 127.0.0.1:")) == [
        b"content-length: 2",
        b"traceparent: 00-new",
        TOKEN + b": the caller's own",
        b"x-forwarded-header: kept",
        b"x-request-id: r7",
    ]


def test_of_the_answer_too_the_headers_of_a_connection_end_here(
    recorder: Callable[..., Any],
) -> None:
    said = (
        b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nKeep-Alive: a\r\nConnection: keep-alive\r\n"
        b"X-Kept: 1\r\nx-kept: 2\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    )

    async def one() -> Reply | Streamed:
        async with recorder(said) as (url, _), through(url) as v2:
            return await v2.pass_on(Asked("GET", "/v2", {}), 5)

    assert asyncio.run(one()) == Reply(200, b"a", b"x/y", ((b"x-kept", b"1"), (b"x-kept", b"2")))


CONTROLS = [
    ("POST", "/v2/repository/models/echo/load"),
    ("POST", "/v2/repository/models/echo/unload"),
    ("POST", "/v2/repository/other/models/echo/load"),
    ("POST", "/v2/systemsharedmemory/region/a/register"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/unregister"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/models/echo/trace/setting"),
    ("POST", "/v2/models/echo/versions/1/trace/setting"),
    ("POST", "/v2/logging"),
]


@pytest.mark.parametrize(("method", "path"), CONTROLS)
def test_a_control_needs_tritons_own_token_even_where_triton_asks_for_none(
    triton: Server, method: str, path: str
) -> None:
    assert is_control(method, path)
    with pytest.raises(Refused, match="knows no TRITON_TOKEN") as closed:
        ask(triton.http_url, Asked(method, path, {TOKEN: triton.token.encode()}))
    for wrong in ({}, {TOKEN: b"guess"}, {TOKEN: b"\xff"}, {TOKEN: b""}):
        with pytest.raises(Refused, match="needs Triton's own token") as missing:
            ask(triton.http_url, Asked(method, path, wrong), token=lambda: triton.token)
        assert (closed.value.status, missing.value.status) == (403, 403)


def test_with_the_token_a_control_passes(triton: Server) -> None:
    own = {TOKEN: triton.token.encode()}
    token = lambda: triton.token  # noqa: E731
    load = Asked("POST", "/v2/repository/models/text/load", own)
    assert ask(triton.http_url, load, token=token).status == 200
    index = Asked("POST", "/v2/repository/index", own)
    assert b'"text"' in ask(triton.http_url, index).body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/models/echo/trace/setting"),
        ("POST", "/v2/models/echo/infer"),
        ("POST", "/v2/models/logging/infer"),
        ("POST", "/v2/repository/index"),
    ],
)
def test_what_reads_or_infers_is_no_control(method: str, path: str) -> None:
    assert not is_control(method, path)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/a", ("a", "")),
        ("/v2/models/a/infer", ("a", "")),
        ("/v2/models/a/versions/3/infer", ("a", "3")),
        ("/v2/models/a/versions/3", ("a", "3")),
        ("/v2/models/a b/anything/at/all", ("a b", "")),
        ("/v2/models/a\nb/infer", ("a\nb", "")),
        ("/v2/repository/models/a/load", ("a", "")),
        ("/v2/repository/here/models/a/unload", ("a", "")),
        ("/v2/models/stats", None),
        ("/v2/models/stats/infer", ("stats", "")),
        ("/v2/models", None),
        ("/v2/models/", None),
        ("/v2", None),
        ("/v2/repository/index", None),
        ("/predict/a", None),
    ],
)
def test_a_path_names_its_model(path: str, model: tuple[str, str] | None) -> None:
    assert model_of(path) == model


def stream_of(said: str, pause: float = 0.0) -> Asked:
    body = json.dumps({"text": said, "pause": pause}).encode()
    return Asked("POST", "/v2/models/words/generate_stream", {}, body=body)


def test_events_arrive_while_the_model_still_works(words: Server) -> None:
    async def read() -> tuple[list[bytes], list[float]]:
        async with through(words.http_url) as v2:
            reply = await v2.pass_on(stream_of("one two three", 0.3), 10)
            assert isinstance(reply, Streamed)
            assert (reply.status, reply.media) == (200, b"text/event-stream; charset=utf-8")
            pieces, times = [], []
            async for piece in reply.pieces:
                pieces.append(piece)
                times.append(time.monotonic())
            reply.close()
            return pieces, times

    pieces, times = asyncio.run(read())
    assert times[-1] - times[0] > 0.4
    asked = stream_of("one two three")
    assert b"".join(pieces) == directly(words, asked)[2]


def test_a_stream_becomes_asgi_messages(words: Server) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def one() -> int:
        async with through(words.http_url) as v2:
            reply = await v2.pass_on(stream_of("one two"), 10)
            assert isinstance(reply, Streamed)
            return await send_on(reply, send, None, ((b"x-request-id", b"r"),))

    length = asyncio.run(one())
    assert sent[0] == {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-request-id", b"r"),
        ],
    }
    body = b"".join(message["body"] for message in sent[1:])
    assert (len(body), body.count(b"data: ")) == (length, 2)
    assert [message.get("more_body", False) for message in sent[-2:]] == [True, False]


def test_a_stream_ends_with_its_caller_and_its_connection_is_closed(
    recorder: Callable[..., Any],
) -> None:
    async def one() -> None:
        left = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            if message.get("body"):
                left.set()

        async with recorder(EVENTS + b"1\r\na\r\n") as (url, heard), through(url) as v2:
            reply = await v2.pass_on(stream_of(""), 10)
            assert isinstance(reply, Streamed)
            with pytest.raises(Refused) as gone:
                await send_on(reply, send, leaving(left))
            assert gone.value.status == 499
            await closed(heard)

    asyncio.run(one())


def test_a_stream_that_stops_or_breaks_off_is_an_error(recorder: Callable[..., Any]) -> None:
    async def one(seconds: float, said: bytes) -> None:
        async with recorder(EVENTS + said) as (url, _), through(url) as v2:
            reply = await v2.pass_on(stream_of(""), seconds)
            assert isinstance(reply, Streamed)
            async for piece in reply.pieces:
                assert piece == b"a"

    with pytest.raises(DeadlineExceededError):
        asyncio.run(one(0.2, b"1\r\na\r\n"))
    with pytest.raises(ConnectionFailedError, match="not HTTP"):
        asyncio.run(one(5, b"1\r\na\r\nzzz\r\n"))


def test_when_the_caller_hangs_up_the_request_to_triton_is_given_up(
    recorder: Callable[..., Any],
) -> None:
    async def one() -> None:
        async with recorder(b"HTTP/1.1 200 OK\r\n") as (url, heard), through(url) as v2:
            left = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, left.set)
            with pytest.raises(Refused) as gone:
                await v2.pass_on(Asked("POST", INFER, {}, body=ECHO), 20, receive=leaving(left))
            assert gone.value.status == 499
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()
            await closed(heard)

    asyncio.run(one())


def test_a_caller_who_hangs_up_on_a_real_server_ends_the_request_to_triton() -> None:
    opened: list[V2Http] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            opened.append(V2Http(url))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await opened[0].close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        with suppress(Refused):
            await opened[0].pass_on(Asked("GET", "/v2", {}), 60, receive=receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(app) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.get("/v2", timeout=0.3)
            connection, _ = silent.accept()
            connection.settimeout(10)
            while connection.recv(65536):
                pass
            connection.close()


def test_who_stays_gets_the_answer_and_who_cancels_gets_a_cancellation(triton: Server) -> None:
    def slow(seconds: float) -> Asked:
        asked = {"name": "seconds", "shape": [1, 1], "datatype": "FP32", "data": [seconds]}
        return Asked("POST", "/v2/models/slow/infer", {}, body=text(asked))

    async def both() -> None:
        async with through(triton.http_url) as v2:
            never = asyncio.Event()
            stays = asyncio.create_task(v2.pass_on(slow(0.3), 20, receive=leaving(never)))
            cancelled = asyncio.create_task(v2.pass_on(slow(0), 20, receive=leaving(never)))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert (await stays).status == 200
            with pytest.raises(Refused, match=r"no answer within 0\.1 seconds") as late:
                await v2.pass_on(slow(0.5), 0.1)
            assert late.value.status == 504

    asyncio.run(both())


def test_a_triton_that_dies_is_503_until_it_is_back(tmp_path: Path) -> None:
    http, grpc, metrics = ports(["127.0.0.1"])
    options = ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)

    async def live_and_die() -> None:
        asked = Asked("GET", "/v2/health/live", {})
        async with through(f"http://127.0.0.1:{http}") as v2:
            for _ in range(2):
                server = await asyncio.to_thread(embedded.start, tmp_path, options)
                assert (await v2.pass_on(asked, 5)).status == 200
                process = server.process()
                assert process is not None
                process.kill()
                psutil.wait_procs([process], timeout=10)
                with pytest.raises(Refused, match="cannot be reached") as down:
                    await v2.pass_on(asked, 5)
                assert down.value.status == 503
                assert down.value.headers == ((b"retry-after", b"1"),)

    try:
        asyncio.run(live_and_die())
    finally:
        embedded.stop(tmp_path, timeout=0)


def test_an_address_that_is_not_http_is_refused() -> None:
    for url in ("grpc://localhost:8001", "dns+http:///name:8000", "http://"):
        with pytest.raises(ConfigError):
            V2Http(url)


def test_a_server_that_takes_connections_and_says_nothing_is_504() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Refused) as late:
            ask(url, Asked("GET", "/v2", {}), 0.2)
    assert late.value.status == 504
