"""KNNImputer: the mean of the nearest training rows that have the cell."""

from typing import Any

import numpy as np

from converters.estimators.distances import squared_euclidean
from converters.estimators.imputers import missing, with_indicator
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

_CHECKED = 500
"""Training rows that are looked at for ties."""

_TIED = 1e-10


@writes("sklearn:KNNImputer")
def write_knn_imputer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the weighted mean of the nearest donors for each missing cell.

    Of donors at exactly the same distance the original takes those that come out of
    ``numpy.argpartition``, which depends on the processor: data that has them is refused.
    """
    if model.metric != "nan_euclidean" or callable(model.weights):
        part = "metric" if callable(model.metric) else "weights"
        msg = f"KNNImputer: its {part} is a function of the user's"
        raise UnsupportedModelError(msg)
    values = x.matrix()
    mask = missing(values, model)
    fitted = np.asarray(model._fit_X, dtype=np.float64)  # noqa: SLF001
    absent = np.asarray(model._mask_fit_X)  # noqa: SLF001
    valid = np.asarray(model._valid_mask)  # noqa: SLF001
    _refuse_ties(model, fitted, absent)
    distances = _distances(graph, values, mask, fitted, absent)
    found: dict[bytes, tuple[Tensor, Tensor]] = {}
    columns = []
    for i in np.flatnonzero(valid):
        key = absent[:, i].tobytes()
        if key not in found:
            found[key] = _nearest(graph, distances, absent[:, i], model)
        weights, indices = found[key]
        columns.append(_mean(graph, weights, indices, fitted[:, i], absent[:, i]))
    if not columns:
        msg = "KNNImputer: no column had a value when it was fitted"
        raise UnsupportedModelError(msg)
    kept = np.flatnonzero(valid).tolist()
    imputed = graph.where(mask.take(kept), graph.concat(columns), values.take(kept))
    if model.keep_empty_features and len(kept) < len(valid):
        nothing = (imputed.take([0]).is_nan()).cast(np.float64) * 0.0
        place = np.where(valid, np.cumsum(valid) - 1, len(kept))
        imputed = graph.concat([imputed, nothing]).take(place.tolist())
    return {"transform": with_indicator(graph, imputed, mask, model)}


def _refuse_ties(model: Any, fitted: Array, absent: Array) -> None:
    from sklearn.metrics.pairwise import nan_euclidean_distances

    asked = fitted[:_CHECKED]
    known = nan_euclidean_distances(asked, fitted, missing_values=model.missing_values)
    for i in range(fitted.shape[1]):
        donors = np.flatnonzero(~absent[:, i])
        count = int(model.n_neighbors)
        if count >= len(donors):
            continue
        receivers = absent[: len(asked), i]
        apart = (known[receivers] if receivers.any() else known)[:, donors]
        last, following = np.sort(apart, axis=1)[:, [count - 1, count]].T
        cells = fitted[donors, i]
        for row in np.flatnonzero(np.isclose(last, following, rtol=_TIED, atol=0.0)):
            at = cells[np.isclose(apart[row], last[row], rtol=_TIED, atol=0.0)]
            if (at != at[0]).any():
                msg = (
                    "KNNImputer: its training rows hold ties: donors equally far with "
                    "different values, which the processor decides"
                )
                raise UnsupportedModelError(msg)


def _distances(graph: Graph, x: Tensor, mask: Tensor, fitted: Array, absent: Array) -> Tensor:
    """Return nan-euclidean distances (rows, training rows); infinite where NaN.

    In scikit-learn's arithmetic: matrix products, corrected for the cells that one of
    the two rows lacks.
    """
    known = graph.where(mask, 0.0, x)
    other = np.where(absent, 0.0, fitted)
    lacking = mask.cast(np.float64)
    lacked = absent.astype(np.float64)
    squares = known * known
    squared = squared_euclidean(known, other)
    squared = squared - squares @ lacked.T - lacking @ (other * other).T
    present = (1.0 - lacking) @ (1.0 - lacked).T
    scaled = squared.clip(0.0, None) / present.clip(1.0, None) * float(fitted.shape[1])
    return graph.where(present.eq(0.0), np.inf, scaled.apply("Sqrt"))


def _nearest(graph: Graph, distances: Tensor, lacking: Array, model: Any) -> tuple[Tensor, Tensor]:
    """Return weights and positions of the nearest rows that have the cell."""
    count = min(int(model.n_neighbors), int((~lacking).sum()))
    if lacking.any():
        distances = distances + np.where(lacking, np.inf, 0.0)
    nearest, indices = graph.nodes(
        "TopK",
        [distances, np.array([count])],
        [(np.float64, (None, count)), (np.int64, (None, count))],
        axis=1,
        largest=0,
    )
    known = (nearest < np.inf).cast(np.float64)
    if model.weights == "uniform":
        return known, indices
    same = nearest.eq(0.0).cast(np.float64)
    some = same.reduce("ReduceMax") > 0.0
    weights = known / graph.where(same > 0.0, 1.0, nearest)
    return graph.where(some, same, weights), indices


def _mean(graph: Graph, weights: Tensor, indices: Tensor, cells: Array, lacking: Array) -> Tensor:
    """Return the weighted mean; that of all donors where no distance is known."""
    total = weights.sum()
    none = total.eq(0.0)
    donated = np.where(lacking, 0.0, cells)
    mean = (indices.lookup(donated) * weights).sum() / graph.where(none, 1.0, total)
    return graph.where(none, float(cells[~lacking].mean()), mean)
