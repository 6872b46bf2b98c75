"""JSON becomes the model's arrays, or a reason why not."""

from typing import Any

import numpy as np
import orjson
import pytest

from toolkit.client.asking import Signature
from toolkit.client.transport import ModelMetadata, TensorMetadata
from toolkit.errors import InvalidInputError
from toolkit.gateway import features


def signature(*inputs: tuple[str, str, tuple[int, ...]], names: tuple[str, ...] = ()) -> Signature:
    takes = tuple(TensorMetadata(*one) for one in inputs)
    metadata = ModelMetadata("m", ("1",), "", takes, ())
    return Signature(metadata, {}, 64, frozenset(), names, (), frozenset())


DOUBLES = signature(("x", "FP64", (-1, 3)), names=("a", "b", "c"))


@pytest.mark.parametrize(
    "given",
    [
        [[1.0, 2.5, 3.0]],
        [1.0, 2.5, 3.0],
        [[1, 2.5, 3]],
        {"a": 1, "b": 2.5, "c": 3},
        [{"c": 3, "b": 2.5, "a": 1}],
        {"x": [[1, 2.5, 3]]},
    ],
)
def test_one_row_in_all_its_forms(given: object) -> None:
    found = features.tensors(given, DOUBLES)["x"]
    assert found.dtype == np.float64
    assert found.tolist() == [[1.0, 2.5, 3.0]]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[1, 2], [3]], "row 1 has length 1"),
        ([[1.0, 2.0]], "got"),
        ([["1.5", "2", "3"]], "'x'"),
        ([[1.0, None, 2.0]], "'x'"),
        ([[{"a": 1}, 2, 3]], "'x'"),
        ([], "'x'"),
        ([[]], "'x'"),
        ("text", "'x'"),
        ({"a": 1, "b": 2}, "missing: 'c'"),
        ([[[1.0, 2.0, 3.0]]], "'x'"),
        (None, "'x'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(given: object, told: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        features.tensors(given, DOUBLES)
    assert told in refused.value.message


@pytest.mark.parametrize("values", [[[1.5, 2.0, 3.0]], [[1, 2, 3]], [[2**53 + 1, 1, 1]]])
def test_the_quick_way_gives_what_the_careful_way_gives(values: list[Any]) -> None:
    try:
        quick: Any = features.tensors(values, DOUBLES)["x"].tolist()
    except InvalidInputError as error:
        quick = error.message
    from toolkit.client.rows import to_tensors

    try:
        careful: Any = to_tensors(values, DOUBLES.metadata.inputs)["x"].tolist()
    except InvalidInputError as error:
        careful = error.message
    assert quick == careful


def test_rows_of_text_go_to_a_text_model() -> None:
    texts = signature(("t", "BYTES", (-1, 1)))
    assert features.tensors([["ö"], ["a\x00"]], texts)["t"].tolist() == [
        ["ö".encode()],
        [b"a\x00"],
    ]


def test_answers_are_one_list_a_row() -> None:
    one = {"label": np.array([1, 0]), "probabilities": np.array([[0.1, 0.9], [0.8, 0.2]])}
    written = orjson.dumps(features.predictions(one), option=orjson.OPT_SERIALIZE_NUMPY)
    assert orjson.loads(written) == [[1], [0]]
    others = orjson.dumps(features.others(one), option=orjson.OPT_SERIALIZE_NUMPY)
    assert orjson.loads(others) == {"probabilities": [[0.1, 0.9], [0.8, 0.2]]}
    text = {"label": np.array(["ja", b"nein"], dtype=object)}
    assert features.predictions(text) == [["ja"], ["nein"]]
