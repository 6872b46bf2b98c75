"""scikit-learn's trees and forests."""

from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators.registry import Answer, Answers, class_labels, writes
from converters.estimators.sklearn_trees import mean_shares, mean_values, shares, tree_of
from converters.estimators.table import Table
from converters.estimators.trees import leaf_sums, reached_leaves
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes(
    "sklearn:DecisionTreeClassifier",
    "sklearn:ExtraTreeClassifier",
    "sklearn:RandomForestClassifier",
    "sklearn:ExtraTreesClassifier",
)
def write_forest_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the trees' class shares; a tie goes to the first class."""
    trees = getattr(model, "estimators_", [model])
    if model.n_outputs_ > 1:
        return _several_outputs(graph, model, trees, x.matrix())
    parts = [tree_of(tree, shares(tree)) for tree in trees]
    return mean_shares(graph, x.matrix(), parts, model.classes_)


@writes(
    "sklearn:DecisionTreeRegressor",
    "sklearn:ExtraTreeRegressor",
    "sklearn:RandomForestRegressor",
    "sklearn:ExtraTreesRegressor",
)
def write_forest_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the trees' values."""
    del graph
    trees = getattr(model, "estimators_", [model])
    mean = mean_values(x.matrix(), [tree_of(tree, tree.tree_.value[:, :, 0]) for tree in trees])
    return {"predict": mean.reshape(-1) if model.n_outputs_ == 1 else mean}


@writes("sklearn:RandomTreesEmbedding")
def write_random_trees_embedding(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a column for each leaf, 1 where the row reaches it."""
    trees = [tree_of(tree, np.zeros(tree.tree_.node_count)) for tree in model.estimators_]
    reached = reached_leaves(x.matrix(), trees)
    leaves = sum(len(tree.leaves) for tree in trees)
    kept, first = [], 0
    for tree, nodes in zip(trees, model.one_hot_encoder_.categories_, strict=True):
        kept += (first + np.searchsorted(tree.leaves, nodes)).tolist()
        first += len(tree.leaves)
    ones = (reached >= 0).cast(np.float64)
    none = ones.take([0]) * np.zeros((1, leaves))
    hot = graph.node("ScatterElements", [none, reached, ones], axis=1)
    return {"transform": hot.take(kept)}


@writes("sklearn:IsolationForest")
def write_isolation_forest(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the path lengths' sum, and the scores it gives."""
    paths = zip(
        model.estimators_,
        model.estimators_features_,
        model._decision_path_lengths,  # noqa: SLF001
        model._average_path_length_per_tree,  # noqa: SLF001
        strict=True,
    )
    trees = [
        tree_of(tree, (depths + lengths - 1.0)[:, None], features)
        for tree, features, depths, lengths in paths
    ]
    depths = leaf_sums(x.matrix(), trees)
    scale = _path_scale(model)
    # A lone training row has no path: scikit-learn gives it the score -1/2.
    exponent = depths * 0.0 - 1.0 if scale == 0 else -(depths / scale)
    scores = -(graph.constant(2.0) ** exponent).reshape(-1)
    inlier = (depths >= _shortest_inlier(model, scale)).reshape(-1)
    return {
        "score_samples": scores,
        "decision_function": scores - model.offset_,
        "predict": graph.where(inlier, 1, -1),
    }


def _path_scale(model: Any) -> float:
    from sklearn.ensemble._iforest import _average_path_length

    (longest,) = _average_path_length([model._max_samples])  # noqa: SLF001
    return float(len(model.estimators_) * longest)


def _shortest_inlier(model: Any, scale: float) -> float:
    """Return the smallest sum of path lengths that numpy's arithmetic calls an inlier.

    The powers of ONNX Runtime and numpy may differ in the last bit, and a training row
    can lie on the offset: so the sum is compared, not the score.
    """

    def is_inlier(depth: float) -> bool:
        exponent = -np.ones(1) if scale == 0 else -(np.array([depth]) / scale)
        return not bool(((-(2**exponent)) - model.offset_ < 0)[0])

    low, high = -1.0, 1.0
    if is_inlier(low):
        return -np.inf
    while not is_inlier(high):
        high *= 2
        if np.isinf(high):
            return high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if is_inlier(middle) else (middle, high)
    return high


def _several_outputs(graph: Graph, model: Any, trees: Any, x: Tensor) -> Answers:
    """Answer with a list of probabilities, and labels side by side."""
    outputs, widest = trees[0].tree_.value.shape[1:]
    parts = [tree_of(tree, tree.tree_.value.reshape(-1, outputs * widest)) for tree in trees]
    mean = leaf_sums(x, parts) / float(len(trees))
    probabilities: list[Tensor] = []
    labels: list[Tensor] = []
    for i, classes in enumerate(model.classes_):
        of_output = mean.take(range(i * widest, i * widest + len(classes)))
        probabilities.append(of_output)
        held = graph.constant(_labels(classes, model.classes_[0].dtype))
        labels.append(of_output.argmax().lookup(held).reshape(-1, 1))
    answers: dict[str, Answer] = {"predict_proba": probabilities, "predict": graph.concat(labels)}
    return answers


def _labels(classes: npt.NDArray[Any], dtype: np.dtype[Any]) -> Any:
    """Return the labels as scikit-learn gives them: in the first output's dtype."""
    try:
        return class_labels(classes.astype(dtype, casting="same_kind"))
    except TypeError as error:
        msg = "its outputs have labels of different types"
        raise UnsupportedModelError(msg) from error
