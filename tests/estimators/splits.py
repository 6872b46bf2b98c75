"""Rows that are hard for a tree: on a split, one float64 off it, and where float32 rounds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def splits_of(model: Any) -> Iterator[tuple[int, float]]:
    """Yield (feature, threshold) of every split in a model and the models within it."""
    if hasattr(model, "tree_"):
        inner = model.tree_.feature >= 0
        yield from zip(model.tree_.feature[inner], model.tree_.threshold[inner], strict=True)
    for iteration in getattr(model, "_predictors", ()):
        for predictor in iteration:
            nodes = predictor.nodes
            inner = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)
            yield from zip(nodes["feature_idx"][inner], nodes["num_threshold"][inner], strict=True)
    for part in np.ravel(np.array(getattr(model, "estimators_", ()), dtype=object)):
        yield from splits_of(part)


def hard_rows(model: Any, x: Array, *, nan: bool = False, infinite: bool = False) -> Array:
    """Return rows made of ``x`` that a conversion gets wrong if it can."""
    random = np.random.default_rng(0)
    x = np.nan_to_num(x)
    splits = [(int(f), t) for f, t in splits_of(model) if np.isfinite(t)]
    chosen = [splits[i] for i in random.integers(0, len(splits), 150)]
    edges = np.array([_edges(t) for _, t in chosen])
    kinds = [x, x[:150] * random.choice([1e2, 1e4, 1e6], (len(x[:150]), 1))]
    for edge in edges.T:
        rows = x[random.integers(0, len(x), len(chosen))].copy()
        rows[np.arange(len(chosen)), [feature for feature, _ in chosen]] = edge
        kinds.append(rows)
    if nan:
        kinds.append(np.where(random.random(x.shape) < 0.3, np.nan, x))
    if infinite:
        kinds.append(np.where(random.random(x.shape) < 0.2, np.inf, -x))
        kinds.append(np.where(random.random(x.shape) < 0.2, -np.inf, x))
    return np.concatenate(kinds)


def _edges(threshold: float) -> list[float]:
    """Return the threshold and where rounding to float32 goes over it, each with neighbours."""
    single = np.float32(threshold)
    half_way = (float(single) + float(np.nextafter(single, np.float32(np.inf)))) / 2
    return [
        float(edge)
        for at in (threshold, half_way)
        for edge in (at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf))
    ]
