"""The hop against servers that behave and servers that do not, each on a real socket."""

import asyncio
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.gateway.sockets import Talk, serving
from toolkit.errors import ConnectionFailedError, DeadlineExceededError
from toolkit.gateway.hop import Hop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine in either loop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


@asynccontextmanager
async def hop_to(talk: Talk, served: Any = None, **options: Any) -> AsyncIterator[Hop]:
    """Serve each connection by ``talk`` and give a hop to it."""
    async with serving(talk, served) as port:
        hop = Hop("127.0.0.1", port, **options)
        try:
            yield hop
        finally:
            await hop.close()


async def heard(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one request: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name.lower() == b"content-length":
            length = int(value)
    return head, await reader.readexactly(length)


def answering(*answers: bytes, close: bool = False) -> Talk:
    """Answer the requests of a connection with these, in turn, or with the last of them."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while True:
            await heard(reader)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
            if close:
                return

    return talk


def test_a_request_arrives_as_it_was_given_and_the_connection_is_used_again(
    run: Callable[..., Any],
) -> None:
    got: list[tuple[bytes, bytes]] = []
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            got.append(await heard(reader))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nX-Name: a\r\nContent-Length: 3\r\n\r\nno!")

    async def ask() -> None:
        async with hop_to(talk) as hop:
            for _ in range(3):
                answer = await hop.ask(b"POST", b"/a?b=1", ((b"x-y", b"z"),), b"\x00\xff\r\n", 5)
                assert answer == (400, [(b"x-name", b"a"), (b"content-length", b"3")], b"no!")

    run(ask())
    assert connections == 1
    assert {body for _, body in got} == {b"\x00\xff\r\n"}
    first, *lines = got[0][0].rstrip().split(b"\r\n")
    assert first == b"POST /a?b=1 HTTP/1.1"
    assert sorted(line for line in lines if not line.startswith(b"host: 127.0.0.1:")) == [
        b"content-length: 4",
        b"x-y: z",
    ]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (CHUNKED + b"1\r\na\r\n0\r\nx-late: 1\r\n\r\n", b"a"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (OK, b"ok"),
    ],
    ids=["chunked", "trailers", "continue", "no content", "length"],
)
def test_every_framing_of_an_answer_is_read_and_its_connection_kept(
    run: Callable[..., Any], answer: bytes, body: bytes
) -> None:
    async def ask() -> None:
        async with hop_to(answering(answer), connections=1) as hop:
            for _ in range(2):
                got = await hop.ask(b"GET", b"/", timeout=5)
                assert got.body == body
                assert all(name != b"x-late" for name, _ in got.headers)
            assert len(hop._open) == 1

    run(ask())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
    ids=["close", "1.0", "until the end"],
)
def test_an_answer_that_ends_its_connection_is_whole(
    run: Callable[..., Any], answer: bytes
) -> None:
    async def ask() -> None:
        async with hop_to(answering(answer, close=True), connections=1) as hop:
            for _ in range(3):
                assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"
            stream = await hop.stream(b"GET", b"/", timeout=5)
            assert await stream.read() == b"ok"

    run(ask())


def test_a_kept_connection_that_the_server_closed_is_replaced(run: Callable[..., Any]) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await heard(reader)
        writer.write(OK)
        await heard(reader)  # and go, without an answer to this one

    async def ask() -> None:
        async with hop_to(talk, connections=1) as hop:
            for _ in range(4):
                assert (await hop.ask(b"POST", b"/", body=b"x", timeout=5)).body == b"ok"
            stream = await hop.stream(b"POST", b"/", body=b"x", timeout=5)
            assert await stream.read() == b"ok"

    run(ask())
    assert connections == 5


def test_a_new_connection_that_breaks_is_an_error_and_not_asked_again(
    run: Callable[..., Any],
) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await heard(reader)

    async def ask() -> None:
        async with hop_to(talk, connections=1) as hop:
            for _ in range(2):
                with pytest.raises(ConnectionFailedError, match="closed in the middle"):
                    await hop.ask(b"GET", b"/", timeout=5)

    run(ask())
    assert connections == 2


def test_an_answer_cut_short_is_an_error_even_on_a_kept_connection(
    run: Callable[..., Any],
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(OK)
        await heard(reader)
        writer.write(OK[:-1])
        await writer.drain()

    async def ask() -> None:
        async with hop_to(talk, connections=1) as hop:
            assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"
            with pytest.raises(ConnectionFailedError, match="closed in the middle"):
                await hop.ask(b"GET", b"/", timeout=5)
            stream = await hop.stream(b"GET", b"/", timeout=5)
            assert await stream.read() == b"ok"
            stream = await hop.stream(b"GET", b"/", timeout=5)
            with pytest.raises(ConnectionFailedError, match="closed in the middle"):
                await stream.read()

    run(ask())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", "not HTTP"),
        (b"HTTP/1.1 101 Hm\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "another protocol"),
    ],
)
def test_what_is_no_answer_is_an_error(run: Callable[..., Any], answer: bytes, reason: str) -> None:
    async def ask() -> None:
        async with hop_to(answering(answer)) as hop:
            with pytest.raises(ConnectionFailedError, match=reason):
                await hop.ask(b"GET", b"/", timeout=5)

    run(ask())


@pytest.mark.parametrize("more", [OK.replace(b"ok", b"no"), OK[:-2], OK[:20], b"\r\n"])
def test_more_than_was_asked_for_never_becomes_another_answer(
    run: Callable[..., Any], more: bytes
) -> None:
    async def ask() -> None:
        async with hop_to(answering(OK + more), connections=1) as hop:
            for _ in range(4):
                with suppress(ConnectionFailedError):
                    assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"

    run(ask())


def test_the_answer_to_head_has_no_body_whatever_length_it_tells(
    run: Callable[..., Any],
) -> None:
    async def ask() -> None:
        async with hop_to(answering(OK), connections=1) as hop:
            for _ in range(2):
                assert (await hop.ask(b"HEAD", b"/", timeout=5)).body == b""
            assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"

    run(ask())


def test_no_more_connections_than_allowed_and_who_waits_is_served_in_turn(
    run: Callable[..., Any],
) -> None:
    at_once = most = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        while True:
            await heard(reader)
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.001)
            at_once -= 1
            writer.write(OK)

    async def ask() -> None:
        async with hop_to(talk, connections=3) as hop:
            answers = await asyncio.gather(*[hop.ask(b"GET", b"/", timeout=20) for _ in range(100)])
            assert {answer.body for answer in answers} == {b"ok"}
            assert len(hop._open) == 3

    run(ask())
    assert most == 3


def test_every_wait_ends_at_its_time_and_leaves_its_place_to_others(
    run: Callable[..., Any],
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await heard(reader)
        if b"/never" in head:
            await reader.read()
        writer.write(OK)
        await writer.drain()

    async def ask() -> None:
        async with hop_to(talk, connections=1) as hop:
            never = [hop.ask(b"GET", b"/never", timeout=0.1) for _ in range(3)]
            for error in await asyncio.gather(*never, return_exceptions=True):
                assert isinstance(error, DeadlineExceededError)
            assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"

    run(ask())


def test_a_cancelled_request_closes_its_connection_wherever_it_was(
    run: Callable[..., Any],
) -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await heard(reader)
        if b"/never" in head:
            with suppress(ConnectionError):
                await reader.read()
            closed.set()
            return
        writer.write(OK)
        await writer.drain()

    async def ask() -> None:
        async with hop_to(talk, connections=2) as hop:
            tasks = [asyncio.create_task(hop.ask(b"GET", b"/never", timeout=20)) for _ in range(5)]
            for steps in range(40):  # from the connection's beginning to long after
                task = asyncio.create_task(hop.ask(b"GET", b"/never", timeout=20))
                for _ in range(steps % 8):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in ended)
            # Both places are free again.
            answers = await asyncio.gather(*[hop.ask(b"GET", b"/", timeout=5) for _ in range(4)])
            assert {answer.body for answer in answers} == {b"ok"}
            async with asyncio.timeout(5):
                await closed.wait()
            assert hop._places + len(hop._open) == 2

    run(ask())


def test_a_connection_handed_to_a_request_that_is_cancelled_at_that_moment_is_not_lost(
    run: Callable[..., Any],
) -> None:
    async def ask() -> None:
        async with hop_to(answering(OK), connections=1) as hop:

            async def answered_first() -> None:
                await hop.ask(b"GET", b"/", timeout=5)
                waiting.cancel()  # its connection is given to it, and it does not run yet

            first = asyncio.create_task(answered_first())
            await asyncio.sleep(0)
            waiting = asyncio.create_task(hop.ask(b"GET", b"/", timeout=5))
            await first
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"

    run(ask())


def test_the_place_of_a_dead_connection_is_free_though_its_request_is_cancelled_then(
    run: Callable[..., Any],
) -> None:
    async def ask() -> None:
        async with hop_to(answering(OK), connections=1) as hop:
            await hop.ask(b"GET", b"/", timeout=5)
            (connection,) = hop._open
            cancelled = asyncio.create_task(hop.ask(b"GET", b"/", timeout=5))
            await asyncio.sleep(0)
            connection.connection_lost(None)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            connection._transport.abort()
            assert (await hop.ask(b"GET", b"/", timeout=5)).body == b"ok"

    run(ask())


def test_a_stream_holds_the_server_back_and_may_be_left_early(run: Callable[..., Any]) -> None:
    sent = 0
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await heard(reader)
        writer.write(CHUNKED)
        try:
            for _ in range(1000):
                writer.write(b"10000\r\n%b\r\n" % bytes(0x10000))
                await writer.drain()
                sent += 1
        finally:
            ended.set()

    async def ask() -> None:
        async with hop_to(talk) as hop:
            stream = await hop.stream(b"GET", b"/", timeout=5)
            assert stream.status == 200
            before = -1
            while before != sent:  # until the server has to wait
                before = sent
                await asyncio.sleep(0.2)
            assert 0 < sent < 900
            length = 0
            async for piece in stream:
                length += len(piece)
                if length > 20 << 20:
                    break
            stream.close()
            async with asyncio.timeout(5):
                await ended.wait()
            assert sent < 1000

    run(ask())


def test_a_large_body_goes_both_ways_unchanged(run: Callable[..., Any]) -> None:
    body = bytes(range(256)) * (1 << 16)  # 16 MiB

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, got = await heard(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got))
            writer.write(got)
            await writer.drain()

    async def ask() -> None:
        async with hop_to(talk) as hop:
            assert (await hop.ask(b"POST", b"/", body=body, timeout=20)).body == body
            stream = await hop.stream(b"POST", b"/", body=body, timeout=20)
            assert await stream.read() == body

    run(ask())


def test_an_early_refusal_of_a_large_body_is_heard(run: Callable[..., Any]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()

    async def ask() -> None:
        async with hop_to(talk, connections=1) as hop:
            for _ in range(2):
                answer = await hop.ask(b"POST", b"/", body=bytes(64 << 20), timeout=20)
                assert (answer.status, answer.body) == (413, b"no")

    run(ask())


def test_an_unused_connection_is_not_trusted_for_ever(run: Callable[..., Any]) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK)(reader, writer)

    async def ask() -> None:
        async with hop_to(talk, connections=1, idle_seconds=0.0) as hop:
            for _ in range(3):
                await hop.ask(b"GET", b"/", timeout=5)
                await asyncio.sleep(0.005)

    run(ask())
    assert connections == 3


def test_nothing_listens_and_a_closed_hop_are_errors_at_once(run: Callable[..., Any]) -> None:
    async def ask() -> None:
        async with hop_to(answering(OK)) as hop:
            port = hop._port
        nobody = Hop("127.0.0.1", port)
        with pytest.raises(ConnectionFailedError, match="refused"):
            await nobody.ask(b"GET", b"/", timeout=5)
        with pytest.raises(ConnectionFailedError, match="were closed"):
            await hop.ask(b"GET", b"/", timeout=5)

    run(ask())


def test_tls_is_spoken_with_who_is_trusted_only(run: Callable[..., Any], tmp_path: Path) -> None:
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
            " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        ),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

    async def ask() -> None:
        async with hop_to(answering(OK), server, tls=trusting) as hop:
            for _ in range(2):
                assert (await hop.ask(b"GET", b"/", body=bytes(1 << 20), timeout=5)).body == b"ok"
        async with hop_to(answering(OK), server, tls=ssl.create_default_context()) as hop:
            with pytest.raises(ConnectionFailedError, match="certificate") as caught:
                await hop.ask(b"GET", b"/", timeout=5)
            assert "SSL_CERT_FILE" in str(caught.value.hint)

    run(ask())
