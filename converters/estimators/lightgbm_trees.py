"""LightGBM's model text, read into arrays.

The rules of a split are those of ``Tree::NumericalDecision`` and
``Tree::CategoricalDecision`` in LightGBM's ``tree.h``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ZERO = float(np.float32(1e-35))
"""What is as small as this is zero to LightGBM (``kZeroThreshold``)."""

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_ZERO_MISSING, _NAN_MISSING = 1, 2


@dataclass(frozen=True, slots=True)
class Leaves:
    """The linear models of a tree's leaves: constants, and (features, coefficients) each."""

    constants: Array
    terms: tuple[tuple[Array, Array], ...]


@dataclass(frozen=True, slots=True)
class LightGBMTree:
    """One tree: the inner nodes' arrays, and the leaves' values.

    A child below zero is the leaf ``~child``. ``categorical`` and ``zero_missing`` tell of
    each node what is compared; ``members`` has the categories that go left.
    """

    feature: Array
    split: Array
    left: Array
    right: Array
    missing_left: Array
    categorical: Array
    zero_missing: Array
    members: tuple[Array, ...]
    value: Array
    linear: Leaves | None


@dataclass(frozen=True, slots=True)
class LightGBMModel:
    """A booster's trees up to its best iteration; tree i adds to output ``i % outputs``."""

    objective: tuple[str, ...]
    outputs: int
    averaged: bool
    trees: tuple[LightGBMTree, ...]

    @property
    def link(self) -> str:
        """The objective's name; empty for a function of the user's own."""
        return self.objective[0] if self.objective else ""

    def setting(self, name: str, default: float) -> float:
        """Return a number that the objective is followed by, as in ``binary sigmoid:1``."""
        for word in self.objective[1:]:
            key, _, value = word.partition(":")
            if key == name:
                return float(value)
        return default


def read(booster: Any) -> LightGBMModel:
    """Read a booster, up to the iteration that its ``predict`` uses."""
    text = booster.model_to_string()
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    header = _lines(head)
    return LightGBMModel(
        objective=tuple(header.get("objective", "").split()),
        outputs=int(header["num_tree_per_iteration"]),
        averaged="average_output" in head.splitlines(),
        trees=tuple(_tree(_lines(block)) for block in blocks),
    )


def _lines(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}


def _floats(text: str) -> Array:
    return np.array(text.split(), dtype=np.float64)


def _ints(text: str) -> Array:
    return np.array(text.split(), dtype=np.int64)


def _tree(block: dict[str, str]) -> LightGBMTree:
    decision = _ints(block["decision_type"])
    threshold = _floats(block["threshold"])
    categorical = (decision & _CATEGORICAL) > 0
    missing = (decision >> 2) & 3
    zero_missing = (missing == _ZERO_MISSING) & ~categorical
    default_left = (decision & _DEFAULT_LEFT) > 0
    # Where NaN has no side of its own it is compared as zero.
    missing_left = np.where(missing == 0, threshold >= 0.0, default_left) & ~categorical
    linear = block.get("is_linear", "0") == "1"
    return LightGBMTree(
        feature=_ints(block["split_feature"]),
        split=np.where(categorical, threshold, _around_zero(threshold)),
        left=_ints(block["left_child"]),
        right=_ints(block["right_child"]),
        missing_left=missing_left,
        categorical=categorical,
        zero_missing=zero_missing,
        members=tuple(_members(block, categorical, threshold)),
        value=_floats(block["leaf_value"]),
        linear=_leaves(block) if linear else None,
    )


def _around_zero(threshold: Array) -> Array:
    """Move thresholds so that ``x <= threshold`` takes tiny numbers for zero."""
    below = (threshold >= -ZERO) & (threshold < 0.0)
    above = (threshold >= 0.0) & (threshold < ZERO)
    return np.where(below, np.nextafter(-ZERO, -1.0), np.where(above, ZERO, threshold))


def _members(block: dict[str, str], categorical: Array, threshold: Array) -> Iterator[Array]:
    """Give the categories of each node that go left; none for numbers."""
    if not categorical.any():
        yield from (np.empty(0, dtype=np.int64) for _ in categorical)
        return
    boundaries = _ints(block["cat_boundaries"])
    words = _ints(block["cat_threshold"]).astype(np.uint32)
    for place, is_category in zip(threshold.astype(np.int64), categorical, strict=True):
        if not is_category:
            yield np.empty(0, dtype=np.int64)
            continue
        own = words[boundaries[place] : boundaries[place + 1]]
        yield np.flatnonzero(np.unpackbits(own.view(np.uint8), bitorder="little"))


def _leaves(block: dict[str, str]) -> Leaves:
    counts = _ints(block["num_features"])
    ends = np.cumsum(counts)[:-1]
    features = np.split(_ints(block["leaf_features"]), ends)
    coefficients = np.split(_floats(block["leaf_coeff"]), ends)
    terms = tuple(zip(features, coefficients, strict=True))
    return Leaves(_floats(block["leaf_const"]), terms)
