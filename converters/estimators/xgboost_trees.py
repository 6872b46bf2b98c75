"""XGBoost's model as JSON, read into arrays of float32."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UnsupportedModelError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class XGBoostTree:
    """One tree: arrays over its nodes, -1 for a leaf's children.

    ``value`` is (nodes, outputs) where the leaves are vectors. ``members`` gives the
    categories that go right at nodes that ask for one.
    """

    feature: Array
    split: Array
    left: Array
    right: Array
    default_left: Array
    value: Array
    members: Mapping[int, Array]


@dataclass(frozen=True, slots=True)
class XGBoostModel:
    """A booster: trees up to the best iteration, or a linear model's weights.

    ``target`` and ``weight`` are each tree's output and factor; ``linear`` has the weights
    of all features, then those of the bias, a column an output.
    """

    objective: str
    base_score: npt.NDArray[np.float32]
    trees: Sequence[XGBoostTree]
    target: Sequence[int]
    weight: npt.NDArray[np.float32] | None
    linear: npt.NDArray[np.float32] | None

    @property
    def outputs(self) -> int:
        """The number of scores a row."""
        return len(self.base_score)


def read(booster: Any) -> XGBoostModel:
    """Read a booster, up to the iteration that the estimators' ``predict`` uses.

    Raises:
        UnsupportedModelError: a kind of booster that is not known.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    settings = learner["learner_model_param"]
    outputs = max(int(settings["num_class"]), int(settings["num_target"]), 1)
    base = np.atleast_1d(np.array(json.loads(settings["base_score"]), dtype=np.float32))
    base = np.broadcast_to(base.ravel(), (outputs,))
    objective = learner["objective"]["name"]
    boosted = learner["gradient_booster"]
    if boosted["name"] == "gblinear":
        weights = np.array(boosted["model"]["weights"], dtype=np.float32)
        return XGBoostModel(objective, base, (), (), None, weights.reshape(-1, outputs))
    dropped = boosted.get("weight_drop")
    if boosted["name"] not in {"gbtree", "dart"}:
        msg = f"XGBoost: booster {boosted['name']} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    model = boosted.get("gbtree", boosted)["model"]
    last = len(model["trees"])
    best = learner["attributes"].get("best_iteration")
    if best is not None:
        last = model["iteration_indptr"][min(int(best) + 1, len(model["iteration_indptr"]) - 1)]
    return XGBoostModel(
        objective,
        base,
        [_tree(tree) for tree in model["trees"][:last]],
        model["tree_info"][:last],
        None if dropped is None else np.array(dropped[:last], dtype=np.float32),
        None,
    )


def _tree(tree: dict[str, Any]) -> XGBoostTree:
    left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
    leaf = left < 0
    split = np.array(tree["split_conditions"], dtype=np.float32)
    width = int(tree["tree_param"]["size_leaf_vector"])
    if width > 1:
        vectors = np.array(tree["leaf_weights"], dtype=np.float32).reshape(-1, width)
        # A leaf's right child is its place among the leaves (seen in 3.2).
        value = np.where(leaf[:, None], vectors[np.where(leaf, right, 0)], np.float32(0))
    else:
        value = np.where(leaf, split, np.float32(0))
    categories = np.array(tree["categories"], dtype=np.int64)
    sets = zip(
        tree["categories_nodes"],
        tree["categories_segments"],
        tree["categories_sizes"],
        strict=True,
    )
    return XGBoostTree(
        feature=np.array(tree["split_indices"]),
        split=np.where(leaf, np.float32(0), split),
        left=left,
        right=np.where(leaf, -1, right),
        default_left=np.array(tree["default_left"], dtype=bool),
        value=value,
        members={node: categories[start : start + size] for node, start, size in sets},
    )
