"""Rows of every kind come back as the model answered them, over both wires."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from toolkit.client import Client
from toolkit.client.rows import to_tensors
from toolkit.client.transport import TensorMetadata
from toolkit.deploy.state import Server
from toolkit.errors import InvalidInputError
from toolkit.spec import DType

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS.astype(np.float64),
        ROWS.astype(np.int16),
        ROWS.tolist(),
        ROWS.astype(int).tolist(),
        pd.DataFrame(ROWS, columns=list("abcd")),
        {"x": ROWS},
        {name: ROWS[:, place] for place, name in enumerate("abcd")},
        {"a": [0, 4, 8], "b": [1, 5, 9], "c": [2, 6, 10], "d": [3, 7, 11]},
        np.asfortranarray(ROWS),
        ROWS.astype(">f4"),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_of_any_form_give_the_same_answer(client: Client, rows: object) -> None:
    answer = client.predict("echo", rows)

    np.testing.assert_array_equal(answer["y"], ROWS * 2)
    assert answer["y"].dtype == np.float32
    assert answer["rows"].shape == (3,)
    assert answer["rows"].dtype == np.int64


def test_a_lone_row_needs_no_batch_axis(client: Client) -> None:
    np.testing.assert_array_equal(client.predict("echo", [1, 2, 3, 4])["y"], [[2, 4, 6, 8]])


def test_an_answer_is_a_mapping_that_knows_its_model_and_can_be_written_to(
    client: Client,
) -> None:
    answer = client.predict("echo", ROWS, request_id="seven")

    assert (answer.model, answer.version, answer.request_id) == ("echo", "1", "seven")
    assert list(answer) == ["y", "rows"]
    answer["y"][0, 0] = 7


def test_only_the_outputs_asked_for_come_back(client: Client) -> None:
    assert list(client.predict("echo", ROWS, outputs=["rows"])) == ["rows"]


def test_a_version_and_a_priority_are_passed_on(client: Client) -> None:
    answer = client.predict("echo", ROWS, version=1, priority=1)

    np.testing.assert_array_equal(answer["y"], ROWS * 2)


def test_more_rows_than_a_batch_are_split_and_joined_in_order(client: Client) -> None:
    rows = np.arange(20 * 4, dtype=np.float32).reshape(20, 4)

    answer = client.predict("echo", rows)

    np.testing.assert_array_equal(answer["y"], rows * 2)
    assert answer["rows"].ravel().tolist() == [8] * 16 + [4] * 4


def test_a_model_without_a_batch_axis_gets_all_rows_at_once(client: Client) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)

    total = client.predict("unbatched", rows)["total"]

    np.testing.assert_array_equal(total, rows.sum(axis=1, dtype=np.float64))


TEXTS = ["", "plain", "zero\0byte\0", "\0", "Grüße, 日本 🙂", "a" * 70_000, " x\n"]


@pytest.mark.parametrize("rows", [TEXTS, [[text] for text in TEXTS], {"text": TEXTS}])
def test_texts_survive_byte_for_byte(client: Client, rows: object) -> None:
    answer = client.predict("text", rows)["text"]

    assert answer.ravel().tolist() == TEXTS


def test_a_lone_text_is_a_row(client: Client) -> None:
    assert client.predict("text", "hello")["text"].tolist() == [["hello"]]


def test_bytes_that_are_no_text_come_back_as_bytes(client: Client) -> None:
    assert client.predict("text", [b"\xff\xd8\0"])["text"].tolist() == [[b"\xff\xd8\0"]]


@pytest.mark.parametrize(
    "rows",
    [
        {"age": [34, 51], "city": ["Köln", "Roma"]},
        {"city": np.array(["Köln", "Roma"]), "age": np.array([[34.0], [51.0]])},
        pd.DataFrame({"city": ["Köln", "Roma"], "age": [34, 51]}),
    ],
    ids=["dict", "tensors", "DataFrame"],
)
def test_columns_find_their_inputs_by_name(client: Client, rows: object) -> None:
    assert client.predict("people", rows)["line"].tolist() == [["Köln:34"], ["Roma:51"]]


def test_every_data_type_goes_there_and_back(client: Client) -> None:
    given: dict[str, np.ndarray] = {"STRING": np.array(["a", "ü"], dtype=object)}
    for dtype in set(DType) - {DType.BYTES, DType.BOOL}:
        numpy_type = np.dtype(dtype.numpy_name)
        bounds = np.finfo(numpy_type) if numpy_type.kind == "f" else np.iinfo(numpy_type)
        given[dtype.value] = np.array([bounds.min, bounds.max], dtype=numpy_type)
    given["BOOL"] = np.array([True, False])

    answer = client.predict("types", given)

    assert set(answer) == set(given)
    for name, array in given.items():
        np.testing.assert_array_equal(answer[name], array)
        assert answer[name].dtype == array.dtype


def test_sixteen_threads_share_a_client_and_each_gets_its_own_answers(client: Client) -> None:
    def ask(thread: int) -> list[int]:
        wrong = []
        for turn in range(40):
            rows = np.full((1 + turn % 3, 4), thread * 1000 + turn, dtype=np.float32)
            answer = client.predict("echo", rows, request_id=f"{thread}-{turn}")
            if answer.request_id != f"{thread}-{turn}" or (answer["y"] != rows * 2).any():
                wrong.append(turn)
        return wrong

    with ThreadPoolExecutor(16) as threads:
        assert [wrong for wrong in threads.map(ask, range(16)) if wrong] == []


def _loaded_after(code: str, *arguments: str) -> set[str]:
    """Run ``code`` in a fresh Python and return the heavy libraries it brought in."""
    heavy = {"pandas", "grpc", "tritonclient", "onnx", "onnxruntime", "torch", "sklearn"}
    tail = f"\nimport sys; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_client_loads_no_heavy_library() -> None:
    assert _loaded_after("import toolkit.client, toolkit.samples") == set()


def test_rows_over_http_need_neither_pandas_nor_grpc(server: Server) -> None:
    code = """
import sys
from toolkit.client import Client
with Client(sys.argv[1]) as client:
    client.predict("echo", [[1, 2, 3, 4]])
"""
    assert _loaded_after(code, server.http_url) == set()


def test_columns_go_by_the_names_the_model_was_trained_with() -> None:
    inputs = [TensorMetadata("input", "FP32", (-1, 2))]
    named = {"h": [1.0, 2.0], "body mass": [3.0, 4.0]}
    tensors = to_tensors(named, inputs, feature_names=("body_mass", "h"))
    assert tensors["input"].tolist() == [[3.0, 1.0], [4.0, 2.0]]
    numbered = pd.DataFrame([[1.0, 2.0]])
    assert to_tensors(numbered, inputs, feature_names=("a", "b"))["input"].tolist() == [[1.0, 2.0]]
    with pytest.raises(InvalidInputError, match="missing: 'b'; unknown: 'body mass'"):
        to_tensors({"a": [1.0], "body mass": [2.0]}, inputs, feature_names=("a", "b"))
