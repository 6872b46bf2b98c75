"""The branches of a root never share a number: ONNX Runtime 1.21 to 1.23 misread that."""

import numpy as np

from converters.estimators.trees import Tree, _joined, _part


def _stump(first_leaf_left: bool) -> Tree:
    """Return three leaves below two nodes; the root's leaf is left or right."""
    left = np.array([1, -1, 3, -1, -1] if first_leaf_left else [1, 3, -1, -1, -1])
    right = np.array([2, -1, 4, -1, -1] if first_leaf_left else [2, 4, -1, -1, -1])
    feature, split = np.zeros(5, dtype=np.int64), np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    return Tree(feature, split, left, right, np.array([0.0, 1.0, 2.0, 3.0, 4.0]))


def test_a_leaf_and_a_node_below_a_root_have_different_numbers() -> None:
    for kinds in ((True, True, True), (False, False), (True, False, True), (False, True)):
        trees = [_stump(kind) for kind in kinds]
        joined = _joined([_part(tree) for tree in trees], np.dtype(np.float64))
        for root in joined["tree_roots"]:
            true, false = (joined[f"nodes_{side}nodeids"][root] for side in ("true", "false"))
            same_kind = joined["nodes_trueleafs"][root] == joined["nodes_falseleafs"][root]
            assert true != false or same_kind
