"""Voting and stacking: several estimators asked the same, their answers put together."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, labelled, tensor, transformed, write, writes
from converters.estimators.responses import matrix, numbers, prediction
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:VotingClassifier")
def write_voting_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the probabilities, or the vote of the labels."""
    answers = [write(graph, each, x) for each in model.estimators_]
    weights = model._weights_not_none  # noqa: SLF001
    members = list(zip(answers, model.estimators_, strict=True))
    if model.voting == "soft":
        given = [tensor(answer, "predict_proba", each) for answer, each in members]
        mean = _average(given, weights)
        soft: dict[str, Any] = {"predict_proba": mean}
        if model.flatten_transform:
            soft["transform"] = graph.concat(given)
        return soft | labelled(graph, model.classes_, mean.argmax())
    votes = graph.concat([prediction(answer, each) for answer, each in members])
    # The members were fitted on the positions of the classes.
    positions = np.arange(len(model.classes_), dtype=np.float64)
    heard = votes.reshape(-1, votes.width, 1).eq(positions).cast(np.float64)
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    counted = (heard * shares.reshape(-1, 1)).sum(1, keepdims=False)
    return {"transform": votes} | labelled(graph, model.classes_, counted.argmax())


@writes("sklearn:VotingRegressor")
def write_voting_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the weighted mean of the predictions."""
    given = [prediction(write(graph, each, x), each) for each in model.estimators_]
    mean = _average(given, model._weights_not_none)  # noqa: SLF001
    return {"predict": mean.reshape(-1), "transform": graph.concat(given)}


def _average(given: list[Tensor], weights: Any) -> Tensor:
    """Return the mean as ``numpy.average`` adds it up, one after the other."""
    if weights is None:
        return sum(given[1:], start=given[0]) / float(len(given))
    shares = np.asarray(weights, dtype=np.float64)
    weighted = [each * float(share) for each, share in zip(given, shares, strict=True)]
    return sum(weighted[1:], start=weighted[0]) / float(shares.sum())


@writes("sklearn:StackingClassifier")
def write_stacking_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the final estimator on the answers of the others."""
    if isinstance(model._label_encoder, list):  # noqa: SLF001
        raise UnsupportedModelError("StackingClassifier: more than one label a row")
    given = _stacked(graph, model, x)
    final = write(graph, model.final_estimator_, Table(graph, (given,)), "final_estimator")
    answers: dict[str, Any] = {
        method: final[method]
        for method in ("predict_proba", "decision_function")
        if method in final
    }
    # The final estimator was fitted on the positions of the classes.
    index = tensor(final, "predict", model.final_estimator_).cast(np.int64)
    return answers | {"transform": given} | labelled(graph, model.classes_, index)


@writes("sklearn:StackingRegressor")
def write_stacking_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the final estimator on the predictions of the others."""
    given = _stacked(graph, model, x)
    final = write(graph, model.final_estimator_, Table(graph, (given,)), "final_estimator")
    return {"predict": final["predict"], "transform": given}


def _stacked(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return what the final estimator takes: (rows, answers and, if asked for, columns of x)."""
    parts: list[Tensor] = []
    for each, method in zip(model.estimators_, model.stack_method_, strict=True):
        answer = write(graph, each, x).get(method)
        if isinstance(answer, list):
            parts += [one.take(range(1, one.width)) for one in answer]
            continue
        given = tensor({} if answer is None else {method: answer}, method, each)
        if method == "predict_proba" and len(model.classes_) == 2:  # noqa: PLR2004
            given = given.take([1])
        parts.append(numbers(matrix(given), each))
    if model.passthrough:
        parts.append(transformed({"transform": x}, model).matrix())
    return graph.concat(parts)
