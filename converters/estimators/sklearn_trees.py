"""scikit-learn's trees, and what ensembles of them say: probabilities, votes and means.

Its trees round rows to float32 and compare them with float64 thresholds; a classifier's
trees hold class shares. Sums are in double and in the order of the trees.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators.branches import only_if
from converters.estimators.digits import SHARE_ERROR, counts, said_together, three_shares, votes
from converters.estimators.registry import Answers, class_labels, final, labelled
from converters.estimators.trees import (
    Aggregate,
    Tree,
    float32_splits,
    in_float32,
    leaf_sums,
    reached_leaves,
    tree_ensemble,
)
from converters.onnx_writer import Graph, Tensor

Array = npt.NDArray[Any]

_NEAR_TIE = 1e-9
"""Of a share: far above what rounding adds up to, far below what separates most rows."""


def is_tree(estimator: Any) -> bool:
    """Say whether an estimator is one scikit-learn tree of one output, as fitted by itself."""
    cls = type(estimator)
    names = {
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
    }
    return cls.__name__ in names and cls.__module__.startswith("sklearn.")


def tree_of(
    estimator: Any,
    value: Array,
    columns: Sequence[int] | Array | None = None,
    target: int | Array = 0,
) -> Tree:
    """Return a fitted tree with ``value`` for each node; it was given ``columns`` of x."""
    nodes = estimator.tree_
    feature = np.maximum(nodes.feature, 0)
    return Tree(
        feature if columns is None else np.asarray(columns, dtype=np.int64)[feature],
        float32_splits(nodes.threshold),
        nodes.children_left,
        nodes.children_right,
        value,
        nodes.missing_go_to_left,
        target=target,
    )


def shares(estimator: Any) -> Array:
    """Return the class shares of each node, shape (nodes, classes), of a tree of one output."""
    given: Array = estimator.tree_.value[:, 0, :]
    return given


def mean_shares(graph: Graph, x: Tensor, trees: Sequence[Tree], classes: Any) -> Answers:
    """Answer as a classifier whose trees' class shares (``tree.value``) are averaged."""
    if len(trees) == 1:
        table = trees[0].value[trees[0].leaves]
        return _from_table(graph, reached_leaves(x, trees), table, classes)
    if all(_is_pure(tree) for tree in trees):
        return _voted_shares(graph, x, trees, classes)
    if len(classes) == 2:  # noqa: PLR2004
        return _two_shares(graph, x, trees, classes)
    mean = leaf_sums(x, trees) / float(len(trees))
    if len(classes) == 3:  # noqa: PLR2004
        return {"predict_proba": mean, **_three_shares(graph, x, trees, classes)}
    return {"predict_proba": mean, **labelled(graph, classes, mean.argmax())}


def mean_values(x: Tensor, trees: Sequence[Tree]) -> Tensor:
    """Return the mean of the trees' values, shape (rows, values of a leaf)."""
    width = trees[0].value.shape[1]
    if width == 1:
        return tree_ensemble(x, trees, 1, Aggregate.AVERAGE)
    return leaf_sums(x, trees) / float(len(trees))


def _voted_shares(graph: Graph, x: Tensor, trees: Sequence[Tree], classes: Any) -> Answers:
    """Answer where each tree votes for one class: by counting the votes."""
    table = said_together(trees, len(classes))
    if table is not None:
        return _from_table(graph, votes(x, trees, len(classes)), table / len(trees), classes)
    counted = counts(x, trees, len(classes))
    if counted is None:
        places = [replace(t, value=np.ones(len(t.left)), target=t.value.argmax(1)) for t in trees]
        counted = tree_ensemble(*in_float32(x, places), len(classes)).cast(np.float64)
    mean = counted / float(len(trees))
    return {"predict_proba": mean, **labelled(graph, classes, mean.argmax())}


def _two_shares(graph: Graph, x: Tensor, trees: Sequence[Tree], classes: Any) -> Answers:
    """Answer from the sums for the second class, as long as they tell the classes apart.

    scikit-learn adds up either class and compares. Near a tie the rounding of both sums
    decides, so a batch with such a row has both added up in its order. The first class's
    probability is the rest to 1 here, which differs by the rounding of that sum.
    """
    of_second = [replace(tree, value=tree.value[:, 1]) for tree in trees]
    second = tree_ensemble(x, of_second, 1, Aggregate.AVERAGE)
    # One operator for (1 - second, second): each costs a lone row a twentieth of its time.
    turn, start = np.array([[-1.0, 1.0]]), np.array([1.0, 0.0])
    both = graph.node("Gemm", [second, turn, start], (None, 2))
    larger = both.reduce("ReduceMax")
    index = _unless_tied(larger, 0.5 + _NEAR_TIE, x, trees, both)
    return {"predict_proba": both, **labelled(graph, classes, index)}


def _three_shares(graph: Graph, x: Tensor, trees: Sequence[Tree], classes: Any) -> Answers:
    """Answer with labels, and probabilities for those who only look at them."""
    near = three_shares(graph, x, trees)
    two = np.array([2], dtype=np.int64)
    largest, _ = graph.nodes("TopK", [near, two], [(float, (None, 2)), (int, (None, 2))], axis=1)
    lead = graph.node("Gemm", [largest, np.array([[1.0], [-1.0]])], (None, 1))
    index = _unless_tied(lead, 4 * SHARE_ERROR, x, trees, near)
    return {final("predict_proba"): near, **labelled(graph, classes, index)}


def _unless_tied(
    lead: Tensor, enough: float, x: Tensor, trees: Sequence[Tree], shares: Tensor
) -> Tensor:
    """Return the class of the largest share, added up anew if one leads by too little."""
    smallest = lead.graph.node("ReduceMin", [lead], (), keepdims=0)
    return only_if(
        smallest < enough,
        lambda graph: leaf_sums(x.seen_by(graph), trees).argmax(),
        lambda graph: shares.seen_by(graph).argmax(),
    )


def _is_pure(tree: Tree) -> bool:
    leaves = tree.value[tree.leaves]
    return bool(np.isin(leaves, (0.0, 1.0)).all() and (leaves.sum(axis=1) == 1).all())


def _from_table(graph: Graph, position: Tensor, table: Array, classes: Any) -> Answers:
    """Answer with a row of probabilities by its number, int64 of shape (rows, 1).

    All a model can say is known beforehand here, so its labels are looked up as well.
    """
    best = table.argmax(axis=1)
    labels = class_labels(classes)

    def look_up(values: Array) -> Tensor:
        held = graph.constant(values)
        shape = (None, *held.shape[1:])
        return graph.node("GatherND", [held, position], shape, dtype=held.dtype)

    return {
        "predict_proba": look_up(table),
        "index": look_up(best),
        "predict": look_up(labels[best]),
    }
