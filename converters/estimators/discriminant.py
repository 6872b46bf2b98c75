"""Discriminant analysis, linear and quadratic."""

from typing import Any

import numpy as np

from converters.estimators.linear import linear_scores, one_vs_rest, softmax
from converters.estimators.registry import Answer, Answers, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor


@writes("sklearn:LinearDiscriminantAnalysis")
def write_linear_discriminant(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the scores; the solver ``lsqr`` has no ``transform``."""
    rows = x.matrix()
    scores = linear_scores(rows, model)
    answers: dict[str, Answer] = {}
    if scores.width == 1:
        answers["predict_proba"] = one_vs_rest(scores)
        answers["decision_function"] = scores.reshape(-1)
        index = (scores > 0.0).cast(np.int64).reshape(-1)
    else:
        answers["predict_proba"] = softmax(scores)
        answers["decision_function"] = scores
        index = scores.argmax()
    if model.solver != "lsqr":
        centred = rows - model.xbar_ if model.solver == "svd" else rows
        answers["transform"] = centred @ np.ascontiguousarray(
            model.scalings_[:, : model._max_components]  # noqa: SLF001
        )
    return {**answers, **labelled(graph, model.classes_, index)}


@writes("sklearn:QuadraticDiscriminantAnalysis")
def write_quadratic_discriminant(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a distance a class, in the class's own axes."""
    rows = x.matrix()
    norms = []
    for mean, rotation, scaling in zip(
        model.means_, model.rotations_, model.scalings_, strict=True
    ):
        turned = (rows - mean) @ (rotation * scaling**-0.5)
        norms.append((turned * turned).sum())
    spread = np.array([np.sum(np.log(scaling)) for scaling in model.scalings_])
    scores = -0.5 * (graph.concat(norms) + spread) + np.log(model.priors_)
    return {
        "decision_function": between(scores),
        "predict_proba": softmax(scores),
        **labelled(graph, model.classes_, scores.argmax()),
    }


def between(scores: Tensor) -> Tensor:
    """Return the scores, or of two classes how far the second leads, shape (rows,)."""
    two = 2
    if scores.width != two:
        return scores
    return (scores.take([1]) - scores.take([0])).reshape(-1)
