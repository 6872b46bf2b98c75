"""Baselines that answer every row the same."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answer, Answers, class_labels, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:DummyRegressor")
def write_dummy_regressor(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the constant."""
    constant = np.asarray(model.constant_, dtype=np.float64).reshape(-1)
    if model.n_outputs_ == 1:
        return {"predict": _each(x).lookup(constant[:1])}
    return {"predict": _each(x).lookup(np.broadcast_to(constant, (1, model.n_outputs_)))}


@writes("sklearn:DummyClassifier")
def write_dummy_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the constant class, or one a target.

    Raises:
        UnsupportedModelError: a strategy that draws at random.
    """
    if model._strategy in {"stratified", "uniform"}:  # noqa: SLF001
        msg = (
            f"{type(model).__name__}: its strategy {model._strategy!r} draws at random, "  # noqa: SLF001
            "so that no two answers agree"
        )
        raise UnsupportedModelError(msg)
    if model.n_outputs_ == 1:
        index, probabilities = _constant(model, model.classes_, model.class_prior_, model.constant)
        at = _each(x)
        answers: dict[str, Answer] = {"predict_proba": at.lookup(probabilities[np.newaxis])}
        return {**answers, **labelled(graph, model.classes_, at.lookup(np.array([index])))}
    constants = [None] * model.n_outputs_ if model.constant is None else np.ravel(model.constant)
    each = [
        _constant(model, *of)
        for of in zip(model.classes_, model.class_prior_, constants, strict=True)
    ]
    labels = np.array(
        [classes[index] for classes, (index, _) in zip(model.classes_, each, strict=True)]
    )
    return {
        "predict_proba": [_each(x).lookup(shares[np.newaxis]) for _, shares in each],
        "predict": _each(x).lookup(class_labels(labels)[np.newaxis]),
    }


def _constant(model: Any, classes: Array, prior: Array, constant: Any) -> tuple[int, Array]:
    """Return the position of the class that is predicted, and the probabilities."""
    index = int(np.argmax(prior))
    if model._strategy == "constant":  # noqa: SLF001
        index = int(np.flatnonzero(classes == np.ravel(constant)[0])[0])
    if model._strategy == "prior":  # noqa: SLF001
        return index, np.asarray(prior, dtype=np.float64)
    return index, np.eye(len(classes))[index]


def _each(x: Table) -> Tensor:
    """Return int64 zeros, one a row, whatever the input holds."""
    part = x.parts[0]
    rows = part.graph.node("Shape", [part], (1,), dtype=np.int64, start=0, end=1)
    return part.graph.node("Expand", [np.array([0], dtype=np.int64), rows], (None,), dtype=np.int64)
