"""Neighbours of a matrix product are folded into it, and nothing else changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from converters import releases
from converters.onnx_writer import Graph, Tensor

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(33, 4)) * 100
SCALE, FACTOR, ROW = np.array([0.3, 7.0, 1e-3, 1e4]), RANDOM.normal(size=(4, 3)), np.arange(3.0)
TWO = np.array([[0.0, 1.0]])


def operators_and_answer(write: Callable[[Tensor], dict[str, Tensor]]) -> tuple[list[str], Any]:
    graph = Graph(releases.find("25.11").limits)
    model = graph.model("m", write(graph.input("x", np.float64, 4)))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [node.op_type for node in model.graph.node], session.run(None, {"x": X})


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda x: x / SCALE @ FACTOR + ROW, X / SCALE @ FACTOR + ROW),
        (lambda x: x @ FACTOR - ROW.reshape(1, 3), X @ FACTOR - ROW),
        (lambda x: 2.5 + x / 3.0 @ FACTOR, 2.5 + X / 3.0 @ FACTOR),
        (
            lambda x: (x / SCALE @ FACTOR[:, :1] + 0.5) @ TWO,
            (X / SCALE @ FACTOR[:, :1] + 0.5) @ TWO,
        ),
    ],
    ids=["divided, added", "subtracted", "numbers", "beside zero"],
)
def test_constants_beside_a_product_cost_no_node(
    write: Callable[[Tensor], Tensor], expected: Array
) -> None:
    operators, (given,) = operators_and_answer(lambda x: {"y": write(x)})
    assert operators == ["Gemm"]
    assert given == pytest.approx(expected, rel=1e-13, abs=1e-12)


def test_what_is_needed_by_itself_stays() -> None:
    def write(x: Tensor) -> dict[str, Tensor]:
        scaled = x / SCALE
        product = scaled @ FACTOR
        return {"scaled": scaled, "product": product, "sum": product + ROW}

    operators, (scaled, product, total) = operators_and_answer(write)
    assert operators == ["Div", "Gemm", "Add"]
    assert (scaled == X / SCALE).all()
    assert product == pytest.approx(X / SCALE @ FACTOR, rel=1e-12, abs=1e-12)
    assert (total == product + ROW).all()


def test_a_wider_row_is_not_folded() -> None:
    operators, (given,) = operators_and_answer(lambda x: {"y": x @ FACTOR[:, :1] + ROW})
    assert operators == ["Gemm", "Add"]
    assert given == pytest.approx(X @ FACTOR[:, :1] + ROW, rel=1e-12)


def test_a_tensor_that_is_two_outputs_or_an_input_is_copied() -> None:
    def write(x: Tensor) -> dict[str, Tensor]:
        half = x * 0.5
        return {"one": half, "two": half, "same": x}

    operators, (one, two, same) = operators_and_answer(write)
    assert sorted(operators) == ["Identity", "Identity", "Mul"]
    assert (one == X / 2).all()
    assert (two == one).all()
    assert (same == X).all()
