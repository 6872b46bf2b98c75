"""Votes and means of neighbours."""

from typing import Any

import numpy as np

from converters.estimators import metrics
from converters.estimators.discriminant import between
from converters.estimators.distances import squared_euclidean
from converters.estimators.linear import softmax
from converters.estimators.nearest import Neighbourhood
from converters.estimators.outliers import inlier
from converters.estimators.registry import Answers, class_labels, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:KNeighborsClassifier")
def write_k_neighbors_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the share of each class among the nearest."""
    targets, indices, weights = _nearest(graph, model, x)
    classes = model.classes_ if model.outputs_2d_ else [model.classes_]
    votes = []
    for known, codes in zip(classes, targets.T, strict=True):
        each = indices.lookup(np.eye(len(known))[codes])
        if weights is not None:
            each = each * weights.reshape(-1, model.n_neighbors, 1)
        votes.append(each.sum(axis=1, keepdims=False))
    shares = [each / each.sum() for each in votes]
    return _voted(graph, model, shares, [each.argmax() for each in votes])


@writes("sklearn:KNeighborsRegressor")
def write_k_neighbors_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the nearest."""
    targets, indices, weights = _nearest(graph, model, x)
    values = indices.lookup(np.asarray(targets, dtype=np.float64))
    if weights is None:
        predicted = values.sum(axis=1, keepdims=False) / float(model.n_neighbors)
    else:
        weighted = values * weights.reshape(-1, model.n_neighbors, 1)
        predicted = weighted.sum(axis=1, keepdims=False) / weights.sum()
    return {"predict": predicted.reshape(-1) if model._y.ndim == 1 else predicted}  # noqa: SLF001


@writes("sklearn:LocalOutlierFactor")
def write_local_outlier_factor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write how much thinner the training rows lie around a row than around its neighbours.

    Raises:
        UnsupportedModelError: it was not fitted to judge new rows.
    """
    if not model.novelty:
        msg = f"{type(model).__name__}: it judges only its training rows (novelty=False)"
        raise UnsupportedModelError(msg)
    count = int(model.n_neighbors_)
    hood = Neighbourhood(model)
    reach = model._distances_fit_X_[:, count - 1]
    hood.refuse_ties(count, np.column_stack([reach, model._lrd]))  # noqa: SLF001
    found, indices = hood.nearest(graph, x.matrix(), count)
    theirs = indices.lookup(np.ascontiguousarray(reach[hood.order]))
    farthest = graph.node("Max", [found, theirs], found.shape)
    density = 1.0 / (farthest.sum() / float(count) + 1e-10)
    ratios = indices.lookup(np.ascontiguousarray(model._lrd[hood.order])) / density  # noqa: SLF001
    scores = -(ratios.sum() / float(count)).reshape(-1)
    decision = scores - float(model.offset_)
    return {
        "score_samples": scores,
        "decision_function": decision,
        "predict": inlier(graph, decision >= 0.0),
    }


@writes("sklearn:NearestCentroid")
def write_nearest_centroid(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the nearest centroid, or with priors the largest discriminant score."""
    rows, name = x.matrix(), type(model).__name__
    centroids = np.asarray(model.centroids_, dtype=np.float64)
    spread = np.asarray(model.within_class_std_dev_, dtype=np.float64)
    scale = np.where(spread != 0, spread, 1.0)
    apart = _metric(name, rows / scale, centroids / scale, model.metric)
    scores = -(apart * apart) + 2.0 * np.log(model.class_prior_)
    if np.isclose(model.class_prior_, 1 / len(model.classes_)).all():
        if model.metric == "euclidean":
            index = metrics.first_nearest(rows, centroids)
        else:
            index = (-_metric(name, rows, centroids, model.metric)).argmax()
    else:
        index = scores.argmax()
    return {
        "decision_function": between(scores),
        "predict_proba": softmax(scores),
        **labelled(graph, model.classes_, index),
    }


def _metric(name: str, x: Tensor, points: Array, metric: Any) -> Tensor:
    if metric == "euclidean":
        return squared_euclidean(x, points).apply("Sqrt")
    if not isinstance(metric, str):
        msg = f"{name}: a metric that is {metric!r} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    return metrics.between(x, points, metric, {})


def _nearest(graph: Graph, model: Any, x: Table) -> tuple[Array, Tensor, Tensor | None]:
    """Return the targets in the search's order, the places in it of the nearest, their weights."""
    hood = Neighbourhood(model)
    targets = np.asarray(model._y)  # noqa: SLF001
    targets = targets.reshape(len(targets), -1)
    hood.refuse_ties(model.n_neighbors, targets)
    found, indices = hood.nearest(graph, x.matrix(), model.n_neighbors)
    return targets[hood.order], indices, _weights(graph, model, found)


def _weights(graph: Graph, model: Any, found: Tensor) -> Tensor | None:
    """Return the weights of neighbours; where some are at distance zero, only they count."""
    if model.weights in (None, "uniform"):
        return None
    if model.weights != "distance":
        msg = f"{type(model).__name__}: weights by {model.weights!r} are not written as exact ONNX"
        raise UnsupportedModelError(msg)
    weights = 1.0 / found
    endless = weights.apply("IsInf", np.bool_).cast(np.float64)
    return graph.where(endless.reduce("ReduceMax") > 0.0, endless, weights)


def _voted(graph: Graph, model: Any, shares: list[Tensor], indices: list[Tensor]) -> Answers:
    if not model.outputs_2d_:
        return {"predict_proba": shares[0], **labelled(graph, model.classes_, indices[0])}
    columns = [
        index.lookup(graph.constant(class_labels(known))).reshape(-1, 1)
        for known, index in zip(model.classes_, indices, strict=True)
    ]
    return {"predict_proba": shares, "predict": graph.concat(columns)}
