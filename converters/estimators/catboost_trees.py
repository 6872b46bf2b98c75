"""CatBoost's model as JSON, read into plain binary trees."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UnsupportedModelError

Array = npt.NDArray[Any]

# What a split asks for, and by which of its keys it is told: the column is found by both.
FLOAT, ONE_HOT, CTR = "FloatFeature", "OneHotFeature", "OnlineCtr"


@dataclass(frozen=True, slots=True)
class Split:
    """A test: ``number`` is the float feature, the category's feature, or the CTR.

    It holds where the value is above ``border``, or for categories where its hash is
    ``border``.
    """

    kind: str
    number: int
    border: float


@dataclass(frozen=True, slots=True)
class CatBoostTree:
    """Nodes in arrays, -1 for a leaf's children; ``holds`` is the child where a test holds.

    ``split`` is the place in the model's splits, ``value`` of shape (nodes, outputs).
    """

    split: Array
    fails: Array
    holds: Array
    value: Array


@dataclass(frozen=True, slots=True)
class CatBoostModel:
    """A model: its trees, the splits that they choose from, and what stands around them."""

    trees: Sequence[CatBoostTree]
    splits: Sequence[Split]
    features: Mapping[str, Any]
    tables: Mapping[str, Any]
    scale: float
    bias: npt.NDArray[np.float64]

    @property
    def outputs(self) -> int:
        """The number of scores a row."""
        return len(self.bias)


def read(model: Any) -> CatBoostModel:
    """Read a fitted model.

    Raises:
        UnsupportedModelError: it learned from texts or embeddings.
    """
    # CatBoost 1.2 fails to save these as JSON, so they are asked for first.
    for kind, learned in (
        ("text", model.get_text_feature_indices()),
        ("embedding", model.get_embedding_feature_indices()),
    ):
        if learned:
            msg = f"{type(model).__name__}: {kind} features are not written as exact ONNX"
            raise UnsupportedModelError(msg)
    saved = _saved(model)
    scale, bias = saved["scale_and_bias"]
    features = saved["features_info"]
    splits = _splits(features)
    trees = [_oblivious(tree, len(bias)) for tree in saved.get("oblivious_trees", ())]
    trees += [_grown(tree, len(bias)) for tree in saved.get("trees", ())]
    tables = saved.get("ctr_data", {})
    return CatBoostModel(
        trees, splits, features, tables, float(scale), np.array(bias, dtype=np.float64)
    )


def _saved(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return saved


def _splits(features: Mapping[str, Any]) -> list[Split]:
    """Return all splits in the order in which ``split_index`` counts them."""
    splits = [
        Split(FLOAT, feature["feature_index"], border)
        for feature in features.get("float_features", ())
        for border in feature["borders"]
    ]
    splits += [
        Split(ONE_HOT, feature["feature_index"], value)
        for feature in features.get("categorical_features", ())
        for value in feature.get("values", ())
    ]
    splits += [
        Split(CTR, number, border)
        for number, ctr in enumerate(features.get("ctrs", ()))
        for border in ctr["borders"]
    ]
    return splits


def _oblivious(tree: Mapping[str, Any], outputs: int) -> CatBoostTree:
    """Lay out a tree whose levels ask one question each; the last is asked at the root."""
    asked = [split["split_index"] for split in tree["splits"] or ()]
    depth = len(asked)
    inner = 2**depth - 1
    levels = np.array([asked[depth - 1 - level] for level in range(depth)], dtype=np.int64)
    leaves = np.array(tree["leaf_values"], dtype=np.float64).reshape(-1, outputs)
    nodes = np.arange(inner)
    none = np.full(len(leaves), -1)
    return CatBoostTree(
        split=np.concatenate([np.repeat(levels, 2 ** np.arange(depth)), none]).astype(np.int64),
        fails=np.concatenate([2 * nodes + 1, none]),
        holds=np.concatenate([2 * nodes + 2, none]),
        value=np.concatenate([np.zeros((inner, outputs)), leaves]),
    )


def _grown(tree: Mapping[str, Any], outputs: int) -> CatBoostTree:
    """Lay out a tree of nodes that hold their children."""
    split: list[int] = []
    fails: list[int] = []
    holds: list[int] = []
    value: list[Array] = []
    waiting = [(tree, -1, False)]
    while waiting:
        node, parent, held = waiting.pop()
        number = len(split)
        if parent >= 0:
            (holds if held else fails)[parent] = number
        inner = "split" in node
        split.append(node["split"]["split_index"] if inner else -1)
        fails.append(-1)
        holds.append(-1)
        value.append(np.broadcast_to(0.0 if inner else node["value"], (outputs,)))
        if inner:
            waiting += [(node["right"], number, True), (node["left"], number, False)]
    return CatBoostTree(np.array(split), np.array(fails), np.array(holds), np.array(value))
