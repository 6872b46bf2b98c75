"""Covariance functions of Gaussian processes, and what they are of a row with itself."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from converters.estimators import metrics
from converters.estimators.kernels import kernel as pairwise
from converters.onnx_writer import Array, Tensor
from toolkit.errors import UnsupportedModelError

_SIMPLE_ORDERS = (0.5, 1.5, 2.5, math.inf)


def covariance(x: Tensor, points: Array, kernel: Any) -> Tensor:
    """Return ``kernel(x, points)``, (rows, points).

    Raises:
        UnsupportedModelError: a kernel of the user's own, or one that has no ONNX form.
    """
    return _written(kernel)[0](x, points, kernel)


def variance(x: Tensor, kernel: Any) -> Tensor:
    """Return ``kernel.diag(x)``, (rows, 1).

    Raises:
        UnsupportedModelError: as ``covariance``.
    """
    return _written(kernel)[1](x, kernel)


def _written(kernel: Any) -> "tuple[_Covariance, _Variance]":
    cls = type(kernel)
    found = _KERNELS.get(cls.__name__)
    if found is None or not cls.__module__.startswith("sklearn."):
        msg = f"its kernel {cls.__name__} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    return found


def _rbf(x: Tensor, points: Array, kernel: Any) -> Tensor:
    return (metrics.squared(*_scaled(x, points, kernel)) * -0.5).apply("Exp")


def _matern(x: Tensor, points: Array, kernel: Any) -> Tensor:
    if kernel.nu not in _SIMPLE_ORDERS:
        msg = f"its kernel Matern with nu={kernel.nu} needs a Bessel function, which ONNX lacks"
        raise UnsupportedModelError(msg)
    squared = metrics.squared(*_scaled(x, points, kernel))
    if kernel.nu == math.inf:
        return (squared / -2.0).apply("Exp")
    distance = squared.apply("Sqrt") * math.sqrt(2 * kernel.nu)
    decay = (-distance).apply("Exp")
    if kernel.nu == _SIMPLE_ORDERS[0]:
        return decay
    if kernel.nu == _SIMPLE_ORDERS[1]:
        return (1.0 + distance) * decay
    return (1.0 + distance + distance * distance / 3.0) * decay


def _scaled(x: Tensor, points: Array, kernel: Any) -> tuple[Tensor, Array]:
    scale = np.squeeze(np.asarray(kernel.length_scale, dtype=np.float64))
    return x / scale, np.asarray(points) / scale


def _rational_quadratic(x: Tensor, points: Array, kernel: Any) -> Tensor:
    scale = float(np.squeeze(kernel.length_scale))
    squared = metrics.squared(x, points)
    return (1.0 + squared / float(2 * kernel.alpha * scale**2)) ** float(-kernel.alpha)


def _exp_sine_squared(x: Tensor, points: Array, kernel: Any) -> Tensor:
    distance = metrics.squared(x, points).apply("Sqrt")
    sine = (distance * float(np.pi / kernel.periodicity)).apply("Sin") / float(kernel.length_scale)
    return (sine * sine * -2.0).apply("Exp")


def _dot_product(x: Tensor, points: Array, kernel: Any) -> Tensor:
    return x @ np.ascontiguousarray(points.T) + float(kernel.sigma_0) ** 2


def _dot_variance(x: Tensor, kernel: Any) -> Tensor:
    return (x * x).sum() + float(kernel.sigma_0) ** 2


def _constant(x: Tensor, points: Array, kernel: Any) -> Tensor:
    return _everywhere(x, np.full((1, len(points)), float(kernel.constant_value)))


def _white(x: Tensor, points: Array, _kernel: Any) -> Tensor:
    return _everywhere(x, np.zeros((1, len(points))))


def _everywhere(x: Tensor, row: Array) -> Tensor:
    rows = x.graph.node("Shape", [x], (1,), dtype=np.int64, start=0, end=1)
    shape = x.graph.concat([rows, x.graph.constant(np.array([row.shape[1]]))], axis=0)
    return x.graph.node("Expand", [x.graph.constant(row), shape], (None, row.shape[1]))


def _pairwise(x: Tensor, points: Array, kernel: Any) -> Tensor:
    parameters = {**(kernel.pairwise_kernels_kwargs or {}), "gamma": kernel.gamma}
    return pairwise(x.graph, x, points, kernel.metric, parameters)


def _pairwise_variance(x: Tensor, kernel: Any) -> Tensor:
    if kernel.metric in {"rbf", "laplacian", "chi2"}:
        return _one(x, kernel)
    msg = f"the variance of its kernel {kernel.metric!r} is not written as exact ONNX"
    raise UnsupportedModelError(msg)


def _one(x: Tensor, _kernel: Any) -> Tensor:
    return _everywhere(x, np.ones((1, 1)))


_Covariance = Callable[[Tensor, Array, Any], Tensor]
_Variance = Callable[[Tensor, Any], Tensor]

_KERNELS: dict[str, tuple[_Covariance, _Variance]] = {
    "RBF": (_rbf, _one),
    "Matern": (_matern, _one),
    "RationalQuadratic": (_rational_quadratic, _one),
    "ExpSineSquared": (_exp_sine_squared, _one),
    "DotProduct": (_dot_product, _dot_variance),
    "ConstantKernel": (
        _constant,
        lambda x, k: _everywhere(x, np.full((1, 1), float(k.constant_value))),
    ),
    "WhiteKernel": (_white, lambda x, k: _everywhere(x, np.full((1, 1), float(k.noise_level)))),
    "PairwiseKernel": (_pairwise, _pairwise_variance),
    "Sum": (
        lambda x, p, k: covariance(x, p, k.k1) + covariance(x, p, k.k2),
        lambda x, k: variance(x, k.k1) + variance(x, k.k2),
    ),
    "Product": (
        lambda x, p, k: covariance(x, p, k.k1) * covariance(x, p, k.k2),
        lambda x, k: variance(x, k.k1) * variance(x, k.k2),
    ),
    "Exponentiation": (
        lambda x, p, k: covariance(x, p, k.kernel) ** float(k.exponent),
        lambda x, k: variance(x, k.kernel) ** float(k.exponent),
    ),
}
