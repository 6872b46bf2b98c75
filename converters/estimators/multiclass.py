"""Many classes from binary classifiers: one against the rest, each pair, output codes."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, labelled, tensor, write, writes
from converters.estimators.responses import binary_score, numbers
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor

_BOTH = 2


@writes("sklearn:_ConstantPredictor")
def write_constant_predictor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the answer for a class that all or none of the training rows had."""
    zero = _zeros(graph, x)
    value = float(np.ravel(model.y_)[0])
    constant = zero + value
    return {
        "predict": constant,
        "decision_function": constant,
        "predict_proba": graph.concat([zero + (1.0 - value), constant]),
    }


def _zeros(graph: Graph, x: Table) -> Tensor:
    """Return a column of zeros, one a row, whatever x holds."""
    first = x.parts[0]
    rows = graph.node("Shape", [first], (1,), dtype=np.int64, start=0, end=1)
    shape = graph.concat([rows, graph.constant(np.array([1]))], axis=0)
    return graph.node("Expand", [graph.constant(np.zeros((1, 1))), shape], (None, 1))


@writes("sklearn:OneVsRestClassifier")
def write_one_vs_rest(graph: Graph, model: Any, x: Table) -> Answers:
    """Write one score a class; the largest wins, or for several labels each above its limit."""
    estimators = model.estimators_
    scores = graph.concat([binary_score(graph, each, x).reshape(-1, 1) for each in estimators])
    answers: dict[str, Any] = {}
    if hasattr(model, "predict_proba"):
        answers["predict_proba"] = _normalized(graph, model, x)
    if hasattr(model, "decision_function"):
        answers["decision_function"] = scores.reshape(-1) if len(estimators) == 1 else scores
    if model.label_binarizer_.y_type_ == "multiclass":
        return answers | labelled(graph, model.classes_, scores.argmax())
    above = scores > _limit(estimators[0])
    if model.multilabel_:
        return answers | {"predict": above.cast(np.int64)}
    return answers | labelled(graph, model.classes_, above.cast(np.int64).reshape(-1))


def _limit(estimator: Any) -> float:
    from sklearn.base import is_classifier

    scored = hasattr(estimator, "decision_function") and is_classifier(estimator)
    return 0.0 if scored else 0.5


def _normalized(graph: Graph, model: Any, x: Table) -> Tensor:
    columns = [
        tensor(write(graph, each, x), "predict_proba", each).take([1]) for each in model.estimators_
    ]
    if len(columns) == 1:
        columns = [1.0 - columns[0], columns[0]]
    given = graph.concat(columns)
    if model.multilabel_:
        return given
    total = given.sum()
    return graph.where(total.eq(0.0), given, given / graph.where(total.eq(0.0), 1.0, total))


@writes("sklearn:OneVsOneClassifier")
def write_one_vs_one(graph: Graph, model: Any, x: Table) -> Answers:
    """Write votes of all pairs; confidences, pressed below half a vote, break ties."""
    classes = len(model.classes_)
    votes: list[Tensor | None] = [None] * classes
    sums: list[Tensor | None] = [None] * classes
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    for each, (i, j) in zip(model.estimators_, pairs, strict=True):
        won = numbers(tensor(write(graph, each, x), "predict", each), each)
        score = binary_score(graph, each, x).reshape(-1, 1)
        votes[i], votes[j] = _plus(votes[i], 1.0 - won), _plus(votes[j], won)
        sums[i], sums[j] = _plus(sums[i], -score), _plus(sums[j], score)
    vote = graph.concat([each for each in votes if each is not None])
    total = graph.concat([each for each in sums if each is not None])
    given = vote + total / (3.0 * (total.apply("Abs") + 1.0))
    if classes == _BOTH:
        second = given.take([1]).reshape(-1)
        index = (second > _limit(model.estimators_[0])).cast(np.int64)
        return {"decision_function": second, **labelled(graph, model.classes_, index)}
    return {"decision_function": given, **labelled(graph, model.classes_, given.argmax())}


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


@writes("sklearn:OutputCodeClassifier")
def write_output_code(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the class whose code word is nearest to the scores."""
    columns = [binary_score(graph, each, x).reshape(-1, 1) for each in model.estimators_]
    scores = graph.concat(columns).cast(np.float64)
    codes = np.asarray(model.code_book_, dtype=np.float64)
    far = scores.reshape(-1, 1, scores.width) - codes[None]
    distances = (far * far).sum(2, keepdims=False)
    return labelled(graph, model.classes_, (-distances).argmax())
