"""Write a fitted estimator as ONNX, run it, and see what each of its methods gives."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from converters import releases
from converters.estimators import registry
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor

Array = npt.NDArray[Any]
Rows = Array | Mapping[str, Array]
Written = Callable[..., list[Array]]


@pytest.fixture
def written() -> Written:
    """Return ``run(model, rows, *methods)``: the ONNX answers to rows, one a method.

    ``rows`` is a float64 matrix, or columns by name (texts as ``object``).
    """
    return run_written


def run_written(model: Any, rows: Rows, *methods: str) -> list[Array]:
    graph = Graph(releases.find("25.11").limits)
    columns = {"input": rows} if isinstance(rows, np.ndarray) else dict(rows)
    feeds = {name: array.reshape(len(array), -1) for name, array in columns.items()}
    parts = tuple(graph.input(name, a.dtype, a.shape[1]) for name, a in feeds.items())
    names = () if isinstance(rows, np.ndarray) else tuple(columns)
    answers = registry.write(graph, model, Table(graph, parts, names))
    outputs: dict[str, Tensor] = {}
    for method in methods:
        name, _, index = method.partition(":")
        answer = answers[name]
        if isinstance(answer, list):
            outputs[f"out_{method}"] = answer[int(index)]
        else:
            outputs[f"out_{method}"] = registry.tensor(answers, name, model)
    data = graph.model("m", outputs).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    asked = {i.name: feeds[i.name] for i in session.get_inputs()}
    return list(session.run(list(outputs), asked))
