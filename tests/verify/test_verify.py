from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit import repository
from toolkit.deploy import embedded, models
from toolkit.deploy.state import Server
from toolkit.errors import ModelNotServedError, RepositoryError, VerificationError
from toolkit.verify import row_differences, verify

# Doubles its input. ANSWER may do worse with what it gets: one array a request.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() * 2 for r in requests]
        ANSWER
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", row)]) for row in rows]
"""
CONFIG = """
backend: "python"
max_batch_size: 16
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
dynamic_batching { max_queue_delay_microseconds: 2000 }
"""
# Right alone, wrong in company: hands the last answer of a batch to all its callers.
MIXES_CALLERS_UP = (
    "rows = [rows[-1][:1].repeat(len(row), 0) if len(rows) > 1 else row for row in rows]"
)
# Right one at a time, wrong for several rows in a request.
TURNS_ROWS_AROUND = "rows = [row[::-1].copy() for row in rows]"
OFF_BY_ONE_BIT = "rows = [np.nextafter(row, np.float32(np.inf)) for row in rows]"


def add_model(repo: Path, name: str, answer: str = "pass") -> None:
    version = repo / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL.replace("ANSWER", answer))
    (repo / name / "config.pbtxt").write_text(CONFIG)
    rows = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    arrays: dict[str, Any] = {"input:x": rows, "expected:y": rows * 2}
    np.savez(version / "proof.npz", **arrays)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "repo"
    add_model(path, "right")
    add_model(path, "mixed", MIXES_CALLERS_UP)
    add_model(path, "turned", TURNS_ROWS_AROUND)
    add_model(path, "off", OFF_BY_ONE_BIT)
    return path


@pytest.fixture(scope="module")
def server(repo: Path, serve: Callable[[Path], Server]) -> Server:
    server = serve(repo)
    with embedded.client(server) as client:
        for entry in repository.entries(repo):
            client.load(entry.name)
    return server


def failed_ways(repo: Path, server: Server, name: str, *, atol: float = 0.0) -> set[str]:
    entry = repository.find(repo, name)
    replays = verify(entry, (server.http_url, server.grpc_url), atol=atol)
    assert {replay.wire for replay in replays} == {"http", "grpc"}
    assert {replay.way for replay in replays} == {"one by one", "batched", "concurrent"}
    assert all((replay.first is None) == replay.passed for replay in replays)
    return {replay.way for replay in replays if not replay.passed}


def test_a_model_that_answers_as_proved_passes_every_way(repo: Path, server: Server) -> None:
    assert failed_ways(repo, server, "right") == set()


def test_a_batch_that_hands_a_caller_another_callers_rows_is_noticed(
    repo: Path, server: Server
) -> None:
    assert failed_ways(repo, server, "mixed") == {"concurrent"}


def test_rows_that_change_places_inside_a_request_are_noticed(repo: Path, server: Server) -> None:
    assert failed_ways(repo, server, "turned") == {"batched"}


def test_one_bit_of_difference_is_noticed_and_can_be_let_pass(repo: Path, server: Server) -> None:
    assert failed_ways(repo, server, "off") == {"one by one", "batched", "concurrent"}
    assert failed_ways(repo, server, "off", atol=1e-5) == set()


def test_a_model_without_a_batch_axis_gets_each_row_as_a_request_of_its_own(
    repo: Path, server: Server
) -> None:
    add_model(repo, "whole")
    config = CONFIG.replace("max_batch_size: 16", "").replace("[ 2 ]", "[ 1, 2 ]")
    (repo / "whole/config.pbtxt").write_text(config.replace("dynamic_batching", "#"))
    rows = np.random.default_rng(1).normal(size=(20, 1, 2)).astype(np.float32)
    arrays: dict[str, Any] = {"input:x": rows, "expected:y": rows * 2}
    np.savez(repo / "whole/1/proof.npz", **arrays)
    with embedded.client(server) as client:
        client.load("whole")
    replays = verify(repository.find(repo, "whole"), (server.http_url, server.grpc_url))
    assert {replay.way for replay in replays} == {"one by one", "concurrent"}
    assert [replay.first for replay in replays] == [None] * len(replays)


def test_a_deployed_model_that_answers_wrongly_is_not_called_served(
    repo: Path, server: Server
) -> None:
    with embedded.client(server) as client:
        right, off = models.load(client, models.choose(repo, ["right", "off"]))
    assert (right.error, right.rows) == (None, 4)
    assert isinstance(off.error, VerificationError)
    assert "row 0, y" in off.error.message


def test_an_entry_made_by_hand_has_nothing_to_replay_and_is_told_so(
    repo: Path, server: Server, tmp_path: Path
) -> None:
    add_model(tmp_path, "bare")
    (tmp_path / "bare/1/proof.npz").unlink()
    with pytest.raises(VerificationError, match="holds no proof rows"):
        verify(repository.find(tmp_path, "bare"), (server.http_url,))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no zip at all"])
def test_damaged_proof_rows_are_told_in_one_line(
    tmp_path: Path, server: Server, content: bytes
) -> None:
    add_model(tmp_path, "right")
    (tmp_path / "right/1/proof.npz").write_bytes(content)
    with pytest.raises(RepositoryError, match="is damaged") as caught:
        verify(repository.find(tmp_path, "right"), (server.http_url,))
    assert "\n" not in caught.value.message


def test_a_model_the_server_does_not_have_is_not_verified(tmp_path: Path, server: Server) -> None:
    add_model(tmp_path, "absent")
    with embedded.client(server) as client:
        (result,) = models.load(client, models.choose(tmp_path, ["absent"]))
    assert isinstance(result.error, ModelNotServedError)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("given", "expected", "differences"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], [0.0]),
        ([[1.0], [2.5]], [[1.0], [2.0]], [0.0, 0.5]),
        ([NAN, 1.0, INF, INF], [NAN, NAN, INF, 1.0], [0.0, INF, 0.0, INF]),
        ([[1], [2]], [1, 2], [0.0, 0.0]),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), [0.0, INF]),
        (np.array([1], np.float32), np.array([1], np.float64), [INF]),
        (np.array(["1"], object), np.array([1.0]), [INF]),
        ([[1.0, 2.0]], [[1.0]], [INF]),
    ],
)
def test_rows_differ_by_their_worst_value(
    given: object, expected: object, differences: list[float]
) -> None:
    found = row_differences(np.asarray(given), np.asarray(expected))
    assert found.tolist() == differences


def test_integers_too_large_for_a_float_still_differ() -> None:
    given, expected = np.array([2**60 + 1]), np.array([2**60])
    assert row_differences(given, expected)[0] > 0
