"""Triton's gRPC API through the gateway: the same bytes, without keys and controls."""

import asyncio
import logging
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil
import pytest
import tritonclient.grpc.aio as official
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from tests.faults.replica import ports
from toolkit.client import AsyncClient
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError, PortInUseError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.v2_grpc import STATUSES, TOKEN_METADATA, Passed, V2Grpc

SERVICE = "/inference.GRPCInferenceService/"
BIG = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def anybody(_: dict[str, str], __: str | None) -> str:
    return "k1"


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
async def through(url: str, check: Any = anybody, **options: Any) -> AsyncIterator[str]:
    """Open a gateway to ``url`` and give its address."""
    server = V2Grpc(url, check, **options)
    port = await server.serve("127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


Ended = tuple[str, str, bytes, dict[str, Any]]


async def call(address: str, method: str, message: bytes, **options: Any) -> Ended:
    """Call a method with bytes; give its code, its details, its answer and what trails it."""
    async with grpc.aio.insecure_channel(address, options=BIG) as channel:
        onward = channel.unary_unary(method)(message, **{"timeout": 20, **options})
        try:
            answer = await onward
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details(), b"", dict(error.trailing_metadata())
        return "OK", "", answer, dict(await onward.trailing_metadata())


def echo(*rows: list[float], model: str = "echo") -> pb.ModelInferRequest:
    x = np.array(rows or [[1, 2, 3, 4]], np.float32)
    message = pb.ModelInferRequest(model_name=model, id="seven")
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    return message


def text_of(said: str, pause: float = 0.0) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="words", id=said)
    message.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(
        said.encode()
    )
    message.inputs.add(name="pause", datatype="FP32", shape=[1]).contents.fp32_contents.append(
        pause
    )
    return message


CALLS = {
    "live": ("ServerLive", pb.ServerLiveRequest()),
    "server": ("ServerMetadata", pb.ServerMetadataRequest()),
    "ready": ("ModelReady", pb.ModelReadyRequest(name="echo")),
    "metadata": ("ModelMetadata", pb.ModelMetadataRequest(name="echo")),
    "config": ("ModelConfig", pb.ModelConfigRequest(name="echo")),
    "infer": ("ModelInfer", echo([1, 2, 3, 4], [float("nan"), float("inf"), -0.0, 1e-45])),
    "unknown model": ("ModelInfer", echo(model="nobody")),
    "wrong shape": ("ModelInfer", echo([1.0])),
    "restricted": ("RepositoryIndex", pb.RepositoryIndexRequest()),
    "statistics": ("ModelStatistics", pb.ModelStatisticsRequest(name="people")),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_through_the_gateway_is_that_of_triton_byte_for_byte(
    triton: Server, name: str
) -> None:
    method, message = CALLS[name]
    written = message.SerializeToString()

    async def both() -> tuple[Ended, Ended]:
        async with through(triton.grpc_url) as address:
            return (
                await call(triton.grpc_url.removeprefix("grpc://"), SERVICE + method, written),
                await call(address, SERVICE + method, written),
            )

    directly, passed = asyncio.run(both())
    assert passed[:3] == directly[:3]
    assert len(passed[3].pop("x-request-id")) == 32
    assert passed[3] == directly[3]


def test_a_method_that_triton_does_not_know_is_unimplemented(triton: Server) -> None:
    async def both() -> list[str]:
        async with through(triton.grpc_url) as address:
            return [
                (await call(address, method, b""))[0]
                for method in (SERVICE + "Nothing", "/other.Service/ModelInfer")
            ]

    assert asyncio.run(both()) == ["UNIMPLEMENTED"] * 2


def test_the_health_check_of_grpc_itself_passes(triton: Server) -> None:
    async def one() -> Ended:
        async with through(triton.grpc_url) as address:
            return await call(address, "/grpc.health.v1.Health/Check", b"")

    assert asyncio.run(one())[:3] == ("OK", "", b"\x08\x01")


def test_the_official_client_and_ours_use_it_as_a_triton(words: Server) -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)

    async def use() -> None:
        async with through(words.grpc_url) as address:
            async with AsyncClient(f"grpc://{address}") as ours:
                assert (await ours.predict("echo", x)).outputs["y"].tolist() == [[2, 4, 6, 8]]
            client = official.InferenceServerClient(address)
            asked = official.InferInput("x", [1, 4], "FP32")
            asked.set_data_from_numpy(x)
            answer = await client.infer("echo", [asked], request_id="r", client_timeout=20)
            assert answer.as_numpy("y").tolist() == [[2, 4, 6, 8]]
            assert answer.get_response().id == "r"
            assert await client.is_model_ready("echo")
            with pytest.raises(InferenceServerException, match="unknown model"):
                await client.get_model_metadata("nobody")
            await client.close()

    asyncio.run(use())


async def spoken(address: str, *messages: pb.ModelInferRequest) -> AsyncIterator[str]:
    """Send messages on one stream, and yield the words of its answers."""
    async with grpc.aio.insecure_channel(address) as channel:

        async def each() -> AsyncIterator[bytes]:
            for message in messages:
                yield message.SerializeToString()

        stream = channel.stream_stream(f"{SERVICE}ModelStreamInfer")(each(), timeout=20)
        async for answer in stream:
            said = pb.ModelStreamInferResponse.FromString(answer)
            if said.infer_response.raw_output_contents:
                yield said.infer_response.raw_output_contents[0][4:].decode()
            else:
                yield said.error_message


def test_a_streams_answers_arrive_while_the_model_still_works(words: Server) -> None:
    loop_times: list[float] = []

    async def listen() -> list[str]:
        async with through(words.grpc_url) as address:
            said = []
            async for word in spoken(address, text_of("one two three", 0.3)):
                said.append(word)
                loop_times.append(asyncio.get_running_loop().time())
            return said

    assert asyncio.run(listen()) == ["one", "two", "three"]
    assert loop_times[-1] - loop_times[0] > 0.4


def test_each_message_of_a_stream_is_checked_and_a_refusal_ends_it(words: Server) -> None:
    models: list[str | None] = []
    heard: list[Passed] = []

    def check(_: dict[str, str], model: str | None) -> str:
        models.append(model)
        if model == "echo":
            raise Refused(403, "not this model")
        return "k1"

    async def listen() -> list[str]:
        said = []
        async with through(words.grpc_url, check, heard=heard.append) as address:
            words_said = spoken(address, text_of("a b"), echo(), text_of("c"))
            said += [await anext(words_said), await anext(words_said)]
            with pytest.raises(grpc.aio.AioRpcError, match="not this model") as refused:
                await anext(words_said)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        return said

    assert asyncio.run(listen()) == ["a", "b"]
    assert models == [None, "words", "echo"]
    assert [(each.method, each.code) for each in heard] == [
        ("ModelStreamInfer", "PERMISSION_DENIED")
    ]


@pytest.mark.parametrize("status", [*STATUSES, 418])
def test_a_refusal_is_a_status_with_its_headers(triton: Server, status: int) -> None:
    seen: list[Any] = []

    def check(metadata: dict[str, str], model: str | None) -> str:
        seen.append((metadata.get("x-api-key"), model))
        raise Refused(status, "not now", ((b"retry-after", b"7"),))

    async def one() -> Ended:
        async with through(triton.grpc_url, check) as address:
            return await call(
                address,
                f"{SERVICE}ModelInfer",
                echo().SerializeToString(),
                metadata=(("x-api-key", "secret"), ("x-request-id", "mine")),
            )

    code, details, _, trailing = asyncio.run(one())
    assert code == STATUSES.get(status, grpc.StatusCode.INTERNAL).name
    assert details == "not now"
    assert trailing == {"retry-after": "7", "x-request-id": "mine"}
    assert seen == [("secret", "echo")]


def test_what_is_no_message_and_a_fault_of_the_gateway_are_told_apart(
    triton: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(_: dict[str, str], __: str | None) -> str:
        nothing: dict[str, str] = {}
        return nothing["a secret"]

    async def both() -> tuple[Ended, Ended]:
        async with through(triton.grpc_url) as address:
            spoilt = await call(address, f"{SERVICE}ModelInfer", b"\x0a\xff")
        async with through(triton.grpc_url, faulty) as address:
            return spoilt, await call(address, f"{SERVICE}ServerLive", b"")

    with caplog.at_level(logging.ERROR):
        spoilt, inside = asyncio.run(both())
    assert spoilt[0] == "INVALID_ARGUMENT"
    assert inside[:2] == ("INTERNAL", "the gateway failed inside; its log says why")
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="text")),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="text")),
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="a")),
        ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
    ],
)
def test_a_control_needs_tritons_own_token(triton: Server, method: str, message: Any) -> None:
    written = message.SerializeToString()

    async def each() -> list[Ended]:
        async with through(triton.grpc_url) as closed:
            ended = [await call(closed, SERVICE + method, written)]
        async with through(triton.grpc_url, token=lambda: triton.token) as address:
            wrong = ((TOKEN_METADATA, "guess"),)
            ended += [
                await call(address, SERVICE + method, written, metadata=metadata)
                for metadata in ((), wrong)
            ]
        return ended

    no_token, none, wrong = asyncio.run(each())
    assert (no_token[0], none[0], wrong[0]) == ("PERMISSION_DENIED",) * 3
    assert "TRITON_TOKEN" in no_token[1]
    assert TOKEN_METADATA in none[1]


def test_with_the_token_a_control_passes(triton: Server) -> None:
    async def one() -> Ended:
        async with through(triton.grpc_url, token=lambda: triton.token) as address:
            load = pb.RepositoryModelLoadRequest(model_name="text").SerializeToString()
            own = ((TOKEN_METADATA, triton.token),)
            return await call(address, f"{SERVICE}RepositoryModelLoad", load, metadata=own)

    assert asyncio.run(one())[0] == "OK"


class Upstream(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A server that keeps what it hears, and says what a test wants it to say."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.metadata: list[tuple[str, Any]] = []
        self.left: float | None = None
        self.is_cancelled = asyncio.Event()
        self._answer = answer

    def service(self, _: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._one)

    async def _one(self, message: bytes, context: Any) -> bytes:
        self.metadata = list(context.invocation_metadata())
        self.left = context.time_remaining()
        try:
            await self._answer(context)
        except asyncio.CancelledError:
            self.is_cancelled.set()
            raise
        return message


@asynccontextmanager
async def upstream(answer: Callable[[Any], Any]) -> AsyncIterator[tuple[Upstream, str]]:
    served = Upstream(answer)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((served,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield served, f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(0)


def test_metadata_goes_both_ways_but_for_keys() -> None:
    given = (
        ("x-api-key", "secret-1"),
        ("authorization", "Bearer secret-2"),
        ("traceparent", "00-1"),
        ("x-many", "1"),
        ("x-many", "2"),
        ("x-binary-bin", b"\x00\xff"),
        ("x-request-id", "mine"),
        (TOKEN_METADATA, "the caller's own"),
    )

    async def say(context: Any) -> None:
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"), ("x-last-bin", b"\x01")))

    async def one() -> tuple[list[tuple[str, Any]], dict[str, Any], dict[str, Any]]:
        async with (
            upstream(say) as (served, url),
            through(url, token=lambda: "ours") as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            onward = channel.unary_unary(f"{SERVICE}Any")(b"", metadata=given, timeout=20)
            await onward
            first, last = await onward.initial_metadata(), await onward.trailing_metadata()
            return served.metadata, dict(first), dict(last)

    heard, first, last = asyncio.run(one())
    own = ("user-agent",)
    assert sorted(pair for pair in heard if pair[0] not in own) == sorted(given[2:])
    assert first == {"x-first": "1"}
    assert last == {"x-last": "2", "x-last-bin": b"\x01", "x-request-id": "mine"}


def test_deadlines_are_passed_on_and_there_is_one_without() -> None:
    async def silent(_: Any) -> None:
        await asyncio.Event().wait()

    async def quick(_: Any) -> None:
        pass

    async def one(answer: Any, timeout: float | None) -> tuple[str, float]:
        async with upstream(answer) as (served, url), through(url, timeout_seconds=0.3) as address:
            code, *_ = await call(address, f"{SERVICE}ModelReady", b"", timeout=timeout)
            assert served.left is not None
            return code, served.left

    code, left = asyncio.run(one(silent, None))
    assert code == "DEADLINE_EXCEEDED"
    assert left < 0.4
    code, left = asyncio.run(one(quick, 60))
    assert code == "OK"
    assert 1 < left < 61


def test_a_cancelled_call_is_cancelled_upstream() -> None:
    heard: list[Passed] = []

    async def one() -> None:
        started = asyncio.Event()

        async def silent(_: Any) -> None:
            started.set()
            await asyncio.Event().wait()

        async with (
            upstream(silent) as (served, url),
            through(url, heard=heard.append) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            onward = channel.unary_unary(f"{SERVICE}ModelReady")(b"")
            task = asyncio.ensure_future(onward)
            async with asyncio.timeout(10):
                await started.wait()
                onward.cancel()
                await served.is_cancelled.wait()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(one())
    assert [each.code for each in heard] == ["CANCELLED"]


def test_who_hears_of_calls_hears_all_of_each(triton: Server) -> None:
    heard: list[Passed] = []

    async def one() -> None:
        async with through(triton.grpc_url, heard=heard.append) as address:
            message = echo()
            message.model_version = "1"
            metadata = (("x-request-id", "mine"),)
            written = message.SerializeToString()
            await call(address, f"{SERVICE}ModelInfer", written, metadata=metadata)

    asyncio.run(one())
    (passed,) = heard
    assert passed.client.startswith("ipv4:127.0.0.1:")
    assert passed.seconds > 0
    said = (passed.method, passed.model, passed.version, passed.key_id, passed.request_id)
    assert said == ("ModelInfer", "echo", "1", "k1", "mine")
    assert passed.code == "OK"


def test_a_message_that_is_too_large_is_refused_and_a_large_one_passes(triton: Server) -> None:
    x = np.arange(1 << 20, dtype=np.float32).reshape(-1, 2)  # 4 MiB
    message = pb.ModelInferRequest(model_name="unbatched")
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    written = message.SerializeToString()

    async def one(largest: int) -> Ended:
        async with through(triton.grpc_url, largest_bytes=largest) as address:
            return await call(address, f"{SERVICE}ModelInfer", written)

    assert asyncio.run(one(1 << 20))[0] == "RESOURCE_EXHAUSTED"
    code, _, answer, _ = asyncio.run(one(8 << 20))
    assert code == "OK"
    total = pb.ModelInferResponse.FromString(answer).raw_output_contents[0]
    assert total == x.astype(np.float64).sum(axis=1).tobytes()


def test_a_triton_that_dies_is_unavailable_until_it_is_back(tmp_path: Path) -> None:
    http, port, metrics = ports(["127.0.0.1"])
    options = ServerOptions(http_port=http, grpc_port=port, metrics_port=metrics)
    live = f"{SERVICE}ServerLive"

    async def live_and_die() -> None:
        async with through(f"grpc://127.0.0.1:{port}") as address:
            for _ in range(2):
                server = await asyncio.to_thread(embedded.start, tmp_path, options)
                async with asyncio.timeout(10):
                    # gRPC looks for a server that was gone once a second at the latest.
                    while (await call(address, live, b""))[0] != "OK":  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                process = server.process()
                assert process is not None
                process.kill()
                psutil.wait_procs([process], timeout=10)
                code, details, _, trailing = await call(address, live, b"")
                assert code == "UNAVAILABLE"
                assert details.startswith("Triton cannot be reached")
                assert str(port) not in details
                assert trailing["retry-after"] == "1"

    try:
        asyncio.run(live_and_die())
    finally:
        embedded.stop(tmp_path, timeout=0)


def test_a_port_that_is_taken_and_a_wrong_address_are_errors(triton: Server) -> None:
    async def twice() -> None:
        async with through(triton.grpc_url) as address:
            second = V2Grpc(triton.grpc_url, anybody)
            with pytest.raises(PortInUseError, match="cannot listen"):
                await second.serve("127.0.0.1", int(address.rpartition(":")[2]))
            await second.stop()

    asyncio.run(twice())
    with pytest.raises(ConfigError, match="gRPC port"):
        V2Grpc(triton.http_url, anybody)


def test_it_speaks_tls_with_a_certificate(triton: Server, tmp_path: Path) -> None:
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
            " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        ),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    chain, key = (tmp_path / "cert.pem").read_bytes(), (tmp_path / "key.pem").read_bytes()

    async def one() -> bytes:
        server = V2Grpc(triton.grpc_url, anybody)
        port = await server.serve("127.0.0.1", 0, certificate=(chain, key))
        credentials = grpc.ssl_channel_credentials(chain)
        try:
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                live: bytes = await channel.unary_unary(f"{SERVICE}ServerLive")(b"", timeout=20)
                return live
        finally:
            await server.stop(0)

    assert pb.ServerLiveResponse.FromString(asyncio.run(one())).live
