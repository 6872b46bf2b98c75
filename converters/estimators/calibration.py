"""Classifiers that correct another's scores: calibration, thresholds, self-training."""

from typing import Any

from converters.estimators.linear import softmax
from converters.estimators.registry import Answers, labelled, tensor, write, writes
from converters.estimators.responses import matrix, response
from converters.estimators.special import expit
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_BOTH = 2
_LITTLE_ABOVE_ONE = 1.0 + 1e-5
_LOGIT_EPSILON = 1e-12


@writes("sklearn:CalibratedClassifierCV")
def write_calibrated(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the calibrated classifiers' probabilities."""
    first, *others = [_calibrated(graph, each, x) for each in model.calibrated_classifiers_]
    mean = sum(others, start=first) / float(len(others) + 1)
    return {"predict_proba": mean, **labelled(graph, model.classes_, mean.argmax())}


def _calibrated(graph: Graph, pair: Any, x: Table) -> Tensor:
    scores, method = response(graph, pair.estimator, x, ["decision_function", "predict_proba"])
    scores = matrix(scores)
    if pair.method == "temperature":
        probabilities = _temperature(graph, pair, scores, method)
    else:
        probabilities = _one_by_one(graph, pair, scores)
    over = (probabilities > 1.0) & (probabilities <= _LITTLE_ABOVE_ONE)
    return graph.where(over, 1.0, probabilities)


def _temperature(graph: Graph, pair: Any, scores: Tensor, method: str) -> Tensor:
    if scores.width == 1 and method == "predict_proba":
        scores = graph.concat([1.0 - scores, scores])
    if scores.width == 1:
        logits = graph.concat([-scores, scores])
    else:
        logits = (scores + _LOGIT_EPSILON).apply("Log") if method == "predict_proba" else scores
    return softmax(logits * float(pair.calibrators[0].beta_))


def _one_by_one(graph: Graph, pair: Any, scores: Tensor) -> Tensor:
    """Calibrate each class's score by itself, then let them sum to one."""
    classes = list(pair.classes)
    columns: dict[int, Tensor] = {}
    known = [classes.index(label) for label in pair.estimator.classes_]
    for i, (position, calibrator) in enumerate(zip(known, pair.calibrators, strict=False)):
        column = _calibrator(graph, calibrator, scores.take([i]))
        columns[position + 1 if len(classes) == _BOTH else position] = column
    if len(classes) == _BOTH:
        return graph.concat([1.0 - columns[1], columns[1]])
    zero = scores.take([0]) * 0.0
    given = graph.concat([columns.get(i, zero) for i in range(len(classes))])
    total = given.sum()
    none = total.eq(0.0)
    return graph.where(none, 1.0 / len(classes), given / graph.where(none, 1.0, total))


def _calibrator(graph: Graph, calibrator: Any, score: Tensor) -> Tensor:
    if type(calibrator).__name__ == "_SigmoidCalibration":
        return expit(-(float(calibrator.a_) * score + float(calibrator.b_)))
    answers = write(graph, calibrator, Table(graph, (score,)))
    return matrix(tensor(answers, "predict", calibrator))


@writes("sklearn:FixedThresholdClassifier", "sklearn:TunedThresholdClassifierCV")
def write_threshold(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a binary classifier whose label is decided by a threshold of its own."""
    inner = getattr(model, "estimator_", model.estimator)
    answers = write(graph, inner, x)
    score, method = response(graph, inner, x, model._get_response_method())  # noqa: SLF001
    threshold, positive = _threshold(model, method)
    classes = list(model.classes_)
    if len(score.shape) != 1 or len(classes) != _BOTH:
        raise UnsupportedModelError("a threshold needs a binary classifier")
    at = 1 if positive is None else classes.index(positive)
    if at == 0:
        score = 1.0 - score if method == "predict_proba" else -score
    reached = score >= threshold
    index = graph.where(reached, at, 1 - at)
    kept = {
        name: answers[name] for name in ("predict_proba", "decision_function") if name in answers
    }
    return kept | labelled(graph, model.classes_, index)


def _threshold(model: Any, method: str) -> tuple[float, Any]:
    if hasattr(model, "best_threshold_"):
        return float(model.best_threshold_), model._curve_scorer._get_pos_label()  # noqa: SLF001
    if model.threshold == "auto":
        return (0.5 if method == "predict_proba" else 0.0), model.pos_label
    return float(model.threshold), model.pos_label


@writes("sklearn:SelfTrainingClassifier")
def write_self_training(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the classifier inside."""
    return write(graph, model.estimator_, x)
