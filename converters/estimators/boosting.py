"""scikit-learn's AdaBoost and gradient boosting."""

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators.links import from_raw_scores, link, two_sided
from converters.estimators.registry import (
    Answers,
    class_labels,
    labelled,
    tensor,
    write,
    writes,
)
from converters.estimators.sklearn_trees import is_tree, shares, tree_of
from converters.estimators.table import Table
from converters.estimators.trees import constant_tree, leaf_sums, tree_ensemble
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

Array = npt.NDArray[Any]


@writes("sklearn:GradientBoostingClassifier")
def write_gradient_boosting_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the raw scores and their link; 0 is the second of two classes."""
    raw = _raw_scores(graph, model, x)
    index = two_sided(raw).argmax(last=True) if raw.width == 1 else raw.argmax()
    return {
        "decision_function": raw.reshape(-1) if raw.width == 1 else raw,
        "predict_proba": from_raw_scores(graph, model._loss, raw),  # noqa: SLF001
        **labelled(graph, model.classes_, index),
    }


@writes("sklearn:GradientBoostingRegressor")
def write_gradient_boosting_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the sum of the trees: all its losses have the identity for a link."""
    return {"predict": _raw_scores(graph, model, x).reshape(-1)}


def _raw_scores(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return what starts the sum and all trees, shape (rows, trees of an iteration)."""
    matrix = x.matrix()
    targets = model.estimators_.shape[1]
    trees = [
        tree_of(tree, model.learning_rate * tree.tree_.value[:, 0, 0], target=target)
        for stage in model.estimators_
        for target, tree in enumerate(stage)
    ]
    known = model.init_ == "zero" or type(model.init_).__name__ in _CONSTANT
    if known:
        row = np.zeros((1, model.n_features_in_), dtype=np.float32)
        start = model._raw_predict_init(row)[0]  # noqa: SLF001
        trees = [constant_tree(value, i) for i, value in enumerate(start)] + trees
        return tree_ensemble(matrix, trees, targets)
    return _started(graph, model, matrix) + tree_ensemble(matrix, trees, targets)


_CONSTANT = {"DummyClassifier", "DummyRegressor"}


def _started(graph: Graph, model: Any, matrix: Tensor) -> Tensor:
    """Return the raw scores of an ``init`` estimator, which is shown float32 numbers."""
    rows = Table(graph, (matrix.cast(np.float32).cast(np.float64),))
    method = "predict_proba" if hasattr(model, "classes_") else "predict"
    row = np.zeros((1, model.n_features_in_), dtype=np.float32)
    if getattr(model.init_, method)(row).dtype == np.float32:
        msg = f"its init, {type(model.init_).__name__}, computes in float32"
        raise UnsupportedModelError(f"{type(model).__name__}: {msg}")
    given = tensor(write(graph, model.init_, rows, "init"), method, model.init_)
    if method == "predict":
        return given.reshape(-1, 1)
    loss = model._loss  # noqa: SLF001
    if not loss.is_multiclass:
        given = given.take([1])
    epsilon = float(np.finfo(np.float64).eps)
    return link(loss, given.clip(epsilon, 1 - epsilon))


@writes("sklearn:AdaBoostClassifier")
def write_ada_boost_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the weighted votes; a classifier's vote counts against all other classes."""
    count = len(model.classes_)
    binary = count == 2  # noqa: PLR2004
    if count == 1:
        msg = "AdaBoostClassifier of a single class is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    weights = model.estimator_weights_
    weighted = list(zip(model.estimators_, weights, strict=False))
    if all(is_tree(estimator) for estimator, _ in weighted):
        trees = []
        for tree, weight in weighted:
            votes = _votes(tree, weight, model.classes_)
            trees.append(tree_of(tree, votes[shares(tree).argmax(axis=1)]))
        total = leaf_sums(x.matrix(), trees)
    else:
        total = reduce(
            Tensor.__add__,
            [
                tensor(write(graph, estimator, x, "estimator"), "index", estimator).lookup(
                    _votes(estimator, weight, model.classes_)
                )
                for estimator, weight in weighted
            ],
        )
    mean = total / float(weights.sum())
    if binary:
        decision = mean.take([1]) - mean.take([0])
        # The softmax of -d/2 and d/2 is the one of 0 and d.
        scaled = two_sided(decision)
        index = scaled.argmax()
    else:
        decision, index = mean, mean.argmax()
        scaled = decision / float(count - 1)
    return {
        "decision_function": decision.reshape(-1) if binary else decision,
        "predict_proba": scaled.apply("Softmax", axis=1),
        **labelled(graph, model.classes_, index),
    }


def _votes(estimator: Any, weight: float, classes: Any) -> Array:
    """Return for each class the estimator knows what its vote adds to every class."""
    known, whole = class_labels(estimator.classes_).tolist(), class_labels(classes).tolist()
    against = -1 / (len(whole) - 1) * weight
    return np.array([[weight if label == own else against for label in whole] for own in known])


@writes("sklearn:AdaBoostRegressor")
def write_ada_boost_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the weighted median of the estimators."""
    estimators = model.estimators_
    count = len(estimators)
    if all(is_tree(estimator) for estimator in estimators):
        trees = [
            tree_of(tree, tree.tree_.value[:, 0, 0], target=target)
            for target, tree in enumerate(estimators)
        ]
        given = tree_ensemble(x.matrix(), trees, count)
    else:
        given = graph.concat(
            [
                tensor(write(graph, one, x, "estimator"), "predict", one).reshape(-1, 1)
                for one in estimators
            ]
        )
    ordered, order = graph.nodes(
        "TopK",
        [given, np.array([count], dtype=np.int64)],
        [(np.float64, given.shape), (np.int64, given.shape)],
        largest=0,
    )
    weights = order.lookup(np.asarray(model.estimator_weights_[:count], dtype=np.float64))
    reached = graph.node("CumSum", [weights, 1])
    enough = reached >= reached.take([count - 1]) * 0.5
    median = enough.cast(np.int64).argmax().reshape(-1, 1)
    picked = graph.node("GatherElements", [ordered, median], (None, 1), axis=1)
    return {"predict": picked.reshape(-1)}
