"""CatBoost: float32 features against float32 borders, leaves added up in float64."""

from typing import Any

import numpy as np

from converters.estimators import catboost_trees
from converters.estimators.catboost_tests import Tests, tests_of
from converters.estimators.catboost_trees import CatBoostTree
from converters.estimators.linear import softmax
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.table import Table
from converters.estimators.trees import Tree, constant_tree, leaf_sums, tree_ensemble
from converters.onnx_writer import Graph, Tensor

_EXPONENTIAL = {"Poisson", "Tweedie"}
_SOFTMAX = {"MultiClass"}


@writes("catboost:CatBoostRegressor", "catboost:CatBoostRanker", "catboost:CatBoost")
def write_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write what ``predict`` gives by default."""
    raw = _raw_scores(graph, model, x)
    loss = _loss(model)
    kind = type(model).__name__
    if loss in _EXPONENTIAL and kind == "CatBoostRegressor":
        raw = raw.apply("Exp")
    if loss == "RMSEWithUncertainty" and kind == "CatBoostRegressor":
        raw = graph.concat([raw.take([0]), (raw.take([1]) * 2.0).apply("Exp")])
    return {"predict": raw.reshape(-1) if raw.width == 1 else raw}


@writes("catboost:CatBoostClassifier")
def write_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write labels and probabilities; with several labels a row, of each."""
    loss = _loss(model)
    classes = _classes(model)
    sign = 1.0 if loss in _SOFTMAX else -1.0
    raw = _raw_scores(graph, model, x, sign)
    if raw.width == 1:
        one = _sigmoid_of_negated(raw)
        index = (raw < -_score_limit(model)).cast(np.int64).reshape(-1)
        probabilities = graph.concat([1.0 - one, one])
        return {"predict_proba": probabilities, **labelled(graph, classes, index)}
    if loss in {"MultiLogloss", "MultiCrossEntropy"}:
        return {"predict_proba": _sigmoid_of_negated(raw), "predict": (raw < 0.0).cast(np.int64)}
    probabilities = softmax(raw) if loss in _SOFTMAX else _sigmoid_of_negated(raw)
    best = raw.argmax() if loss in _SOFTMAX else (-raw).argmax()
    return {"predict_proba": probabilities, **labelled(graph, classes, best)}


def _loss(model: Any) -> str:
    params = model.get_all_params() or {}
    return str(params.get("loss_function", "")).partition(":")[0]


def _classes(model: Any) -> Any:
    classes = np.asarray(model.classes_)
    return [str(label) for label in classes.tolist()] if classes.dtype == object else classes


def _score_limit(model: Any) -> float:
    """Return the score above which the second class is predicted."""
    share = model.get_probability_threshold()
    return 0.0 if share is None else float(-np.log(1.0 / float(share) - 1.0))


def _sigmoid_of_negated(raw: Tensor) -> Tensor:
    return 1.0 / (1.0 + raw.apply("Exp"))


def _raw_scores(graph: Graph, model: Any, x: Table, sign: float = 1.0) -> Tensor:
    """Return the scores, shape (rows, outputs), with this sign."""
    read = catboost_trees.read(model)
    if not read.trees:
        nothing = [constant_tree(0.0, output) for output in range(read.outputs)]
        return tree_ensemble(x.matrix(), nothing, read.outputs) + sign * read.bias.reshape(1, -1)
    tests = tests_of(graph, read, x)
    trees = [_as_tree(each, tests, sign * read.scale) for each in read.trees]
    raw = leaf_sums(tests.matrix, trees) if read.outputs > 1 else tree_ensemble(tests.matrix, trees)
    return raw + sign * read.bias.reshape(1, -1) if read.bias.any() else raw


def _as_tree(tree: CatBoostTree, tests: Tests, factor: float) -> Tree:
    """Return a tree where a number goes left up to the border, a category if it is equal."""
    inner = tree.fails >= 0
    split = np.where(inner, tree.split, 0)
    equal = inner & tests.equal[split]
    return Tree(
        feature=tests.place[split],
        split=tests.border[split],
        left=np.where(equal, tree.holds, tree.fails),
        right=np.where(equal, tree.fails, tree.holds),
        value=tree.value * factor,
        missing_left=tests.missing_left[split] & ~equal,
        members={node: tests.border[split[[node]]] for node in np.flatnonzero(equal).tolist()},
    )
