"""Big tensors through shared memory, on both wires, and nothing of it left behind."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2_grpc

from toolkit.client import TOKEN_HEADER, Client
from toolkit.client import shared_memory as memory
from toolkit.client.shared_memory import FOLDER, Region, stale, sweep
from toolkit.client.shared_memory_calls import (
    GRPC,
    HTTP,
    GetSharedMemoryStatus,
    InferShared,
    RegisteredMemory,
    UnregisterSharedMemory,
)
from toolkit.client.tensors import DTYPES
from toolkit.client.transport import Answer, Call
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError, InvalidInputError

Ask = Callable[[Call[Any]], Any]
MANY = 1 << 24  # FP32 numbers in 64 MiB


def ask_http(server: Server, call: Call[Answer]) -> Any:
    encode, decode = HTTP[type(call)]
    path, body = encode(call, 30.0)
    request = urllib.request.Request(
        server.http_url + path, data=body, headers={TOKEN_HEADER: server.token}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return decode(reply.read())


def ask_grpc(server: Server, call: Call[Answer]) -> Any:
    method, encode, decode = GRPC[type(call)]
    token = ((f"triton-grpc-protocol-{TOKEN_HEADER}", server.token),)
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return decode(getattr(stub, method)(encode(call, 30.0), timeout=30, metadata=token))


@pytest.fixture
def ask(server: Server, scheme: str) -> Ask:
    one = ask_http if scheme == "http" else ask_grpc
    return lambda call: one(server, call)


@pytest.fixture(scope="module")
def server(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Serve models of every data type, of text, and one that turns the sign of many FP32."""
    repository = tmp_path_factory.mktemp("shared") / "repository"
    for model in ("types", "people"):
        shutil.copytree(Path(__file__).parent / "models" / model, repository / model)
    (repository / "negated/1").mkdir(parents=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negated", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, repository / "negated/1/model.onnx")
    (repository / "negated/config.pbtxt").write_text(
        'backend: "onnxruntime"\n'
        'input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }\n'
        'output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }\n'
        "instance_group { kind: KIND_CPU }\n"
    )
    running = serve(repository)
    with Client(running.http_url, token=running.token) as control:
        for name in ("negated", "types", "people"):
            control.load(name)
    return running


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert left_by(os.getpid()) == []


def left_by(pid: int) -> list[str]:
    return [path.name for path in FOLDER.glob(f"triton-client-*-{pid}-*-*")]


def test_64_mib_go_in_and_come_out_right(ask: Ask) -> None:
    numbers = np.random.default_rng(0).standard_normal(MANY, np.float32)
    with Region({"x": numbers}, {"y": ((MANY,), "FP32")}) as region:
        ask(region.registration())
        try:
            answer = ask(region.request("negated", request_id="big"))
            outputs = region.read(answer)
        finally:
            ask(region.removal())

    assert (answer.model, answer.version, answer.request_id) == ("negated", "1", "big")
    np.testing.assert_array_equal(outputs["y"], -numbers)


def test_new_values_are_sent_by_writing_them_and_shorter_answers_are_read_right(ask: Ask) -> None:
    with Region({"x": np.array([1, 2], np.float32)}, {"y": ((5,), np.float32)}) as region:
        ask(region.registration())
        first = region.read(ask(region.request("negated")))["y"].tolist()
        region.inputs["x"][:] = 7
        second = region.read(ask(region.request("negated", version="1", priority=0)))["y"].tolist()
        ask(region.removal())

    assert (first, second) == ([-1, -2], [-7, -7])
    assert region.outputs["y"][:2].tolist() == second


def test_every_data_type_goes_in_and_numbers_come_out(ask: Ask) -> None:
    values = [0, 1, 1]
    inputs: dict[str, Any] = {
        name: np.array(values, dtype) for name, dtype in DTYPES.items() if name != "BYTES"
    }
    outputs = {name: ((3,), array.dtype) for name, array in inputs.items()}
    with Region(inputs | {"STRING": ["a", "bé", ""]}, outputs) as region:
        ask(region.registration())
        answer = region.read(ask(region.request("types")))
        ask(region.removal())

    assert {name: array.tolist() for name, array in answer.items()} == dict.fromkeys(inputs, values)
    assert all(answer[name].dtype == array.dtype for name, array in inputs.items())


def test_text_arrives_as_it_was(server: Server) -> None:
    inputs = {"age": np.array([[7], [8]]), "city": np.array([["a"], ["é\0"]], object)}
    with Region(inputs, {"line": ((2, 1), "INT8")}) as region:
        ask_http(server, region.registration())
        path, body = HTTP[InferShared][0](replace(region.request("people"), outputs={}), 30.0)
        with urllib.request.urlopen(server.http_url + path, data=body, timeout=30) as reply:
            (line,) = json.load(reply)["outputs"]
        ask_http(server, region.removal())

    assert line["data"] == ["a:7", "é\0:8"]


def test_an_output_of_another_type_than_announced_is_refused(ask: Ask) -> None:
    with Region({"x": np.ones(1, np.float32)}, {"y": ((1,), "INT32")}) as region:
        ask(region.registration())
        answer = ask(region.request("negated"))
        ask(region.removal())
        with pytest.raises(InvalidInputError, match=r"'y' is FP32 \[1\].*for INT32 \[1\]"):
            region.read(answer)


def test_the_server_tells_what_is_registered_until_it_is_not(ask: Ask) -> None:
    with Region({"x": [1.0]}, {"y": ((1,), "FP32")}) as region:
        ask(region.registration())
        known = RegisteredMemory(region.name, region.key, 0, region.byte_size)
        assert known in ask(GetSharedMemoryStatus())
        assert stale([known]) == ()
        ask(region.removal())
        ask(region.removal())
        assert known not in ask(GetSharedMemoryStatus())


OWNER = """
import os, sys, signal, time
sys.path.insert(0, {here!r})
from types import SimpleNamespace
from test_shared_memory import Region, ask_http
region = Region({{"x": [1.0]}}, {{"y": ((1,), "FP32")}})
ask_http(SimpleNamespace(http_url={url!r}, token={token!r}), region.registration())
{then}
"""


# Python 3.12 warns of forks beside threads, and numpy has some.
FORK = """
import warnings
warnings.simplefilter("ignore")
if not os.fork():
    sys.exit()
os.wait()
os.stat("/dev/shm" + region.key)
"""


def owner(server: Server, then: str) -> "subprocess.Popen[str]":
    here = str(Path(__file__).parent)
    script = OWNER.format(here=here, url=server.http_url, token=server.token, then=then)
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_leaves_is_swept_from_disk_and_server(
    server: Server, ask: Ask, number: signal.Signals
) -> None:
    with owner(server, "print(region.name, flush=True); time.sleep(60)") as process:
        try:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            let_go = UnregisterSharedMemory(name)
            assert let_go not in stale(ask(GetSharedMemoryStatus()))
            assert name not in sweep()
        finally:
            process.send_signal(number)
    assert left_by(process.pid) == [name]

    assert let_go in stale(ask(GetSharedMemoryStatus()))
    ask(let_go)
    assert name in sweep()
    assert let_go not in stale(ask(GetSharedMemoryStatus()))
    assert left_by(process.pid) == []


@pytest.mark.parametrize(
    "then",
    [
        "",
        "raise SystemExit",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.raise_signal(15)",
        FORK,
    ],
)
def test_a_process_that_ends_takes_its_region_along_and_its_child_does_not(
    server: Server, then: str
) -> None:
    with owner(server, then) as process:
        assert process.communicate(timeout=60) == ("", "")
    assert left_by(process.pid) == []
    for call in stale(ask_http(server, GetSharedMemoryStatus())):
        ask_http(server, call)


def test_an_exception_a_closed_generator_and_a_lost_object_leave_nothing() -> None:
    def regions() -> Generator[Region, None, None]:
        with Region({}, {"y": ((4,), "FP32")}) as region:
            yield region

    steps = regions()
    kept = next(steps).outputs["y"]
    steps.close()
    with pytest.raises(ZeroDivisionError), Region({}, {"y": ((4,), "FP32")}):
        raise ZeroDivisionError
    lost = Region({}, {"y": ((4,), "FP32")}).name

    assert not (FOLDER / lost).exists()
    kept[:] = 3  # the memory itself stays as long as an array lies in it
    assert kept.tolist() == [3, 3, 3, 3]


def test_a_number_given_to_a_new_process_does_not_keep_a_dead_ones_region() -> None:
    with Region({}, {"y": ((4,), "FP32")}) as region:
        start, pid, ticks, rest = region.name.rsplit("-", 3)
        reused = f"{start}-{pid}-{int(ticks) + 1}-{rest}"
        (FOLDER / reused).touch()
        assert reused in sweep()
        assert region.name in left_by(os.getpid())


def test_processes_of_another_container_are_told_by_their_lock() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_home", lambda _: "elsewhere")
        region = Region({}, {"y": ((4,), "FP32")})
    dead = f"triton-client-elsewhere-{os.getpid()}-1-0"
    (FOLDER / dead).touch()
    unseen = f"triton-client-elsewhere-{os.getpid()}-1-1"

    told = [RegisteredMemory(name, f"/{name}", 0, 1) for name in (region.name, dead, unseen)]
    assert stale(told) == (UnregisterSharedMemory(dead),)
    assert dead in sweep()
    assert left_by(os.getpid()) == [region.name]
    region.close()


def test_what_is_not_ours_is_left_alone() -> None:
    names = ["triton-client-notes", "psm_4711", "triton_python_backend_shm_region_0"]
    assert stale([RegisteredMemory(name, f"/{name}", 0, 1) for name in names]) == ()
    other = FOLDER / names[0]
    other.touch()
    try:
        assert other.name not in sweep()
        assert other.exists()
    finally:
        other.unlink()


def test_no_room_is_told_before_anything_is_written() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(ConfigError, match="no room for 4,194,304 bytes") as error:
            Region({}, {"y": ((1 << 20,), "FP32")})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "--shm-size" in str(error.value.hint)
    with Region({}, {"y": ((1 << 18,), "FP32")}) as region:
        assert (FOLDER / region.name).stat().st_blocks * 512 >= 1 << 20


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"x": [1j]}, {"y": ((1,), "FP32")}, "'x' has numpy's data type complex128"),
        ({"x": [1.0]}, {"y": ((1,), "BYTES")}, "'y' is text"),
        ({"x": [1.0]}, {"y": ((1,), object)}, "'y' is text"),
        ({"x": [1.0]}, {"y": ((-1,), "FP32")}, r"'y' has shape \[-1\]"),
        ({"x": [1.0]}, {"y": ((1,), "FP33")}, "'y' has no data type that is known: 'FP33'"),
        ({"x": [1.0]}, {}, "outputs="),
    ],
)
def test_what_cannot_lie_there_is_refused(inputs: Any, outputs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Region(inputs, outputs)
