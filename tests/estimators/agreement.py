"""Data to fit on, rows that are hard, and whether a written model answers as its original."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import make_classification

Array = npt.NDArray[Any]

LETTERS = np.array(["a", "bé", "c"], dtype=object)
_METHODS = ("transform", "predict", "predict_proba", "decision_function")


def classes(count: int = 3, rows: int = 200) -> tuple[Array, Array]:
    """Return rows of eight features, and integer labels."""
    x, y = make_classification(
        rows, 8, n_informative=6, n_redundant=0, n_classes=count, flip_y=0.1, random_state=0
    )
    return x, y


def values(outputs: int = 1, rows: int = 200) -> tuple[Array, Array]:
    """Return rows, and one target or several."""
    x, _ = classes(rows=rows)
    rng = np.random.default_rng(0)
    y = x @ rng.normal(size=(8, outputs)) * 3 + np.sin(x[:, :1]) * 5
    return x, y if outputs > 1 else y[:, 0]


def hard(x: Array) -> Array:
    """Return the training rows, others, one unit in the last place off, huge ones, zeros."""
    new = np.random.default_rng(1).normal(size=(101, x.shape[1])) * x.std(axis=0)
    huge = [x[:20] * 10.0**power for power in range(2, 7)]
    return np.vstack([x, new, np.nextafter(x, np.inf), *huge, np.zeros((1, x.shape[1]))])


def differences(
    written: Callable[..., list[Array]], model: Any, rows: Array, tolerance: float = 1e-9
) -> list[str]:
    """Return the methods whose ONNX answers differ: labels at all, numbers by that much.

    Numbers are compared relative to the largest answer to an ordinary row.
    """
    found = []
    for method in (name for name in _METHODS if hasattr(model, name)):
        expected = getattr(model, method)(rows)
        several = isinstance(expected, list)
        names = [f"{method}:{i}" for i in range(len(expected))] if several else [method]
        for want, got in zip(
            expected if several else [expected], written(model, rows, *names), strict=True
        ):
            if not _same(np.asarray(want), got, tolerance):
                found.append(method)
    return found


def _same(want: Array, got: Array, tolerance: float) -> bool:
    if want.shape != got.shape:
        return False
    if want.dtype.kind != "f":
        return bool((want.astype(got.dtype) == got).all())
    size = np.nanmax(np.abs(want[:200]), initial=0.0)
    return bool(np.allclose(got, want, rtol=tolerance, atol=tolerance * size, equal_nan=True))
