"""Rows that are hard for boosted trees, and how their answers are compared."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def numbers(rows: int = 300, width: int = 5) -> tuple[Array, Array]:
    """Return a matrix and a score that depends on it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, width))
    return x, 3 * x[:, 0] * x[:, 1] + x[:, 2] + 0.1 * rng.normal(size=rows)


def hard(x: Array, splits: Iterable[tuple[int, float]], *, missing: bool = True) -> Array:
    """Return rows on the splits, one step off them, huge, tiny and with NaN.

    A step is of float64 and of float32.
    """
    rng = np.random.default_rng(1)
    rows = [x]
    for feature, split in splits:
        near = np.float32(split)
        for value in (
            split,
            np.nextafter(split, np.inf),
            np.nextafter(split, -np.inf),
            float(np.nextafter(near, np.float32(np.inf))),
            float(np.nextafter(near, np.float32(-np.inf))),
        ):
            row = x[rng.integers(len(x))].copy()
            row[feature] = value
            rows.append(row[None])
    rows.append(x[:60] * 10.0 ** rng.uniform(2, 6, (60, 1)))
    rows.append(rng.choice([0.0, -0.0, 1e-35, -1e-35, 1e-36, 2e-35], (40, x.shape[1])))
    if missing:
        holes = x[:60].copy()
        holes[rng.random(holes.shape) < 0.3] = np.nan
        rows.append(holes)
    return np.concatenate(rows)


def assert_close(given: Array, wanted: Any, tolerance: float) -> None:
    """Check values to ``tolerance``, absolute and relative."""
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(
        given.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance, equal_nan=True
    )
