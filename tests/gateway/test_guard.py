"""What every request passes: its id, its caller, its size, its depth, and who never ends."""

import asyncio
import base64
import hashlib
import http.client
import random
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest
import uvicorn

from toolkit.gateway import guard
from toolkit.gateway.exchange import Refused
from toolkit.gateway.guard import Disconnected, check_depth, client_address, read_body, request_id

MIB = 1 << 20


def test_an_id_that_can_stand_in_a_log_is_kept() -> None:
    for given in (b"a", b"6f1e-77 (x)", b"x" * 128):
        assert request_id({b"x-request-id": given}) == given.decode()


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a\nb", b"a\x1b[31m", b"a\x00", "ü".encode()])
def test_any_other_id_is_replaced(given: bytes) -> None:
    made = {request_id({b"x-request-id": given}) for _ in range(100)} | {request_id({})}
    assert len(made) == 101
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


PEER = {"client": ("10.0.0.9", 1234)}


def test_the_caller_is_who_the_proxy_says_or_the_peer() -> None:
    forwarded, real = b"203.0.113.5, 10.0.0.1", b"198.51.100.7"
    both = {b"x-forwarded-for": forwarded, b"x-real-ip": real}
    assert client_address(PEER, both) == "203.0.113.5"
    assert client_address(PEER, {b"x-real-ip": real}) == "198.51.100.7"
    assert client_address(PEER, {}) == "10.0.0.9"
    assert client_address(PEER, both, trust_forwarded=False) == "10.0.0.9"
    assert client_address({"client": None}, {}) == ""
    assert client_address(PEER, {b"x-forwarded-for": b", 10.0.0.1"}) == "10.0.0.9"


@pytest.mark.parametrize("given", [b"", b" ", b"a\nb", b"\x1b[2J", b"\xff", b"9" * 5000])
def test_an_address_that_could_not_stand_in_a_log_is_passed_over(given: bytes) -> None:
    assert client_address(PEER, {b"x-forwarded-for": given, b"x-real-ip": given}) == "10.0.0.9"


def parts(*bodies: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    left = list(bodies)

    async def receive() -> dict[str, Any]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


def read(
    receive: Callable[[], Awaitable[dict[str, Any]]],
    limit: int = 10,
    headers: dict[bytes, bytes] | None = None,
    timeout: float = 5.0,
) -> bytes:
    return asyncio.run(read_body(receive, limit, headers or {}, timeout_seconds=timeout))


def test_a_body_is_read_in_one_part_or_many() -> None:
    assert read(parts(b"0123456789")) == b"0123456789"
    assert read(parts(b"01234", b"", b"56789")) == b"0123456789"
    assert read(parts(b"")) == b""
    assert read(parts(b"0123456789"), headers={b"content-length": b"10"}) == b"0123456789"


def test_parts_that_arrive_later_are_waited_for() -> None:
    given = parts(b"01", b"23", b"45")

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        return await given()

    assert read(receive) == b"012345"


async def unread() -> dict[str, Any]:
    pytest.fail("nothing is read of a body that is refused by its head")


@pytest.mark.parametrize("declared", [b"11", b"1000000000", b"9" * 5000])
def test_a_body_that_is_declared_too_long_is_not_read(declared: bytes) -> None:
    with pytest.raises(Refused, match="larger than 10 bytes") as refused:
        read(unread, headers={b"content-length": declared})
    assert refused.value.status == 413
    assert (b"connection", b"close") in refused.value.headers


@pytest.mark.parametrize("declared", [b"-1", b"1e3", b"", b"0x10", b"\xd9\xa1", b"\xb9"])
def test_a_length_that_is_no_number_is_refused(declared: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(unread, headers={b"content-length": declared})
    assert refused.value.status == 400


def test_a_gigabyte_in_parts_is_refused_when_the_limit_is_passed() -> None:
    told = 0

    async def receive() -> dict[str, Any]:
        nonlocal told
        told += 65536
        return {"type": "http.request", "body": bytes(65536), "more_body": told < 1 << 30}

    with pytest.raises(Refused) as refused:
        read(receive, MIB)
    assert refused.value.status == 413
    assert told == MIB + 65536


def test_one_part_above_the_limit_is_refused_as_well() -> None:
    for receive in (parts(b"x" * 11), parts(b"x" * 11, b"")):
        with pytest.raises(Refused) as refused:
            read(receive)
        assert refused.value.status == 413


def test_a_body_that_never_comes_and_one_that_trickles_are_given_up() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def trickle() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    for receive in (never, trickle):
        with pytest.raises(Refused, match="did not arrive within") as refused:
            read(receive, 10_000, timeout=0.05)
        assert refused.value.status == 408


def test_a_caller_who_leaves_ends_it_quietly() -> None:
    async def left() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def leaves() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    begun = parts(b"0", b"1")

    async def leaves_later() -> dict[str, Any]:
        message = await begun()
        return message if message["more_body"] else {"type": "http.disconnect"}

    for receive in (left, leaves, leaves_later):
        with pytest.raises(Disconnected):
            read(receive)


def test_a_request_that_is_cancelled_while_it_waits_ends_what_it_waits_for() -> None:
    ended: list[str] = []

    async def never() -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            await asyncio.sleep(0)
            ended.append("cleaned up")
            raise
        raise AssertionError

    async def main() -> None:
        task = asyncio.create_task(read_body(never, 10, {}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == ["cancelled", "cleaned up"]


def test_a_cancellation_between_two_turns_of_the_loop_is_not_lost() -> None:
    async def turning() -> dict[str, Any]:
        for _ in range(50):
            await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x"}

    async def main() -> None:
        task = asyncio.create_task(read_body(turning, 10, {}))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_an_error_of_what_it_waits_for_is_its_own() -> None:
    async def broken() -> dict[str, Any]:
        await asyncio.sleep(0)
        raise OSError

    with pytest.raises(OSError):
        read(broken)


def deeper(body: bytes, limit: int) -> bool:
    try:
        check_depth(body, limit)
    except Refused as refused:
        return refused.status == 422
    return False


def depth(content: object) -> int:
    if isinstance(content, dict):
        return 1 + max(map(depth, content.values()), default=0)
    return 1 + max(map(depth, content), default=0) if isinstance(content, list) else 0


@pytest.mark.parametrize("seed", range(20))
def test_depth_is_that_of_the_json(seed: int) -> None:
    chance = random.Random(seed)
    texts = ["", '"', "\\", '\\"', "[[[[", "]]]", '{"a":[', "\n", "ü[", 'x\\\\"[', "\\[", "plain"]

    def any_json(left: int) -> object:
        kind = chance.random() if left else 0
        if kind < 0.4:
            return chance.choice([1, -2.5, None, True, *texts])
        if kind < 0.7:
            return [any_json(left - 1) for _ in range(chance.randint(0, 4))]
        return {
            chance.choice(texts) + str(n): any_json(left - 1) for n in range(chance.randint(0, 4))
        }

    for _ in range(100):
        content = any_json(7)
        body = orjson.dumps(content)
        found = depth(content)
        assert not deeper(body, found)
        assert found == 0 or deeper(body, found - 1)


def test_many_rows_are_wide_and_not_deep() -> None:
    body = orjson.dumps({"features": [[1.0, 2.0]] * 1000})
    assert not deeper(body, 3)
    assert deeper(body, 2)


def test_brackets_in_strings_do_not_count_wherever_a_piece_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = orjson.dumps([{"a": "[" * 40 + '\\"' * 7 + "{" * 40}, ["]" * 9], [[[]]]])
    for chunk in range(1, 120):
        monkeypatch.setattr(guard, "_CHUNK", chunk)
        assert not deeper(body, 4)
        assert deeper(body, 3)


@pytest.mark.parametrize(
    ("body", "is_deeper"),
    [
        (b"[" * 100_000 + b"]" * 100_000, True),
        (b'{"a":' * 100_000, True),
        (b"[" * 100_000, True),
        (b'["' + b"[" * 4_000_000 + b'"]', False),
        (b"[" + b"[]," * 1_000_000 + b"[]]", False),
        (b'["' + b'\\"[' * 1_000_000 + b'"]', False),
        (b'"' * 4_000_000, False),
        (b"\\" * 4_000_000, False),
        (b"]" * 1_000_000 + b"[" * 1_000_000, False),
        (b"", False),
    ],
)
def test_hostile_bodies_are_judged_at_once(body: bytes, is_deeper: bool) -> None:
    assert deeper(body, 32) == is_deeper


def test_answers_are_not_guessed_at_kept_or_framed() -> None:
    headers = dict(guard.SECURE_HEADERS)
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-frame-options"] == b"DENY"


def test_a_page_runs_only_the_scripts_that_are_written_in_it() -> None:
    page = b"<html><script>one()</script><p><script>\ntwo()\n</script></html>"
    policy = dict(guard.page_headers(page))[b"content-security-policy"].decode()
    for script in (b"one()", b"\ntwo()\n"):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert guard.page_headers(b"<html></html>")[0][1].endswith(b"script-src 'none'")


# A real server, for what only a real connection does.


async def echo_length(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the length of the body, or with the refusal."""
    headers = dict(scope["headers"])
    try:
        body = await read_body(receive, MIB, headers, timeout_seconds=0.3)
        status, told, extra = 200, b"%d" % len(body), []
    except Refused as refused:
        status, told, extra = refused.status, refused.detail.encode(), list(refused.headers)
    except Disconnected:
        return
    length = (b"content-length", b"%d" % len(told))
    await send({"type": "http.response.start", "status": status, "headers": [length, *extra]})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    config = uvicorn.Config(echo_length, lifespan="off", log_level="error", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    listening.close()


def answer(port: int, head: bytes, bodies: Iterator[bytes]) -> tuple[int, int]:
    """Send a request piece by piece; return the status and how many bytes were sent."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        try:
            for body in bodies:
                connection.sendall(body)
                sent += len(body)
        except OSError:
            pass  # the server has closed it; what it said before is still to be read
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, sent


def test_a_server_reads_bodies_of_any_form(port: int) -> None:
    chunked = b"Transfer-Encoding: chunked"
    pieces = iter([b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"])
    assert answer(port, b"Content-Length: 5", iter([b"ab", b"cde"]))[0] == 200
    assert answer(port, chunked, pieces)[0] == 200


def test_a_server_refuses_a_declared_gigabyte_before_it_is_sent(port: int) -> None:
    assert answer(port, b"Content-Length: 1000000000", iter([])) == (413, 0)


def test_a_server_refuses_an_undeclared_gigabyte_soon_after_its_limit(port: int) -> None:
    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
    status, sent = answer(port, b"Transfer-Encoding: chunked", (piece for _ in range(16384)))
    assert status == 413
    assert sent < 64 * MIB, "what is beyond the limit lies in the buffers of the connection"


def test_a_server_gives_up_a_caller_who_says_more_is_coming_and_sends_nothing(port: int) -> None:
    assert answer(port, b"Content-Length: 100", iter([b"x"])) == (408, 1)
