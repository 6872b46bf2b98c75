"""scikit-learn's bagging: the mean of estimators that were each shown some of the columns."""

from functools import reduce
from typing import Any

import numpy as np

from converters.estimators.registry import Answers, labelled, tensor, write, writes
from converters.estimators.sklearn_trees import is_tree, mean_shares, mean_values, shares, tree_of
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor


@writes("sklearn:BaggingClassifier")
def write_bagging_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the probabilities, or of the votes of estimators that give none."""
    members = list(zip(model.estimators_, model.estimators_features_, strict=True))
    count = len(model.classes_)
    if all(is_tree(estimator) for estimator, _ in members):
        trees = []
        for estimator, columns in members:
            # Its classes are positions in the classes of the whole.
            value = np.zeros((estimator.tree_.node_count, count))
            value[:, estimator.classes_] = shares(estimator)
            trees.append(tree_of(estimator, value, columns))
        return mean_shares(graph, x.matrix(), trees, model.classes_)
    each = [(estimator, _written(graph, estimator, x, columns)) for estimator, columns in members]
    total = reduce(Tensor.__add__, [_shares(given, estimator, count) for estimator, given in each])
    mean = total / float(len(members))
    answers = {"predict_proba": mean, **labelled(graph, model.classes_, mean.argmax())}
    if all("decision_function" in given for _, given in each):
        scores = [tensor(given, "decision_function", estimator) for estimator, given in each]
        if len({score.shape for score in scores}) == 1:
            answers["decision_function"] = reduce(Tensor.__add__, scores) / float(len(members))
    return answers


@writes("sklearn:BaggingRegressor")
def write_bagging_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of what the estimators predict."""
    members = list(zip(model.estimators_, model.estimators_features_, strict=True))
    if all(is_tree(estimator) and estimator.n_outputs_ == 1 for estimator, _ in members):
        trees = [tree_of(tree, tree.tree_.value[:, :, 0], columns) for tree, columns in members]
        return {"predict": mean_values(x.matrix(), trees).reshape(-1)}
    given = [
        tensor(_written(graph, estimator, x, columns), "predict", estimator)
        for estimator, columns in members
    ]
    return {"predict": reduce(Tensor.__add__, given) / float(len(members))}


def _written(graph: Graph, estimator: Any, x: Table, columns: Any) -> Answers:
    return write(graph, estimator, x.take([int(column) for column in columns]), "estimator")


def _shares(given: Answers, estimator: Any, count: int) -> Tensor:
    """Return an estimator's probabilities or vote over the classes of the whole."""
    places = np.asarray(estimator.classes_, dtype=np.int64)
    spread = np.zeros((len(places), count))
    spread[np.arange(len(places)), places] = 1
    if not hasattr(estimator, "predict_proba"):
        return tensor(given, "index", estimator).lookup(spread)
    probabilities = tensor(given, "predict_proba", estimator)
    return probabilities if len(places) == count else probabilities @ spread
