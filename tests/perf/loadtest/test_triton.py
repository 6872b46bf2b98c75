"""A model on the real embedded Triton is an ordinary URL."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.perf.loadtest.conftest import Command
from toolkit.client import Client
from toolkit.deploy.state import Server

MODELS = Path(__file__).parents[2] / "client" / "models"


@pytest.fixture(scope="module")
def server(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    repository = tmp_path_factory.mktemp("loadtest") / "repository"
    shutil.copytree(MODELS / "echo", repository / "echo")
    running = serve(repository)
    with Client(running.http_url, token=running.token) as control:
        control.load("echo")
    return running


def tensor(*values: float) -> str:
    row = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": values}
    return json.dumps({"inputs": [row]})


def answers(client: Client) -> int:
    (version,) = client.statistics("echo")
    return int(version["inference_stats"]["success"]["count"])


@pytest.mark.parametrize("load_as", [("--rate", 200), ("--concurrency", 4)], ids=["open", "closed"])
def test_a_model_answers_each_request(
    command: Command, server: Server, tmp_path: Path, load_as: tuple[object, ...]
) -> None:
    bodies, written = tmp_path / "rows.jsonl", tmp_path / "result.json"
    bodies.write_text(f"{tensor(1, 2, 3, 4)}\n{tensor(5, 6, 7, 8)}\n", encoding="utf-8")
    url = f"{server.http_url}/v2/models/echo/infer"
    with Client(server.http_url) as client:
        before = answers(client)
        ended = command(
            url, *load_as, "--data", bodies, "--duration", "1s", "--warmup", "0s",
            "--json", written, "--min-success-percent", 100,
        )  # fmt: skip
        answered = answers(client) - before
    assert ended.code == 0, ended.err
    result = json.loads(written.read_text(encoding="utf-8"))
    # The server counted what we counted, and the first request.
    assert answered == result["requests"]["succeeded"] + 1 == result["statuses"]["200"] + 1
    assert result["load"]["bodies"] == 2


def test_a_model_that_is_not_there_is_told_in_triton_s_words(
    command: Command, server: Server
) -> None:
    url = f"{server.http_url}/v2/models/nobody/infer"
    ended = command(url, "--rate", 10, "--data", tensor(1, 2, 3, 4))
    assert ended.code == 1
    assert "Request for unknown model: 'nobody'" in ended.err
