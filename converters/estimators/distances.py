"""Euclidean distances and kernels in the arithmetic of scikit-learn and numpy."""

import numpy as np

from converters.onnx_writer import Array, Tensor

_LANES = 2
"""Partial sums that ``numpy.einsum`` keeps on x86-64: two doubles a register."""


def squared_norms(x: Tensor) -> Tensor:
    """Return ``row_norms(x, squared=True)``, (rows, 1), to the last bit.

    numpy 2.4 adds the squares in two partial sums, four registers at a time and each
    four backwards. A product with ones and zeros adds in the order of its rows.
    """
    order = _einsum_order(x.width)
    lanes = np.zeros((x.width, _LANES))
    lanes[np.arange(x.width), np.array(order) % _LANES] = 1.0
    return ((x * x).take(order) @ lanes).sum()


def _einsum_order(width: int) -> list[int]:
    block = 4 * _LANES
    whole = width // block * block
    order = [
        start + _LANES * register + lane
        for start in range(0, whole, block)
        for register in (3, 2, 1, 0)
        for lane in range(_LANES)
    ]
    return order + list(range(whole, width))


def squared_euclidean(x: Tensor, points: Array) -> Tensor:
    """Return ``euclidean_distances(x, points, squared=True)``, (rows, points).

    By the product of matrices, as scikit-learn does, with its loss where both are far
    from zero and near each other.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    norms: Array = np.einsum("ij,ij->i", points, points)
    return (x @ (-2.0 * points.T) + squared_norms(x) + norms).clip(0.0, None)
