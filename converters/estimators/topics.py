"""LatentDirichletAllocation: each document's own iteration, in one ``Loop``."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Operand, Tensor

_EULER = 0.577215664901532860606512090082402431
_SMALL, _LARGE = 1e-6, 6.0
"""Between these scikit-learn's digamma function goes up step by step."""


@writes("sklearn:LatentDirichletAllocation")
def write_latent_dirichlet_allocation(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the topics of documents; a document that has converged stays as it is."""
    counts = x.matrix()
    words = np.asarray(model.exp_dirichlet_component_, dtype=np.float64)
    topics = len(words)
    start = (counts.take([0]).is_nan().cast(np.float64) * 0.0 + 1.0) * np.ones((1, topics))
    total = _psi(graph, start.sum())
    states = (start, (_psi(graph, start) - total).apply("Exp"), start.take([0]), counts)
    body = _body(graph, model, words, counts.width)
    kinds = [(state.dtype, state.shape) for state in states]
    inputs: list[Operand] = [np.array(int(model.max_doc_update_iter)), np.array(True), *states]
    found, *_ = graph.nodes("Loop", inputs, kinds, body=body)
    return {"transform": found / found.sum()}


def _body(graph: Graph, model: Any, words: Any, width: int) -> Any:
    """Return one iteration as a subgraph over (topics, their exponent, going, counts)."""
    from onnx import TensorProto, helper

    inner = Graph(graph.limits)
    topics = len(words)
    old, power, going = (inner.input(n, np.float64, w) for n, w in _states(topics))
    counts = inner.input("counts", np.float64, width)
    shares = power @ words + float(np.finfo(np.float64).eps)
    new = power * ((counts / shares) @ np.ascontiguousarray(words.T)) + float(
        model.doc_topic_prior_
    )
    raised = (_psi(inner, new) - _psi(inner, new.sum())).apply("Exp")
    change = (old - new).apply("Abs").sum() / float(topics)
    on = going > 0.0
    still = (on & (change >= float(model.mean_change_tol))).cast(np.float64)
    some = still.reduce("ReduceMax", 0, keepdims=False).reduce("ReduceMax", 0, keepdims=False)
    made = inner.model(
        "document",
        {
            "more": some > 0.0,
            "next_topics": inner.where(on, new, old),
            "next_power": inner.where(on, raised, power),
            "next_going": still,
            "next_counts": counts,
        },
    ).graph
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    before = helper.make_tensor_value_info("before", TensorProto.BOOL, [])
    body = helper.make_graph(
        made.node, "document", [step, before, *made.input], made.output, made.initializer
    )
    return _renamed(body, "document_")


def _states(topics: int) -> list[tuple[str, int]]:
    return [("topics", topics), ("power", topics), ("going", 1)]


def _renamed(body: Any, prefix: str) -> Any:
    """Put a prefix before all names: those of a subgraph may not be used outside it."""
    for node in body.node:
        node.input[:] = [prefix + name if name else "" for name in node.input]
        node.output[:] = [prefix + name for name in node.output]
    for each in (*body.input, *body.output, *body.initializer):
        each.name = prefix + each.name
    return body


def _psi(graph: Graph, x: Tensor) -> Tensor:
    """Return the digamma function as scikit-learn has it (Bernardo 1976, AS 103)."""
    result = x * 0.0
    up = x
    for _ in range(int(_LARGE)):
        low = up < _LARGE
        result = graph.where(low, result - 1.0 / up, result)
        up = graph.where(low, up + 1.0, up)
    inverse = 1.0 / up
    result = result + (up.apply("Log") - inverse * 0.5)
    square = inverse * inverse
    series = 1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0))
    return graph.where(x <= _SMALL, -_EULER - 1.0 / x, result - square * series)
