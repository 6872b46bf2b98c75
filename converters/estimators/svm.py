"""Support vector machines, as libsvm decides."""

from typing import Any

import numpy as np

from converters.estimators import metrics
from converters.estimators.dense import dense
from converters.estimators.kernels import kernel
from converters.estimators.outliers import inlier
from converters.estimators.pairwise_coupling import coupled
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:SVR", "sklearn:NuSVR")
def write_svr(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the sum of the kernels."""
    return {"predict": _sums(graph, model, x.matrix()).reshape(-1)}


@writes("sklearn:OneClassSVM")
def write_one_class_svm(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the side of the boundary; on it is outside."""
    decision = _sums(graph, model, x.matrix()).reshape(-1)
    return {
        "decision_function": decision,
        "score_samples": decision + np.ravel(model.offset_),
        "predict": inlier(graph, decision > 0.0),
    }


@writes("sklearn:SVC", "sklearn:NuSVC")
def write_svc(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the votes of each pair of classes; of a tie the first class wins."""
    count, two = len(model.classes_), 2
    pairs = _sums(graph, model, x.matrix(), _pair_weights(model))
    votes, confidences = _tally(graph, pairs, count)
    if count == two:
        decision = -pairs.reshape(-1)
    elif model.decision_function_shape == "ovr":
        decision = votes + confidences / (3.0 * (confidences.apply("Abs") + 1.0))
    else:
        decision = pairs
    ties = model.break_ties and model.decision_function_shape == "ovr" and count > two
    index = decision.argmax() if ties else votes.argmax()
    answers = {"decision_function": decision, **labelled(graph, model.classes_, index)}
    if model._probA.size:  # noqa: SLF001
        answers["predict_proba"] = coupled(graph, pairs, model._probA, model._probB, count)  # noqa: SLF001
    return answers


def _sums(graph: Graph, model: Any, x: Tensor, weights: Array | None = None) -> Tensor:
    if weights is None:
        weights = dense(model._dual_coef_, model).T
    return _kernel(graph, model, x) @ np.ascontiguousarray(weights) + np.ravel(model._intercept_)


def _kernel(graph: Graph, model: Any, x: Tensor) -> Tensor:
    if callable(model.kernel):
        msg = f"{type(model).__name__}: a kernel of the user's own is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    if model.kernel == "precomputed":
        return x.take(np.asarray(model.support_).tolist())
    vectors = dense(model.support_vectors_, model)
    gamma = float(model._gamma)  # noqa: SLF001
    if model.kernel == "rbf":
        return (metrics.squared_about_middle(x, vectors) * -gamma).apply("Exp")
    parameters = {"gamma": gamma, "coef0": model.coef0, "degree": model.degree}
    return kernel(graph, x, vectors, model.kernel, parameters)


def _pair_weights(model: Any) -> Array:
    """Return the weight of each support vector in each pair's decision, (vectors, pairs).

    libsvm keeps those of class i against j in row j-1 where i < j, else in row j.
    """
    sizes = np.asarray(model._n_support)  # noqa: SLF001
    starts = np.concatenate([[0], np.cumsum(sizes)])
    dual = dense(model._dual_coef_, model)
    count = len(model.classes_)
    weights = []
    for i in range(count):
        for j in range(i + 1, count):
            column = np.zeros(dual.shape[1])
            first = slice(starts[i], starts[i + 1])
            second = slice(starts[j], starts[j + 1])
            column[first], column[second] = dual[j - 1, first], dual[i, second]
            weights.append(column)
    return np.array(weights).T


def _tally(graph: Graph, pairs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each class's votes and the sum of its decisions, added pair by pair."""
    won = (pairs > 0.0).cast(np.float64)
    votes: list[Tensor | None] = [None] * count
    sums: list[Tensor | None] = [None] * count
    of_pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for pair, (i, j) in enumerate(of_pairs):
        win, decision = won.take([pair]), pairs.take([pair])
        for each, vote, confidence in ((i, win, decision), (j, 1.0 - win, -decision)):
            known, total = votes[each], sums[each]
            votes[each] = vote if known is None else known + vote
            sums[each] = confidence if total is None else total + confidence
    return (
        graph.concat([vote for vote in votes if vote is not None]),
        graph.concat([total for total in sums if total is not None]),
    )
