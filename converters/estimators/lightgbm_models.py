"""LightGBM: float64 trees, linear leaves, and the link of each objective."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators import lightgbm_trees
from converters.estimators.category_codes import coded_matrix
from converters.estimators.lightgbm_trees import ZERO, LightGBMModel, LightGBMTree
from converters.estimators.linear import softmax
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.table import Table
from converters.estimators.trees import Tree, constant_tree, reached_leaves, tree_ensemble
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_LOGISTIC = {"binary", "multiclassova", "cross_entropy"}
_EXPONENTIAL = {"poisson", "gamma", "tweedie"}
_AS_IT_IS = {"", "custom", "huber", "lambdarank", "rank_xendcg"}
# These square the score where ``reg_sqrt`` took the root of the targets.
_ROOTS = {"regression", "regression_l1", "quantile", "mape", "fair"}
_MUCH_MORE_THAN_ONE = 1e18
_PLAIN, _ZERO_IS_MISSING, _CATEGORY = range(3)


@writes("lightgbm:LGBMRegressor", "lightgbm:LGBMRanker", "lightgbm:LGBMModel")
def write_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write what a regressor or a ranker predicts."""
    _check_settings(model)
    answer = booster_answer(graph, model.booster_, coded_matrix(graph, model, x))
    return {"predict": answer.reshape(-1) if answer.width == 1 else answer}


@writes("lightgbm:LGBMClassifier")
def write_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write labels and probabilities; raw scores with an objective of the user's own."""
    _check_settings(model)
    answer = booster_answer(graph, model.booster_, coded_matrix(graph, model, x))
    if callable(model.objective_):
        raw = answer.reshape(-1) if answer.width == 1 else answer
        return {"predict": raw, "predict_proba": raw}
    probabilities = graph.concat([1.0 - answer, answer]) if answer.width == 1 else answer
    return {
        "predict_proba": probabilities,
        **labelled(graph, model.classes_, probabilities.argmax()),
    }


@writes("lightgbm:Booster")
def write_booster(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a bare booster's ``predict``, and what a classifier would make of it."""
    answer = booster_answer(graph, model, coded_matrix(graph, model, x))
    probabilities = graph.concat([1.0 - answer, answer]) if answer.width == 1 else answer
    return {
        "predict": answer,
        "booster_probabilities": probabilities,
        "booster_label": probabilities.argmax(),
    }


def _check_settings(model: Any) -> None:
    if model.get_params().get("pred_early_stop"):
        msg = f"{type(model).__name__}: pred_early_stop leaves trees out, row by row"
        raise UnsupportedModelError(msg)


def booster_answer(graph: Graph, booster: Any, x: Tensor) -> Tensor:
    """Return what ``Booster.predict`` gives, shape (rows, outputs)."""
    model = lightgbm_trees.read(booster)
    return _linked(graph, _scores(graph, model, x), model)


def _scores(graph: Graph, model: LightGBMModel, x: Tensor) -> Tensor:
    """Return the sums of the trees, averaged in a random forest; negated for a logistic link."""
    if not model.trees:
        return tree_ensemble(
            x, [constant_tree(0.0, i) for i in range(model.outputs)], model.outputs
        )
    tested, features = _columns_of_tests(graph, model, x)
    if any(tree.linear for tree in model.trees):
        scores = _linear_sums(graph, model, x, tested, features)
        scores = -scores if model.link in _LOGISTIC else scores
    else:
        sign = -1.0 if model.link in _LOGISTIC else 1.0
        trees = _trees(model, features, sign)
        scores = tree_ensemble(tested, trees, model.outputs)
    if model.averaged:
        scores = scores / float(len(model.trees) // model.outputs)
    return scores


def _linked(graph: Graph, raw: Tensor, model: LightGBMModel) -> Tensor:
    link = model.link
    if link in _LOGISTIC:
        steepness = model.setting("sigmoid", 1.0)
        return 1.0 / (1.0 + (raw if steepness == 1.0 else raw * steepness).apply("Exp"))
    if link == "multiclass":
        return softmax(raw)
    if link in _EXPONENTIAL:
        return raw.apply("Exp")
    if link == "cross_entropy_lambda":
        return _log1p_of_exp(graph, raw)
    if link not in _ROOTS | _AS_IT_IS:
        msg = f"LightGBM: the link of objective {link} is not known"
        raise UnsupportedModelError(msg)
    return raw * raw.apply("Abs") if link in _ROOTS and "sqrt" in model.objective else raw


def _log1p_of_exp(graph: Graph, raw: Tensor) -> Tensor:
    """Return log1p(exp(raw)): log(u) * e / (u - 1) with u = 1 + e, exact for small e too."""
    exponent = raw.apply("Exp")
    one_more = 1.0 + exponent
    lost = one_more.eq(1.0)
    small = graph.where(lost, 2.0, one_more)
    precise = small.apply("Log") * (exponent / (small - 1.0))
    large = graph.where(exponent > _MUCH_MORE_THAN_ONE, raw, precise)
    infinite = graph.where(exponent.apply("IsInf", np.bool_), exponent, large)
    return graph.where(lost, exponent, infinite)


def _columns_of_tests(
    graph: Graph, model: LightGBMModel, x: Tensor
) -> tuple[Tensor, dict[tuple[int, int], int]]:
    """Return the columns that nodes compare, and the place of each (feature, kind) there."""
    keys = {
        key
        for tree in model.trees
        for key in zip(tree.feature.tolist(), _kinds(tree).tolist(), strict=True)
    }
    if all(kind == _PLAIN for _, kind in keys):
        return x, {(feature, _PLAIN): feature for feature in range(x.width)}
    ordered = sorted(keys, key=lambda key: (key[1], key[0]))
    parts = []
    for kind in (_PLAIN, _ZERO_IS_MISSING, _CATEGORY):
        chosen = [feature for feature, of in ordered if of == kind]
        if chosen:
            parts.append(_seen_as(graph, x.take(chosen), kind))
    return graph.concat(parts), {key: place for place, key in enumerate(ordered)}


def _seen_as(graph: Graph, columns: Tensor, kind: int) -> Tensor:
    if kind == _ZERO_IS_MISSING:
        return graph.where(columns.apply("Abs") <= ZERO, np.nan, columns)
    if kind == _CATEGORY:
        # A category is cut to an integer, towards zero.
        return columns.apply("Sign") * columns.apply("Abs").apply("Floor")
    return columns


def _kinds(tree: LightGBMTree) -> npt.NDArray[np.int64]:
    """Return how each node sees its feature."""
    kinds: npt.NDArray[np.int64] = np.where(
        tree.categorical, _CATEGORY, np.where(tree.zero_missing, _ZERO_IS_MISSING, _PLAIN)
    )
    return kinds


def _trees(
    model: LightGBMModel, features: dict[tuple[int, int], int], sign: float = 1.0
) -> list[Tree]:
    return [_as_tree(tree, i % model.outputs, features, sign) for i, tree in enumerate(model.trees)]


def _as_tree(
    tree: LightGBMTree, target: int, features: dict[tuple[int, int], int], sign: float
) -> Tree:
    """Count the leaves after the inner nodes."""
    inner, leaves = len(tree.feature), len(tree.value)
    none = np.full(leaves, -1)
    keys = zip(tree.feature.tolist(), _kinds(tree).tolist(), strict=True)
    padding = np.zeros(leaves, dtype=np.int64)
    return Tree(
        feature=np.concatenate([[features[key] for key in keys], padding]).astype(np.int64),
        split=np.concatenate([tree.split, padding]),
        left=np.concatenate([_children(tree.left, inner), none]),
        right=np.concatenate([_children(tree.right, inner), none]),
        value=np.concatenate([np.zeros(inner), tree.value * sign]),
        missing_left=np.concatenate([tree.missing_left, padding > 0]),
        members={node: tree.members[node] for node in np.flatnonzero(tree.categorical).tolist()},
        target=target,
    )


def _children(child: npt.NDArray[Any], inner: int) -> npt.NDArray[Any]:
    return np.where(child >= 0, child, inner + ~child)


def _linear_sums(
    graph: Graph,
    model: LightGBMModel,
    x: Tensor,
    tested: Tensor,
    features: dict[tuple[int, int], int],
) -> Tensor:
    """Return the sums of linear leaves: a leaf with a NaN among its features is constant."""
    values, constants, places, factors = _leaf_tables(model.trees, x.width)
    leaves = reached_leaves(tested, _trees(model, features))
    # Beside the features a column of zeros, for the leaves with fewer terms.
    tiny = graph.where(x.apply("Abs") <= ZERO, 0.0, x)
    padded = graph.concat([tiny, tiny.take([0]).apply("IsNaN", np.bool_).cast(np.float64) * 0.0])
    total = leaves.lookup(constants)
    missing = total.apply("IsNaN", np.bool_)
    for term in range(places.shape[1]):
        chosen = leaves.lookup(places[:, term])
        cell = graph.node("GatherElements", [padded, chosen], chosen.shape, axis=1)
        total = total + leaves.lookup(factors[:, term]) * cell
        missing = missing | cell.is_nan()
    total = graph.where(missing, leaves.lookup(values), total)
    total = total.reshape(-1, len(model.trees) // model.outputs, model.outputs)
    # ONNX Runtime adds up the first axis one entry after the other, as LightGBM does.
    return total.transpose(1, 0, 2).reduce("ReduceSum", 0, keepdims=False)


def _leaf_tables(
    trees: Sequence[LightGBMTree], padding: int
) -> tuple[npt.NDArray[np.float64], ...] | Any:
    """Return of all leaves the values, the constants, and the features and factors."""
    values = np.concatenate([tree.value for tree in trees])
    constants = np.concatenate(
        [tree.value if tree.linear is None else tree.linear.constants for tree in trees]
    )
    terms = [
        term
        for tree in trees
        for term in (
            tree.linear.terms if tree.linear else [(np.empty(0), np.empty(0))] * len(tree.value)
        )
    ]
    most = max((len(features) for features, _ in terms), default=0)
    places = np.full((len(terms), most), padding, dtype=np.int64)
    factors = np.zeros((len(terms), most))
    for leaf, (features, coefficients) in enumerate(terms):
        places[leaf, : len(features)] = features
        factors[leaf, : len(features)] = coefficients
    return values, constants, places, factors
