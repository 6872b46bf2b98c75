"""Distances from each row to each of a model's points, shape (rows, points), by name.

None of them makes a tensor of rows times points times features: they add up one feature
after another, in the order in which scikit-learn's compiled loops do, which keeps them
bit-equal.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converters.estimators.distances import squared_euclidean
from converters.estimators.kernels import kernel
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

Term = Callable[[Tensor, Tensor], Tensor]

_ALIASES = {
    "cityblock": "manhattan",
    "l1": "manhattan",
    "l2": "euclidean",
    "p": "minkowski",
    "infinity": "chebyshev",
}


def squared_about_middle(x: Tensor, points: Array) -> Tensor:
    """Return squared distances by the product form, the points' middle taken off first.

    Its error is a few units in the last place of the points' own spread, where that of
    the plain product grows with how far the data is from zero.
    """
    middle = np.asarray(points, dtype=np.float64).mean(axis=0)
    return squared_euclidean(x - middle, points - middle)


def squared(x: Tensor, points: Array) -> Tensor:
    """Return the sum of squared differences, feature after feature."""
    return _added(x, points, _square)


def between(x: Tensor, points: Array, metric: str, parameters: Mapping[str, Any]) -> Tensor:
    """Return the distances by a metric's name.

    Raises:
        UnsupportedModelError: the metric has no exact ONNX form here.
    """
    points = np.asarray(points, dtype=np.float64)
    name = _ALIASES.get(metric, metric)
    if name == "minkowski":
        return _minkowski(x, points, **parameters)
    if name == "euclidean":
        return squared(x, points).apply("Sqrt")
    if name == "seuclidean":
        variance = np.asarray(parameters["V"], dtype=np.float64)
        return _added(x, points, _square, 1.0 / variance).apply("Sqrt")
    simple = _SIMPLE.get(name)
    if simple is None:
        msg = f"its metric {metric!r} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    return simple(x, points)


def _minkowski(x: Tensor, points: Array, p: float = 2.0, w: Any = None) -> Tensor:
    weights = None if w is None else np.asarray(w, dtype=np.float64)
    if p == np.inf:
        if weights is None:
            return _chebyshev(x, points)
        msg = "its metric 'minkowski' with p=inf and weights is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    powers: Mapping[float, Term] = {1.0: _absolute, 2.0: _square}

    def power(a: Tensor, b: Tensor) -> Tensor:
        return _absolute(a, b) ** float(p)

    total = _added(x, points, powers.get(float(p), power), weights)
    if p == 1:
        return total
    return total.apply("Sqrt") if p == 2 else total ** (1.0 / p)  # noqa: PLR2004


def _added(x: Tensor, points: Array, term: Term, weights: Array | None = None) -> Tensor:
    total: Tensor | None = None
    for i, (own, theirs) in enumerate(_features(x, points)):
        part = term(own, theirs)
        part = part if weights is None else part * float(weights[i])
        total = part if total is None else total + part
    return _found(total)


def _features(x: Tensor, points: Array) -> list[tuple[Tensor, Tensor]]:
    points = np.asarray(points, dtype=np.float64)
    return [(x.take([i]), x.graph.constant(points[np.newaxis, :, i])) for i in range(x.width)]


def _found(total: Tensor | None) -> Tensor:
    if total is None:
        msg = "it was fitted on no features"
        raise UnsupportedModelError(msg)
    return total


def _square(a: Tensor, b: Tensor) -> Tensor:
    difference = a - b
    return difference * difference


def _absolute(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).apply("Abs")


def _relative(a: Tensor, b: Tensor) -> Tensor:
    size = a.apply("Abs") + b.apply("Abs")
    nothing = size.eq(0.0)
    return a.graph.where(nothing, 0.0, _absolute(a, b) / a.graph.where(nothing, 1.0, size))


def _unequal(a: Tensor, b: Tensor) -> Tensor:
    return 1.0 - a.eq(b).cast(np.float64)


def _manhattan(x: Tensor, points: Array) -> Tensor:
    return _added(x, points, _absolute)


def _canberra(x: Tensor, points: Array) -> Tensor:
    return _added(x, points, _relative)


def _hamming(x: Tensor, points: Array) -> Tensor:
    return _added(x, points, _unequal) / float(x.width)


def _braycurtis(x: Tensor, points: Array) -> Tensor:
    size = _added(x, points, lambda a, b: (a + b).apply("Abs"))
    return _manhattan(x, points) / size


def _chebyshev(x: Tensor, points: Array) -> Tensor:
    total: Tensor | None = None
    for own, theirs in _features(x, points):
        part = _absolute(own, theirs)
        total = part if total is None else part.graph.node("Max", [total, part], part.shape)
    return _found(total)


def _cosine(x: Tensor, points: Array) -> Tensor:
    return (1.0 - kernel(x.graph, x, points, "cosine", {})).clip(0.0, 2.0)


_SIMPLE: Mapping[str, Callable[[Tensor, Array], Tensor]] = {
    "sqeuclidean": squared,
    "manhattan": _manhattan,
    "chebyshev": _chebyshev,
    "cosine": _cosine,
    "canberra": _canberra,
    "braycurtis": _braycurtis,
    "hamming": _hamming,
}


def nearest(graph: Graph, distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest distances and their positions; of equal ones the first."""
    shape = (distances.shape[0], count)
    values, indices = graph.nodes(
        "TopK",
        [distances, np.array([count])],
        [(np.dtype(np.float64), shape), (np.dtype(np.int64), shape)],
        axis=1,
        largest=0,
        sorted=1,
    )
    return values, indices


def first_nearest(x: Tensor, points: Array) -> Tensor:
    """Return the position of the nearest point, by the product form."""
    points = np.asarray(points, dtype=np.float64)
    norms: Array = np.einsum("ij,ij->i", points, points)
    return (2.0 * (x @ np.ascontiguousarray(points.T)) - norms).argmax()
