"""Kernels of rows against fixed points, as ``sklearn.metrics.pairwise`` computes them."""

from typing import Any

import numpy as np

from converters.estimators.distances import squared_euclidean, squared_norms
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

_MOST_COLUMNS = 1_000
"""Kernels that are summed up column by column are written for no more columns than this."""


def kernel(graph: Graph, x: Tensor, points: Any, metric: Any, params: dict[str, Any]) -> Tensor:
    """Return ``pairwise_kernels(x, points, metric, **params)``, (rows, points).

    Parameters that are missing or ``None`` have scikit-learn's defaults; those of other
    kernels are ignored.

    Raises:
        UnsupportedModelError: the kernel is a function of the user's or unknown.
    """
    if metric == "precomputed":
        return x
    given = {name: value for name, value in params.items() if value is not None}
    gamma = float(given.get("gamma", 1.0 if metric == "chi2" else 1.0 / x.width))
    dense = points.toarray() if hasattr(points, "toarray") else points
    points = np.ascontiguousarray(dense, dtype=np.float64)
    if metric in {"linear", "poly", "polynomial", "sigmoid"}:
        return _of_products(x @ points.T, str(metric), gamma, given)
    if metric == "rbf":
        return (squared_euclidean(x, points) * -gamma).apply("Exp")
    if metric == "cosine":
        return unit_rows(graph, x) @ _unit(points).T
    if metric == "laplacian":
        return (manhattan(x, points) * -gamma).apply("Exp")
    if metric in {"additive_chi2", "chi2"}:
        total = _additive_chi2(graph, x, points)
        return total if metric == "additive_chi2" else (total * gamma).apply("Exp")
    name = "of the user's own" if callable(metric) else repr(metric)
    msg = f"the kernel {name} is not written as exact ONNX"
    raise UnsupportedModelError(msg)


def _of_products(products: Tensor, metric: str, gamma: float, given: dict[str, Any]) -> Tensor:
    if metric == "linear":
        return products
    scaled = products * gamma + float(given.get("coef0", 1.0))
    if metric == "sigmoid":
        return scaled.apply("Tanh")
    degree = float(given.get("degree", 3))
    if degree == 2:  # noqa: PLR2004
        return scaled**degree
    # ONNX Runtime multiplies for one exponent of 3; for a row of them it takes the power
    # of each cell, whose last bit is numpy's.
    return scaled ** np.full((1, products.width), degree)


def unit_rows(graph: Graph, x: Tensor) -> Tensor:
    """Return rows over their euclidean norm; one of (nearly) zero norm stays."""
    norm = squared_norms(x).apply("Sqrt")
    # The bound below which scikit-learn takes a norm for zero.
    return x / graph.where(norm < 10 * np.finfo(np.float64).eps, 1.0, norm)


def _unit(points: Array) -> Array:
    from sklearn.preprocessing import normalize

    return np.asarray(normalize(points))


def manhattan(x: Tensor, points: Array) -> Tensor:
    """Return the sums of absolute differences, (rows, points), added column by column."""
    _check_width(x)
    total: Tensor | None = None
    for i in range(x.width):
        term = (x.take([i]) - points[:, i]).apply("Abs")
        total = term if total is None else total + term
    assert total is not None
    return total


def _additive_chi2(graph: Graph, x: Tensor, points: Array) -> Tensor:
    _check_width(x)
    total: Tensor | None = None
    for i in range(x.width):
        column = x.take([i])
        difference, both = column - points[:, i], column + points[:, i]
        nothing = both.eq(0.0)
        term = graph.where(nothing, 0.0, difference * difference / graph.where(nothing, 1.0, both))
        total = term if total is None else total + term
    assert total is not None
    return -total


def _check_width(x: Tensor) -> None:
    if x.width > _MOST_COLUMNS:
        msg = f"a kernel that is added up column by column has {x.width} columns"
        raise UnsupportedModelError(msg)
