"""An example of a request is one that the model takes."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from toolkit.client.asking import Signature, signature_of
from toolkit.client.transport import IndexedModel, ModelMetadata, TensorMetadata
from toolkit.errors import UnavailableError
from toolkit.gateway import examples, features
from toolkit.gateway.models import Known
from toolkit.pbtxt import FEATURE_NAMES

Input = tuple[str, str, tuple[int, ...]]


def signature(
    *inputs: Input, batch: int = 8, names: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> Signature:
    """A model's signature; the shapes have the axis of rows."""
    specs = tuple(TensorMetadata(*spec) for spec in inputs)
    config = {
        "max_batch_size": batch,
        "parameters": {FEATURE_NAMES: {"string_value": json.dumps(names)}} if names else {},
        "input": [{"name": name, "optional": name in optional} for name, _, _ in inputs],
    }
    return signature_of(ModelMetadata("m", ("1",), "onnx", specs, ()), config)


FLOWER = ("sepal length", "sepal width")
SIGNATURES = {
    "a matrix": signature(("x", "FP32", (-1, 4))),
    "named features": signature(("x", "FP32", (-1, 2)), names=FLOWER),
    "named features of any number": signature(("x", "FP64", (-1, -1)), names=FLOWER),
    "one feature of the input's name": signature(("age", "INT64", (-1, 1)), names=("age",)),
    "fewer names than values": signature(("x", "FP32", (-1, 4)), names=FLOWER),
    "names twice": signature(("x", "FP32", (-1, 2)), names=("a", "a")),
    "named texts": signature(("x", "BYTES", (-1, 2)), names=FLOWER),
    "text": signature(("text", "BYTES", (-1, 1))),
    "values of any number": signature(("x", "FP32", (-1, -1))),
    "yes and no": signature(("x", "BOOL", (-1, 3))),
    "half": signature(("x", "FP16", (-1, 3))),
    "small whole numbers": signature(("x", "INT8", (-1, 200))),
    "whole numbers": signature(("x", "UINT64", (-1, 3))),
    "a picture": signature(("x", "UINT8", (-1, 20, 20, 3))),
    "columns": signature(("age", "INT64", (-1, 1)), ("city", "BYTES", (-1, 1))),
    "tensors": signature(("x", "FP32", (-1, 3)), ("mask", "BOOL", (-1, 2, 2))),
    "an input to leave out": signature(
        ("a", "FP32", (-1, 1)), ("b", "FP32", (-1, 1)), optional=("b",)
    ),
    "without rows": signature(("x", "FP32", (3,)), batch=0),
    "rows without batches": signature(("x", "FP32", (-1, 2)), batch=0),
    "any length without rows": signature(("x", "INT32", (-1,)), batch=0),
    "named without batches": signature(("x", "FP32", (-1, 2)), batch=0, names=FLOWER),
    "two without rows": signature(("x", "FP32", (2,)), ("y", "BYTES", (1,)), batch=0),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_an_example_is_taken_by_the_model(name: str) -> None:
    known = SIGNATURES[name]
    given = json.loads(json.dumps(examples.example(known)))
    taken = features.tensors(given, known)
    assert taken.keys() >= {
        spec.name for spec in known.metadata.inputs if spec.name not in known.optional
    }
    for spec in known.metadata.inputs:
        if spec.name in taken:
            assert taken[spec.name].ndim == len(spec.shape)
    assert features.row_count(taken, known) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a matrix", [[0.5, 1.5, 2.5, 3.5]]),
        ("named features", [{"sepal length": 0.5, "sepal width": 1.5}]),
        ("text", [["some text"]]),
        ("columns", [{"age": 1, "city": "some text"}]),
        ("tensors", {"x": [[0.5, 1.5, 2.5]], "mask": [[[True, False], [True, False]]]}),
        ("an input to leave out", [{"a": 0.5}]),
        ("whole numbers", [[1, 2, 3]]),
    ],
)
def test_an_example_reads_well(name: str, expected: Any) -> None:
    assert examples.example(SIGNATURES[name]) == expected


def test_a_model_of_large_inputs_has_no_example() -> None:
    large = signature(("x", "FP32", (-1, 3, 1000, 1000)))
    assert examples.example(large) is None
    assert examples.example(SIGNATURES["a picture"], longest=1000) is None


SCHEMA: dict[str, Any] = {
    "paths": {
        path: {
            "post": {
                "parameters": [{"name": "model", "in": "path", "schema": {"type": "string"}}],
                "requestBody": {"content": {"application/json": {"schema": {}}}},
            }
        }
        for path in ("/predict/{model}", "/predict_batched/{model}")
    }
    | {"/other": {"get": {}}}
}


def test_the_schema_names_each_model_with_a_request_to_it() -> None:
    before = json.dumps(SCHEMA)
    full = examples.openapi(SCHEMA, {"flower": [{"a": 1}], "large": None})
    for path in ("/predict/{model}", "/predict_batched/{model}"):
        asked = full["paths"][path]["post"]
        assert asked["parameters"][0]["schema"] == {"type": "string", "enum": ["flower", "large"]}
        content = asked["requestBody"]["content"]["application/json"]
        assert content["examples"] == {
            "flower": {"summary": "flower", "value": {"features": [{"a": 1}]}}
        }
    assert json.dumps(SCHEMA) == before


def test_a_schema_without_models_stays_as_it_is() -> None:
    assert examples.openapi(SCHEMA, {}) == SCHEMA


def test_a_triton_that_is_away_leaves_the_schema_without_models() -> None:
    async def away() -> tuple[IndexedModel, ...]:
        raise UnavailableError("Triton is not ready")

    async def known(_: str) -> Known:
        raise UnavailableError("Triton is not ready")

    async def one() -> tuple[IndexedModel, ...]:
        return (IndexedModel("echo", "1", "READY", ""),)

    assert asyncio.run(examples.published(away, known)) == {}
    assert asyncio.run(examples.published(one, known)) == {}


def test_each_published_example_is_answered(gateway: httpx.Client) -> None:
    paths = gateway.get("/openapi.json").json()["paths"]
    served = {"echo", "text", "people", "unbatched"}  # the others fail or sleep, by design
    for path in ("/predict/{model}", "/predict_batched/{model}"):
        asked = paths[path]["post"]
        assert served <= set(asked["parameters"][0]["schema"]["enum"])
        shown = asked["requestBody"]["content"]["application/json"]["examples"]
        for model in served:
            answer = gateway.post(path.format(model=model), json=shown[model]["value"])
            assert answer.status_code == 200, answer.text
