"""Each wire keeps to its calls and its time, whoever shares it and however it ends."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.utils
from tritonclient.grpc import service_pb2 as pb

from tests.client.wires import STYLES, ask, async_wire, wire
from toolkit.client import grpc_codec, http_codec
from toolkit.client.tensors import from_binary, to_binary
from toolkit.client.transport import GetServerMetadata, InferRequest, IsServerLive
from toolkit.client.wire_http import HttpTransport
from toolkit.errors import ConnectionFailedError, DeadlineExceededError, InvalidInputError

Talk = Callable[[Callable[[socket.socket], None]], str]

LIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def echo(number: float) -> InferRequest:
    return InferRequest("echo", {"x": np.full((1, 4), number, np.float32)}, request_id=f"{number}")


def silent(connection: socket.socket) -> None:
    """Take the request and never say a word."""


def test_64_threads_share_one_wire_and_each_gets_its_own_answer(url: str) -> None:
    shared = wire(url)

    def wrong(thread: int) -> int:
        count = 0
        for step in range(25):
            number = thread * 1000.0 + step
            answer = shared.send(echo(number), 60)
            right = np.full((1, 4), number * 2, np.float32)
            count += answer.request_id != f"{number}"
            count += not np.array_equal(answer.outputs["y"], right)
        return count

    with ThreadPoolExecutor(64) as threads:
        assert sum(threads.map(wrong, range(64))) == 0
    shared.close()


def test_1000_tasks_share_one_wire_and_each_gets_its_own_answer(url: str) -> None:
    async def all_at_once() -> list[float]:
        shared = async_wire(url)
        answers = await asyncio.gather(*(shared.send(echo(float(n)), 60) for n in range(1000)))
        await shared.close()
        assert [answer.request_id for answer in answers] == [f"{float(n)}" for n in range(1000)]
        return [float(answer.outputs["y"][0, 3]) for answer in answers]

    assert asyncio.run(all_at_once()) == [n * 2.0 for n in range(1000)]


def test_zero_bytes_at_the_end_of_a_text_survive(url: str, style: str) -> None:
    texts = np.array([["a\0\0"], ["\0"], [""], ["ü\0"]], dtype=object)
    answer = ask(style, url, InferRequest("text", {"text": texts}))

    assert answer.outputs["text"].tolist() == texts.tolist()


def test_a_big_tensor_comes_back_whole(url: str, style: str) -> None:
    texts = np.array([["x" * 3_000_000 + f"{n}"] for n in range(4)], dtype=object)
    answer = ask(style, url, InferRequest("text", {"text": texts}), 60)

    assert answer.outputs["text"].tolist() == texts.tolist()


def test_a_million_short_texts_are_written_no_slower_than_by_tritonclient() -> None:
    texts = np.array([f"text {n}" for n in range(1_000_000)], dtype=object)

    def seconds(write: Callable[[], object]) -> float:
        began = time.process_time()
        write()
        return time.process_time() - began

    ours = seconds(lambda: to_binary(texts))
    theirs = seconds(lambda: tritonclient.utils.serialize_byte_tensor(texts).item())

    assert ours <= theirs
    assert from_binary(to_binary(texts), "BYTES", (1_000_000,))[-1] == "text 999999"


@pytest.mark.parametrize(
    ("timeout", "microseconds"), [(1.5, 1_500_000), (1e-9, 1), (1e300, 2**62), (0.000127, 127)]
)
def test_both_wires_tell_the_server_the_same_limits(timeout: float, microseconds: int) -> None:
    call = InferRequest(
        "m", {"x": np.arange(3.0)}, "7", outputs=("y",), request_id="ü" * 100, priority=300
    )
    request = http_codec.encode(call, timeout)
    assert request.body is not None
    length = int(request.headers[0].partition(": ")[2])
    head = json.loads(request.body[:length])
    message = pb.ModelInferRequest.FromString(grpc_codec.encode(call, timeout)[1])

    assert request.path == "/v2/models/m/versions/7/infer"
    assert (message.model_name, message.model_version) == ("m", "7")
    assert head["id"] == message.id == call.request_id
    assert head["parameters"]["timeout"] == microseconds
    assert message.parameters["timeout"].int64_param == microseconds
    assert head["parameters"]["priority"] == 300
    assert message.parameters["priority"].uint64_param == 300
    assert [output["name"] for output in head["outputs"]] == ["y"]
    assert [output.name for output in message.outputs] == ["y"]
    assert request.body[length:] == message.raw_input_contents[0] == np.arange(3.0).tobytes()


def test_a_priority_below_zero_is_refused(url: str, style: str) -> None:
    call = InferRequest("echo", {"x": np.zeros((1, 4), np.float32)}, priority=-1)
    with pytest.raises(InvalidInputError, match="priority"):
        ask(style, url, call)


def test_headers_travel_with_the_request(talk: Talk, style: str) -> None:
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(LIVE)

    headers = {"x-request-id": "r-17", "traceparent": "00-1-2-01"}
    assert ask(style, f"http://{talk(answer)}", IsServerLive(), 5, headers)
    assert b"\r\nx-request-id: r-17\r\ntraceparent: 00-1-2-01\r\n" in heard[0]
    assert b"\r\nexpect" not in heard[0].lower()


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "ü", "\0"])
def test_a_header_that_would_break_the_request_is_refused(url: str, style: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match="x-request-id"):
        ask(style, url, GetServerMetadata(), 5, {"x-request-id": value})


@pytest.mark.parametrize("hang_up_at_once", [True, False])
def test_a_connection_that_died_while_unused_costs_no_request(
    talk: Talk, hang_up_at_once: bool, style: str
) -> None:
    """The server hangs up after its answer, or when it reads the next request on it."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(LIVE)
        if not hang_up_at_once:
            threading.Thread(target=read_and_hang_up, args=(connection,)).start()
        else:
            connection.close()

    def read_and_hang_up(connection: socket.socket) -> None:
        with suppress(OSError):  # the client may have hung up first
            connection.recv(65536)
            connection.shutdown(socket.SHUT_RDWR)

    url = f"http://{talk(answer)}"

    def threads() -> bool:
        shared = wire(url)
        answers = [shared.send(IsServerLive(), 5) for _ in range(4)]
        shared.close()
        return all(answers)

    async def tasks() -> bool:
        shared = async_wire(url)
        answers = [await shared.send(IsServerLive(), 5) for _ in range(4)]
        await shared.close()
        return all(answers)

    assert asyncio.run(tasks()) if style == "asyncio" else threads()


def test_the_time_out_counts_while_a_request_waits_for_a_connection(talk: Talk) -> None:
    async def two_on_one_connection() -> list[BaseException | bool]:
        shared = async_wire(f"http://{talk(silent)}", connections=1)
        sends = (shared.send(IsServerLive(), 0.3) for _ in range(2))
        try:
            return await asyncio.gather(*sends, return_exceptions=True)
        finally:
            await shared.close()

    began = time.monotonic()
    errors = asyncio.run(two_on_one_connection())

    assert [type(error) for error in errors] == [DeadlineExceededError] * 2
    assert time.monotonic() - began < 5


def test_a_cancelled_request_hangs_up_and_leaves_the_wire_usable(talk: Talk) -> None:
    hung_up = threading.Event()
    first = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        if first.is_set():
            connection.sendall(LIVE)
            return
        first.set()
        if not connection.recv(1):
            hung_up.set()

    async def cancel_then_ask() -> bool:
        shared = async_wire(f"http://{talk(answer)}")
        try:
            await _cancelled(shared.send(IsServerLive(), 30), first)
            assert await asyncio.to_thread(hung_up.wait, 10)
            return await shared.send(IsServerLive(), 10)
        finally:
            await shared.close()

    assert asyncio.run(cancel_then_ask())


async def _cancelled(send: Awaitable[Any], arrived: threading.Event) -> None:
    task = asyncio.ensure_future(send)
    assert await asyncio.to_thread(arrived.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Waiting(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A server that notes when a call arrives and when it is over, and never answers."""

    def __init__(self) -> None:
        self.arrived, self.over = threading.Event(), threading.Event()

    def service(self, _: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.wait)

    def wait(self, _: bytes, context: Any) -> bytes:
        context.add_callback(self.over.set)
        self.arrived.set()
        self.over.wait(30)
        return b""


@pytest.fixture
def waiting() -> Iterator[tuple[Waiting, str]]:
    handler = Waiting()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, (handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield handler, f"grpc://127.0.0.1:{port}"
        server.stop(0).wait()


def test_a_cancelled_call_is_cancelled_at_the_server(waiting: tuple[Waiting, str]) -> None:
    handler, url = waiting

    async def cancel() -> None:
        shared = async_wire(url)
        await _cancelled(shared.send(IsServerLive(), 30), handler.arrived)
        assert await asyncio.to_thread(handler.over.wait, 10)
        await shared.close()

    asyncio.run(cancel())


def test_closing_an_async_wire_fails_what_is_under_way(url: str) -> None:
    async def close_under_way() -> None:
        shared = async_wire(url)
        seconds = np.array([[1.0]], np.float32)
        under_way = asyncio.ensure_future(
            shared.send(InferRequest("slow", {"seconds": seconds}), 30)
        )
        await shared.send(GetServerMetadata(), 30)
        await shared.close()
        await shared.close()
        for send in (under_way, shared.send(GetServerMetadata(), 30)):
            with pytest.raises(ConnectionFailedError, match="closed"):
                await send

    asyncio.run(close_under_way())


def test_closing_an_http_wire_ends_what_other_threads_wait_for(talk: Talk) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        arrived.set()
        ended.wait(20)

    shared = HttpTransport(f"http://{talk(answer)}", None)
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(shared.send, IsServerLive(), 30)
        assert arrived.wait(10)
        shared.close()
        shared.close()

        with pytest.raises(ConnectionFailedError, match="closed"):
            under_way.result(10)
    ended.set()
    with pytest.raises(ConnectionFailedError, match="closed"):
        shared.send(IsServerLive(), 30)
    assert not shared._idle


def test_an_async_wire_follows_its_user_into_the_next_loop(url: str) -> None:
    shared = async_wire(url)

    async def once() -> bool:
        return await shared.send(IsServerLive(), 10)

    async def last() -> bool:
        try:
            return await once()
        finally:
            await shared.close()

    assert asyncio.run(once())
    assert asyncio.run(last())


def test_two_loops_at_once_are_told_to_have_a_client_each(url: str) -> None:
    async def in_another_thread() -> None:
        shared = async_wire(url)
        await shared.send(IsServerLive(), 10)
        with pytest.raises(InvalidInputError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, shared.send(IsServerLive(), 10))
        await shared.close()

    asyncio.run(in_another_thread())


def test_a_wire_that_nobody_closed_is_warned_of_and_frees_itself(url: str, style: str) -> None:
    async def forget() -> None:
        if style == "asyncio":
            await async_wire(url).send(IsServerLive(), 10)
        else:
            wire(url).send(IsServerLive(), 10)

    with pytest.warns(ResourceWarning, match=r"unclosed.*Transport"):
        asyncio.run(forget())
