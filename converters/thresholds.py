"""Where a fitted model splits: the numbers at which its trees and bins change their answer."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters import anatomy

Split = tuple[int, float]
"""The position of a column, as the part of the model that splits counts them; the number."""


def of(model: Any) -> list[Split]:
    """Return every split of every tree and bin in a model, each once."""
    return list(dict.fromkeys(split for part in anatomy.parts(model) for split in _of(part)))


def _of(part: Any) -> Iterator[Split]:
    root = type(part).__module__.partition(".")[0]
    if hasattr(getattr(part, "tree_", None), "children_left"):  # KernelDensity's has none.
        inner = part.tree_.children_left != -1
        yield from _pairs(part.tree_.feature[inner], part.tree_.threshold[inner])
    elif hasattr(part, "_predictors"):
        yield from _hist_gradient_boosting(part)
    elif hasattr(part, "bin_edges_"):
        for column, edges in enumerate(part.bin_edges_):
            yield from ((column, float(edge)) for edge in edges[1:-1])
    elif root == "lightgbm":
        yield from _lightgbm(getattr(part, "_Booster", part))
    elif root == "xgboost" and getattr(part, "_Booster", None) is not None:
        yield from _xgboost(part.get_booster())
    elif root == "catboost" and hasattr(part, "get_borders") and part.is_fitted():
        for column, borders in part.get_borders().items():
            yield from ((int(column), float(border)) for border in borders)


def _hist_gradient_boosting(part: Any) -> Iterator[Split]:
    columns = np.arange(part.n_features_in_)
    if part._preprocessor is not None:  # noqa: SLF001 - it puts the categorical columns first
        columns = np.concatenate(
            [np.flatnonzero(part.is_categorical_), np.flatnonzero(~part.is_categorical_)]
        )
    for predictor in (one for each in part._predictors for one in each):  # noqa: SLF001
        nodes = predictor.nodes
        split = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
        yield from _pairs(columns[split["feature_idx"]], split["num_threshold"])


def _pairs(columns: Any, numbers: Any) -> Iterator[Split]:
    return zip(np.asarray(columns).tolist(), np.asarray(numbers).tolist(), strict=True)


def _lightgbm(booster: Any) -> Iterator[Split]:
    if not hasattr(booster, "dump_model"):
        return
    waiting = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "split_index" in node:
            waiting += [node["left_child"], node["right_child"]]
            if node["decision_type"] == "<=":
                yield node["split_feature"], float(node["threshold"])


def _xgboost(booster: Any) -> Iterator[Split]:
    if json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear":
        return
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    for tree in trees.get("gbtree", trees)["model"]["trees"]:
        nodes = zip(
            tree["left_children"],
            tree["split_type"],
            tree["split_indices"],
            tree["split_conditions"],
            strict=True,
        )
        for left, kind, column, number in nodes:
            if left != -1 and kind == 0:
                yield column, float(number)
