"""The Python-based ONNX Runtime backend fills in configs and answers as the library does."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.backends import onnx_models as models
from tests.backends.conftest import ONE_INSTANCE, Triton, at_once, floats

# Long enough for requests sent together to be joined on a busy machine.
JOIN = "dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: [ 4 ] } "
X3 = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ] '
MODELS: dict[str, tuple[bytes, str | None]] = {
    "bare": (models.classifier(), None),
    "bare_fixed": (models.classifier(2), None),
    "bare_two_inputs": (models.add(), "max_batch_size: 16 "),
    "only_outputs_missing": (models.classifier(), "max_batch_size: 8 " + X3),
    "network": (
        models.network(),
        (
            "max_batch_size: 64 dynamic_batching { } "
            'input [ { name: "x" data_type: TYPE_FP32 dims: [ 28 ] } ] '
            'output [ { name: "p" data_type: TYPE_FP32 dims: [ 5 ] } ] '
        ),
    ),
    "lookup": (
        models.lookup(),
        "max_batch_size: 8 "
        + JOIN
        + 'input [ { name: "index" data_type: TYPE_INT64 dims: [ 1 ] } ] '
        'output [ { name: "value" data_type: TYPE_FP32 dims: [ 1 ] } ] ',
    ),
    "text": (
        models.text(),
        "max_batch_size: 8 "
        + JOIN
        + 'input [ { name: "text" data_type: TYPE_STRING dims: [ 2 ] } ] '
        'output [ { name: "same" data_type: TYPE_STRING dims: [ 2 ] } ] ',
    ),
    "text_label": (
        models.text_label(),
        "max_batch_size: 8 "
        + X3
        + 'output [ { name: "label" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } } ] ',
    ),
    "label_unbatched": (
        models.classifier(),
        X3.replace("[ 3 ]", "[ -1, 3 ]")
        + 'output [ { name: "label" data_type: TYPE_INT64 dims: [ -1 ] } ] ',
    ),
    "joined_inputs": (
        models.add(),
        "max_batch_size: 8 " + JOIN + 'input [ { name: "b" data_type: TYPE_FP32 dims: [ 2 ] }, '
        '{ name: "a" data_type: TYPE_FP32 dims: [ 2 ] } ] '
        'output [ { name: "sum" data_type: TYPE_FP32 dims: [ 2 ] } ] ',
    ),
    "optional": (
        models.add(with_default=True),
        (
            'input [ { name: "a" data_type: TYPE_FP32 dims: [ -1, 2 ] }, '
            '{ name: "b" data_type: TYPE_FP32 dims: [ 2 ] optional: true } ] '
            'output [ { name: "sum" data_type: TYPE_FP32 dims: [ -1, 2 ] } ] '
        ),
    ),
    "scalar": (
        models.scalar(),
        (
            'input [ { name: "k" data_type: TYPE_FP32 dims: [ 1 ] } ] '
            'output [ { name: "twice" data_type: TYPE_FP32 dims: [ 1 ] } ] '
        ),
    ),
    "narrowed": (
        models.dynamic_width(),
        "max_batch_size: 8 "
        + X3
        + 'output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ] '
        + 'parameters [ { key: "not_a_parameter" value: { string_value: "whatever" } } ] ',
    ),
    "folded": (
        models.classifier(),
        (
            "max_batch_size: 8 "
            'input [ { name: "x" data_type: TYPE_FP32 dims: [ 1, 3 ] reshape { shape: [ 3 ] } } ] '
            'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3, 1 ] reshape { shape: [ 3 ] } } ] '
        ),
    ),
    "mixes_rows": (
        models.mixes_rows(),
        (
            "max_batch_size: 8 "
            'input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ] '
            'output [ { name: "kept" data_type: TYPE_FP32 dims: [ 1 ] } ] '
        ),
    ),
    "tuned": (
        models.classifier(),
        "max_batch_size: 8 " + X3 + 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ] '
        "optimization { graph { level: 1 } } "
        'parameters [ { key: "intra_op_thread_count" value: { string_value: "1" } }, '
        '{ key: "inter_op_thread_count" value: { string_value: "2" } }, '
        '{ key: "execution_mode" value: { string_value: "1" } }, '
        '{ key: "enable_mem_arena" value: { string_value: "false" } } ] ',
    ),
}


@pytest.fixture(scope="module")
def served(triton: Triton) -> Iterator[Triton]:
    """Return the server with every model of the table loaded, none refused."""
    for name, (model, config) in MODELS.items():
        text = None if config is None else f'backend: "onnxruntime" {ONE_INSTANCE}{config}'
        triton.add(name, "model.onnx", model, text)
    refused = {name: why for name, why in triton.load_all(list(MODELS)).items() if why}
    assert not refused
    yield triton
    for name in MODELS:
        triton.unload(name)


def _rows(count: int, width: int) -> Any:
    return np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)


def test_a_missing_config_is_filled_in_with_a_batch_of_four(served: Triton) -> None:
    config = served.config("bare")
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    assert [(entry["name"], entry["dims"]) for entry in config["input"]] == [("x", [3])]
    score, label = config["output"]
    assert (score["dims"], score.get("reshape")) == ([3], None)
    assert (label["dims"], label["reshape"]) == ([1], {"shape": []})


def test_a_missing_config_of_a_fixed_batch_is_filled_in_without_batching(served: Triton) -> None:
    config = served.config("bare_fixed")
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config
    assert [entry["dims"] for entry in (*config["input"], *config["output"])] == [[2, 3]] * 2 + [
        [2]
    ]


def test_filling_in_keeps_what_the_config_says(served: Triton) -> None:
    assert served.config("bare_two_inputs")["max_batch_size"] == 16
    partly = served.config("only_outputs_missing")
    assert partly["max_batch_size"] == 8
    assert [entry["name"] for entry in partly["output"]] == ["y", "label"]


def test_a_config_in_full_is_left_as_it_is(served: Triton) -> None:
    config = served.config("tuned")
    assert "dynamic_batching" not in config
    assert [entry["name"] for entry in config["output"]] == ["y"]


@pytest.mark.parametrize("batch", [1, 2, 33])
def test_answers_equal_those_of_onnxruntime_bit_for_bit(served: Triton, batch: int) -> None:
    rows = _rows(batch, 28)
    (offline,) = ort.InferenceSession(models.network()).run(["p"], {"x": rows})
    answer = served.infer("network", {"x": rows})["p"]
    assert answer.tobytes() == offline.tobytes()


def test_callers_that_are_joined_get_their_own_rows(served: Triton) -> None:
    feeds = [{"a": _rows(n, 2), "b": _rows(n + 10, 2)[:n]} for n in (1, 2, 1, 2)]
    answers = at_once([partial(served.infer, "joined_inputs", feed) for feed in feeds])
    for feed, answer in zip(feeds, answers, strict=True):
        assert np.array_equal(answer["sum"], feed["a"] + feed["b"])
    assert served.executions("joined_inputs", rows=6) < 4, "the requests were not joined"


def test_a_label_is_one_column_to_callers(served: Triton) -> None:
    rows = floats([[1, 2, 3], [3, 2, 1]])
    answer = served.infer("bare", {"x": rows})
    assert answer["label"].tolist() == [[2], [0]]
    assert served.infer("label_unbatched", {"x": rows})["label"].tolist() == [2, 0]
    assert served.infer("text_label", {"x": rows})["label"].tolist() == [["blå"], ["réd"]]


def test_a_request_that_fails_inside_the_model_fails_alone(served: Triton) -> None:
    calls = [
        partial(served.infer, "lookup", {"index": np.array([[index]])}) for index in (1, 99, 3, 4)
    ]
    first, bad, third, fourth = at_once(calls)
    assert served.executions("lookup", rows=4) < 4, "the requests were not joined"
    assert [answer["value"].item() for answer in (first, third, fourth)] == [10, 30, 40]
    assert "out of data bounds" in str(bad)


def test_text_goes_through_unchanged(served: Triton) -> None:
    words = np.array([["naïve", "日本"], ["", "b'x'"]], dtype=object)
    assert served.infer("text", {"text": words})["same"].tolist() == words.tolist()


def test_text_that_is_not_utf8_fails_alone(served: Triton) -> None:
    good = np.array([["grün", "x"]], dtype=object)

    def broken() -> Any:
        head = (
            b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1,2],'
            b'"parameters":{"binary_data_size":12}}]}'
        )
        body = head + b"\x02\0\0\0\xff\xfe" + b"\x02\0\0\0ok"
        url = f"{served.server.http_url}/v2/models/text/infer"
        headers = {"Inference-Header-Content-Length": str(len(head))}
        reply = served.http.request("POST", url, body=body, headers=headers)
        return reply.status, reply.json()["error"]

    ask = partial(served.infer, "text", {"text": good})
    first, (status, error), third, fourth = at_once([ask, broken, ask, ask])
    assert status == 400
    assert "must hold UTF-8 text" in error
    assert all(answer["same"].tolist() == good.tolist() for answer in (first, third, fourth))


def test_only_the_outputs_asked_for_come_back(served: Triton) -> None:
    rows = _rows(2, 3)
    answer = served.infer("bare", {"x": rows}, outputs=[{"name": "label"}])
    assert list(answer) == ["label"]
    assert set(served.infer("bare", {"x": rows})) == {"y", "label"}


def test_an_input_with_a_default_may_be_left_out(served: Triton) -> None:
    rows = floats([[1, 1]])
    assert served.infer("optional", {"a": rows})["sum"].tolist() == [[11, 21]]
    given = {"a": rows, "b": floats([5, 6])}
    assert served.infer("optional", given)["sum"].tolist() == [[6, 7]]


def test_a_scalar_travels_as_an_array_of_one(served: Triton) -> None:
    assert served.infer("scalar", {"k": floats([21])})["twice"].tolist() == [42]


def test_reshape_folds_inputs_and_outputs(served: Triton) -> None:
    answer = served.infer("folded", {"x": floats([[[1, 2, 3]], [[4, 5, 6]]])})
    assert answer["y"].tolist() == [[[3], [6], [9]], [[12], [15], [18]]]


def test_unknown_parameters_and_narrowed_inputs_load(served: Triton) -> None:
    assert served.infer("narrowed", {"x": _rows(1, 3)})["y"].shape == (1, 3)


def test_a_model_that_does_not_answer_row_by_row_says_so(served: Triton) -> None:
    with pytest.raises(RuntimeError, match=r"1 rows for 2 rows of input.*max_batch_size: 0"):
        served.infer("mixes_rows", {"x": floats([[1], [-1]])})


def test_the_parameters_reach_the_session(served: Triton) -> None:
    (line,) = (line for line in served.log().splitlines() if "onnxruntime: tuned_0_0" in line)
    assert "intra_op=1 inter_op=2 execution_mode=ORT_PARALLEL" in line
    assert "graph_level=ORT_ENABLE_EXTENDED mem_arena=False" in line
