"""Rows that are hard for transformers, and a comparison of what they are turned into."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Written = Callable[..., list[Array]]


def table(rows: int = 300, columns: int = 5) -> Array:
    """Return columns of different sizes, one of them of whole numbers."""
    random = np.random.default_rng(0)
    sizes = np.resize([1.0, 10.0, 0.1, 3.0, 1e3], columns)
    made: Array = random.normal(size=(rows, columns)) * sizes
    made[:, 3] = np.round(made[:, 3])
    return made


def hard_rows(rows: Array, *, missing: bool = False) -> Array:
    """Return rows as they are, one step beside, scaled up and down, and zero."""
    made = np.vstack(
        [
            rows,
            np.nextafter(rows, np.inf),
            np.nextafter(rows, -np.inf),
            rows * 1e2,
            rows * 1e6,
            rows * 1e-9,
            rows[:3] * 0.0,
        ]
    )
    if missing:
        made[np.random.default_rng(1).random(made.shape) < 0.1] = np.nan
        made[7] = np.nan
    return made


def same(
    written: Written, model: Any, fitted_on: Array, rows: Array, *, rtol: float, y: Any = None
) -> None:
    """Fit, write, and compare; the tolerance is relative to a row's largest cell."""
    model.fit(fitted_on, y)
    wanted = model.transform(rows)
    wanted = np.asarray(wanted.toarray() if hasattr(wanted, "toarray") else wanted, dtype=float)
    for count in (len(rows), 1):
        (given,) = written(model, rows[:count], "transform")
        assert given.shape == wanted[:count].shape
        np.testing.assert_array_equal(np.isnan(given), np.isnan(wanted[:count]))
        largest = np.nanmax(np.abs(wanted[:count]), axis=1, initial=0.0, keepdims=True)
        apart = np.nan_to_num(np.abs(given - wanted[:count]))
        assert (apart <= rtol * largest).all(), (apart / np.maximum(largest, 1e-300)).max()
