"""``toolkit perf advise``: what it says of a real model under real traffic."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.program import Run
from toolkit.client import Client, ClientOptions
from toolkit.deploy.state import Server
from toolkit.errors import ToolkitError

WIDTH = 1024
"""Wide enough that one row takes some milliseconds, and a few rows hardly more."""
LAYERS = 3
SECONDS = 1.0
SLEEPS = "batcher_sleeps"
ECHO = Path(__file__).parents[1] / "client" / "models" / "echo"
BATCHERS = {
    "waits": "dynamic_batching { max_queue_delay_microseconds: 5000 }",
    "alone": "",
    "well": "dynamic_batching { }",
    "limits": "dynamic_batching { default_queue_policy { allow_timeout_override: true } }",
}
CONFIG = """
backend: "onnxruntime" max_batch_size: 64
input {{ name: "x" data_type: TYPE_FP32 dims: [ {width} ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ {width} ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
"""
ROW = np.ones((1, WIDTH), dtype=np.float32)
Advised = Callable[..., dict[str, Any]]


def network() -> onnx.ModelProto:
    """Give a few wide layers, which one row has to itself and many share the weights of."""
    chance = np.random.default_rng(0)
    weights = [chance.normal(0, 0.03, (WIDTH, WIDTH)).astype(np.float32) for _ in range(LAYERS)]
    names = ["x", *(f"h{i}" for i in range(1, LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(LAYERS)]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", WIDTH]) for name in "xy"
    ]
    held = [numpy_helper.from_array(one, f"w{i}") for i, one in enumerate(weights)]
    graph = helper.make_graph(nodes, "wide", tensors[:1], tensors[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def server(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    repository = tmp_path_factory.mktemp("advise") / "repository"
    for name, batcher in BATCHERS.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(CONFIG.format(width=WIDTH) + batcher)
        onnx.save(network(), folder / "model.onnx")
    running = serve(repository)
    with Client(running.http_url, token=running.token) as control:
        for name in BATCHERS:
            control.load(name)
    return running


@contextmanager
def callers(url: str, model: str, count: int, pause: float = 0.0) -> Iterator[None]:
    """Keep ``count`` callers asking, each again ``pause`` seconds after it has its answer."""
    over = threading.Event()

    def ask(client: Client) -> None:
        with suppress(ToolkitError):  # the server may end before the callers do
            while not over.is_set():
                client.predict(model, ROW)
                over.wait(pause) if pause else None

    with Client(url, options=ClientOptions(retries=0)) as client:
        client.predict(model, ROW)
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(20)


@pytest.fixture
def advised(run: Run, server: Server) -> Advised:
    """Run ``toolkit perf advise MODEL --json`` and read what it prints."""

    def ask(model: str, *flags: object) -> dict[str, Any]:
        ended = run("perf", "advise", model, "--json", "--url", server.http_url, *flags)
        assert ended.code == 0, ended.err
        said: dict[str, Any] = json.loads(ended.out)
        return said

    return ask


def test_a_lone_caller_is_told_that_the_delay_is_too_long(server: Server, advised: Advised) -> None:
    with callers(server.http_url, "waits", 1):
        said = advised("waits", "--seconds", SECONDS)

    first = said["advice"][0]
    assert first["kind"] == "delay_too_long"
    assert first["candidate"] == {"max_queue_delay_microseconds": 0}
    assert "the delay is 5.0 ms" in first["why"]
    assert said["observed"]["mean_batch_size"] == 1.0
    assert said["observed"]["queue_us"] > 4_000


def test_many_callers_are_told_to_switch_dynamic_batching_on(
    server: Server, advised: Advised
) -> None:
    with callers(server.http_url, "alone", 32):
        said = advised("alone", "--seconds", SECONDS)

    wanted = {one["kind"]: one for one in said["advice"]}["no_dynamic_batching"]
    assert wanted["candidate"] == {"dynamic_batching": True}
    assert said["observed"]["requests_under_way"] > 5
    assert said["observed"]["queue_us"] > said["observed"]["compute_infer_us"]


def test_limits_on_the_queue_are_told_of_once_the_batcher_sleeps(
    server: Server, advised: Advised
) -> None:
    """A wake-up is lost by chance, so callers go on asking until some were."""
    with callers(server.http_url, "limits", 8):
        until = time.monotonic() + 60
        said = advised("limits", "--seconds", SECONDS)
        while not (kinds := [one["kind"] for one in said["advice"]]) or kinds[0] != SLEEPS:
            assert time.monotonic() < until, said
            said = advised("limits", "--seconds", SECONDS)

    first = said["advice"][0]
    assert "a limit on the queue (allow_timeout_override)" in first["why"]
    assert "or convert again with: --no-allow-timeout-override" in first["change"]
    assert said["observed"]["queue_us"] > 3 * said["observed"]["compute_infer_us"]


def test_a_model_that_is_served_well_is_left_alone(server: Server, advised: Advised) -> None:
    """Whatever else goes on here, its configuration is right for a few calm callers."""
    with callers(server.http_url, "well", 3, pause=0.03):
        said = advised("well", "--seconds", SECONDS)

    assert [one for one in said["advice"] if one["candidate"]] == []
    assert said["observed"]["requests"] > 30
    assert said["observed"]["failures"] == 0


def test_what_it_says_is_for_people_too(run: Run, server: Server) -> None:
    with callers(server.grpc_url, "waits", 1):
        ended = run("perf", "advise", "waits", "--seconds", SECONDS, "--url", server.grpc_url)

    assert ended.code == 0, ended.err
    assert "requests/s" in ended.out
    assert "1. The queue delay is too long" in ended.out
    assert "in config.pbtxt: dynamic_batching { max_queue_delay_microseconds: 0 }" in ended.out
    assert "toolkit deploy waits" in ended.out


def test_since_the_start_it_looks_at_what_was(server: Server, advised: Advised) -> None:
    with Client(server.http_url) as client:
        for _ in range(60):
            client.predict("waits", ROW)
    said = advised("waits", "--since-start")

    assert said["advice"][0]["kind"] == "delay_too_long"
    assert said["observed"]["requests"] >= 60
    assert said["observed"]["requests_per_second"] is None


def test_without_traffic_it_says_how_to_get_some(server: Server, advised: Advised) -> None:
    said = advised("well", "--seconds", "0.1")

    assert [one["kind"] for one in said["advice"]] == ["no_traffic"]
    assert any("--since-start" in line for line in said["advice"][0]["change"])


def test_a_model_that_is_not_served_is_an_error(run: Run, server: Server) -> None:
    ended = run("perf", "advise", "nobody", "--url", server.http_url)

    assert ended.code == 1
    assert "nobody" in ended.err
    assert "toolkit deploy nobody" in ended.err


def test_a_server_that_does_not_run_is_an_error(
    run: Run, free_ports: Callable[[], tuple[int, int, int]], tmp_path: Path
) -> None:
    (tmp_path / "echo").mkdir()
    shutil.copytree(ECHO, tmp_path / "echo", dirs_exist_ok=True)
    here = run("perf", "advise", "echo", "--repository", tmp_path)
    there = run("perf", "advise", "echo", "--url", f"http://127.0.0.1:{free_ports()[0]}")

    assert (here.code, there.code) == (1, 1)
    assert "no embedded server is running" in here.err
    assert "127.0.0.1" in there.err


def test_a_server_that_dies_in_between_is_an_error(
    run: Run, serve: Callable[[Path], Server], tmp_path: Path
) -> None:
    shutil.copytree(ECHO, tmp_path / "echo")
    running = serve(tmp_path)
    with Client(running.http_url, token=running.token) as control:
        control.load("echo")
    killer = threading.Timer(0.3, os.kill, (running.pid, signal.SIGKILL))
    killer.start()
    started = time.monotonic()
    ended = run("perf", "advise", "echo", "--seconds", "1", "--repository", tmp_path)
    killer.join()

    assert ended.code == 1
    assert "ended, or answers no more, while the traffic of 'echo' was looked at" in ended.err
    assert "toolkit logs" in ended.err
    assert time.monotonic() - started < 20
