"""Products of matrices keep their factors in float64."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

from converters import releases
from converters.onnx_writer import Graph, Tensor

ROWS = np.random.default_rng(0).normal(size=(7, 6))
MATRIX = np.random.default_rng(1).normal(size=(3, 4))

Written = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("write", "wanted"),
    [
        (lambda x: (x @ MATRIX) * (1 / 6), lambda x: (x @ MATRIX) * (1 / 6)),
        (lambda x: (x @ MATRIX) / 6.1, lambda x: (x @ MATRIX) / 6.1),
        (lambda x: (x * 0.3) @ MATRIX, lambda x: (x * 0.3) @ MATRIX),
        (
            lambda x: x @ (x * 0.3).transpose(0, 2, 1),
            lambda x: x @ (x * 0.3).transpose(0, 2, 1),
        ),
    ],
    ids=["times", "over", "before", "transposed"],
)
def test_a_factor_beside_a_batch_of_products_is_not_rounded(
    write: Written, wanted: Callable[[np.ndarray], np.ndarray]
) -> None:
    graph = Graph(releases.find("25.11").limits)
    given = write(graph.input("input", np.float64, 6).reshape(-1, 2, 3))
    session = ort.InferenceSession(graph.model("m", {"given": given}).SerializeToString())
    answer = session.run(None, {"input": ROWS})[0]
    np.testing.assert_allclose(answer, wanted(ROWS.reshape(-1, 2, 3)), rtol=1e-13, atol=1e-14)
