"""Votes and means of all neighbours within a distance."""

from typing import Any

import numpy as np

from converters.estimators.nearest import Neighbourhood
from converters.estimators.registry import Answers, class_labels, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:RadiusNeighborsRegressor")
def write_radius_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the neighbours; without any, what the library fills in."""
    hood = Neighbourhood(model)
    weights = _weights(graph, hood, x)
    targets = np.asarray(model._y)  # noqa: SLF001
    with np.errstate(invalid="ignore"):
        # A NaN among integers is the smallest of them (numpy 2).
        nothing = np.full_like(targets.reshape(-1)[:1], np.nan).astype(np.float64)
    values = targets.reshape(len(targets), -1)[hood.order].astype(np.float64)
    total = weights.sum()
    predicted = graph.where(total.eq(0.0), float(nothing[0]), weights @ values / total)
    return {"predict": predicted.reshape(-1) if targets.ndim == 1 else predicted}


@writes("sklearn:RadiusNeighborsClassifier")
def write_radius_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the share of each class among the neighbours.

    Where a row without any has no label, scikit-learn refuses the request, and so does
    ONNX Runtime: the lookup of such a row is out of range.
    """
    hood = Neighbourhood(model)
    weights = _weights(graph, hood, x)
    several = bool(model.outputs_2d_)
    classes = model.classes_ if several else [model.classes_]
    targets = np.asarray(model._y).reshape(len(model._y), -1)[hood.order]  # noqa: SLF001
    labels = model.outlier_label_
    shares, predicted = [], []
    for k, known in enumerate(classes):
        votes = weights @ np.eye(len(known))[targets[:, k]]
        alone = votes.sum().eq(0.0)
        outlier = None if labels is None else np.ravel(labels)[k]
        if outlier is None:
            votes = votes + alone.cast(np.int64).lookup(
                np.array([0.0]), "a row without neighbours within the radius"
            )
            share, at = votes / votes.sum(), votes.argmax()
            predicted.append((at, known))
        else:
            share, at, known_or_not = _with_outliers(graph, model, votes, known, outlier)
            predicted.append((at, known_or_not))
        shares.append(share)
    if not several:
        at, known = predicted[0]
        return {"predict_proba": shares[0], **labelled(graph, known, at)}
    columns = [at.lookup(class_labels(known)).reshape(-1, 1) for at, known in predicted]
    return {"predict_proba": shares, "predict": graph.concat(columns)}


def _with_outliers(
    graph: Graph, model: Any, votes: Tensor, known: Array, outlier: Any
) -> tuple[Tensor, Tensor, Array]:
    """Return shares, positions, and the labels they point at, the outliers' last."""
    at = np.flatnonzero(np.arange(len(known)) == _code(model, known, outlier))
    filled = np.zeros(len(known))
    filled[at] = 1.0
    total = votes.sum()
    alone = total.eq(0.0)
    share = graph.where(alone, filled[np.newaxis], votes / graph.where(alone, 1.0, total))
    index = share.argmax()
    if len(at):
        return share, index, known
    index = graph.where(alone.reshape(-1), np.array(len(known)), index)
    return share, index, np.append(known, np.asarray([outlier], dtype=known.dtype))


def _code(model: Any, known: Array, outlier: Any) -> int:
    """Return the position of the class whose share an outlier gets, or -1.

    Brute force compares the label with positions and not with classes (scikit-learn 1.9).
    """
    if _counts_classes(model):
        given = model.outlier_label
        whole = isinstance(given, int | np.integer) and 0 <= given < len(known)
        return int(given) if whole else -1
    found = np.flatnonzero(known == outlier)
    return int(found[0]) if len(found) == 1 else -1


def _counts_classes(model: Any) -> bool:
    from sklearn.metrics._pairwise_distances_reduction import RadiusNeighborsClassMode
    from sklearn.neighbors._classification import _adjusted_metric

    metric, _ = _adjusted_metric(metric=model.metric, metric_kwargs=model.metric_params, p=model.p)
    return bool(
        model.weights == "uniform"
        and model._fit_method == "brute"  # noqa: SLF001
        and not model.outputs_2d_
        and RadiusNeighborsClassMode.is_usable_for(
            np.zeros((1, model.n_features_in_)),
            model._fit_X,  # noqa: SLF001
            metric,
        )
    )


def _weights(graph: Graph, hood: Neighbourhood, x: Table) -> Tensor:
    """Return the weight of each training row, 0 for those too far."""
    model = hood.model
    apart = hood.all(x.matrix())
    euclidean = hood.metric in {"euclidean", "l2"}
    radius = float(model.radius)
    near = apart <= (radius * radius if euclidean else radius)
    if model.weights in (None, "uniform"):
        return near.cast(np.float64)
    if model.weights != "distance":
        msg = f"{hood.name}: weights by {model.weights!r} are not written as exact ONNX"
        raise UnsupportedModelError(msg)
    same = apart.eq(0.0).cast(np.float64)
    distance = apart.apply("Sqrt") if euclidean else apart
    by_distance = graph.where(near, 1.0 / distance, 0.0)
    return graph.where(same.reduce("ReduceMax") > 0.0, same, by_distance)
