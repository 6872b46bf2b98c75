"""Decision trees as ``TreeEnsemble`` of ``ai.onnx.ml`` 5, which sums in double precision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.onnx_assembly import ML_OPSET
from converters.onnx_writer import Tensor
from toolkit.errors import UnsupportedModelError

DEEPEST = 2000
"""Levels of a tree; ONNX Runtime 1.31 reads trees recursively and crashed at 20,000."""

Ints = npt.NDArray[np.int64]


class Mode(IntEnum):
    """How a node tests its feature; ``MEMBER`` is for nodes named in ``Tree.members``."""

    LE = 0
    LT = 1
    MEMBER = 6


class Aggregate(IntEnum):
    """What becomes of the leaves that a row reaches."""

    AVERAGE = 0
    SUM = 1
    MIN = 2
    MAX = 3


@dataclass(frozen=True, slots=True)
class Tree:
    """Arrays over the nodes of one tree; node 0 is the root.

    ``left`` is the child taken when the test holds and ``right`` the other one, both -1
    for a leaf. ``missing_left`` says where NaN goes (right without it). ``value`` counts
    at leaves only. ``members`` gives nodes that ask for one of a set of numbers.
    Those are whole (int32), and so must x be there: ONNX Runtime drops fractions for sets
    that reach beyond 0 to 30 (seen in 1.31).
    ``target`` is the column that the tree adds to: one number, or one for each node.
    """

    feature: npt.NDArray[Any]
    split: npt.NDArray[Any]
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    value: npt.NDArray[Any]
    missing_left: npt.NDArray[Any] | None = None
    mode: Mode = Mode.LE
    members: Mapping[int, npt.NDArray[Any]] = field(default_factory=dict)
    target: int | npt.NDArray[Any] = 0

    @property
    def leaves(self) -> Ints:
        """The nodes without children."""
        return np.flatnonzero(np.asarray(self.left) < 0)


def constant_tree(value: float, target: int = 0) -> Tree:
    """Return a tree of one leaf: a summand that comes before or after those of other trees."""
    zero, none = np.zeros(1, dtype=np.int64), np.full(1, -1, dtype=np.int64)
    return Tree(zero, zero.astype(float), none, none, np.full(1, value), target=target)


def tree_ensemble(
    x: Tensor,
    trees: Sequence[Tree],
    targets: int = 1,
    aggregate: Aggregate = Aggregate.SUM,
) -> Tensor:
    """Return what the trees add up to, shape (rows, targets), in the dtype of ``x``.

    A leaf adds one number to one target. With one thread the sums run in the order of
    the trees; with more, ONNX Runtime may add up groups of trees first.

    Raises:
        UnsupportedModelError: the release's ONNX Runtime has no ``TreeEnsemble``.
        ValueError: a split or a value is no number of the dtype of ``x``.
    """
    if x.graph.limits.ml_opset < ML_OPSET:
        msg = (
            "exact trees need ai.onnx.ml 5 (TreeEnsemble), which the ONNX Runtime of this "
            "release does not run; the older operator is tried next"
        )
        raise UnsupportedModelError(msg, hint="ONNX Runtime 1.22, in releases from 25.05 on, does")
    if max(map(_depth, trees)) > DEEPEST:
        msg = f"a tree has more than {DEEPEST} levels; ONNX Runtime may crash on reading it"
        raise UnsupportedModelError(msg)
    parts = [_part(tree) for tree in _testing_alike(trees)]
    attributes = _joined(parts, x.dtype) | {
        "n_targets": targets,
        "aggregate_function": int(aggregate),
        "post_transform": 0,
    }
    return x.graph.node(
        "TreeEnsemble", [x], (x.shape[0], targets), domain="ai.onnx.ml", **attributes
    )


def reached_leaves(x: Tensor, trees: Sequence[Tree]) -> Tensor:
    """Return the leaf that a row reaches in each tree, int64 of shape (rows, trees).

    Leaves are counted through all trees: those of a tree are ``tree.leaves`` in order.
    """
    numbered, start = [], 0
    for column, tree in enumerate(trees):
        leaves = tree.leaves
        value = np.zeros(len(tree.left))
        value[leaves] = np.arange(start, start + len(leaves))
        start += len(leaves)
        numbered.append(replace(tree, value=value, target=column))
    return tree_ensemble(x, numbered, len(trees)).cast(np.int64)


def leaf_sums(x: Tensor, trees: Sequence[Tree]) -> Tensor:
    """Return the sum of the trees' leaves in the order of the trees, whatever the threads.

    ``tree.value`` has shape (nodes, targets); the sum has shape (rows, targets).
    """
    leaves = reached_leaves(x, trees).transpose(1, 0)
    table = np.concatenate([tree.value[tree.leaves] for tree in trees]).astype(x.dtype)
    # ONNX Runtime adds up the first axis one entry after the other, in any number of threads.
    return leaves.lookup(table).reduce("ReduceSum", 0, keepdims=False)


def float32_splits(split: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return T with ``float32(x) <= split`` exactly where ``x <= T``, for all float64 x.

    Rounding to float32 goes to the nearest and, half-way, to the even one: T is the
    half-way point above the largest float32 that passes, or the float64 before it.
    """
    wanted = np.asarray(split, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        passes = wanted.astype(np.float32)
    too_large = passes.astype(np.float64) > wanted
    passes = np.where(too_large, np.nextafter(passes, np.float32(-np.inf)), passes)
    fails = np.nextafter(passes, np.float32(np.inf))
    middle = (_finite(passes) + _finite(fails)) / 2
    even = (passes.view(np.uint32) & 1) == 0
    found = np.where(even, middle, np.nextafter(middle, -np.inf))
    return np.where(np.isposinf(wanted), wanted, found)


def in_float32(x: Tensor, trees: Sequence[Tree]) -> tuple[Tensor, list[Tree]]:
    """Round x, and the splits that ``float32_splits`` gave back to those in float32.

    Trees of float32 take half the memory; a leaf of one holds whole numbers to 2 ** 24.
    """
    with np.errstate(over="ignore"):
        rounded = [replace(tree, split=np.asarray(tree.split, np.float32)) for tree in trees]
    return x.cast(np.float32), rounded


def _finite(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return float64 numbers, with infinity where float32 would go on: at 2 ** 128."""
    return np.clip(numbers.astype(np.float64), -(2.0**128), 2.0**128)


def _depth(tree: Tree) -> int:
    """Return the number of levels below the root, or what it can be at most if that is few."""
    left, right = np.asarray(tree.left), np.asarray(tree.right)
    if len(left) <= 2 * DEEPEST:
        return len(left) // 2
    depth, level = 0, np.zeros(1, dtype=np.int64)
    while len(level := level[left[level] >= 0]):
        level = np.concatenate([left[level], right[level]])
        depth += 1
    return depth


def _testing_alike(trees: Sequence[Tree]) -> list[Tree]:
    """Give lone leaves the mode of the others: ONNX Runtime walks nodes of one mode faster."""
    shared = next((tree.mode for tree in trees if not _lone(tree)), Mode.LE)
    return [replace(tree, mode=shared) if _lone(tree) else tree for tree in trees]


def _lone(tree: Tree) -> bool:
    return bool(np.asarray(tree.left)[0] < 0)


def _part(tree: Tree) -> dict[str, npt.NDArray[Any]]:
    """Return the attributes of one tree, with nodes and leaves counted from 0 each."""
    left, right = np.asarray(tree.left), np.asarray(tree.right)
    if _lone(tree):
        return _leaf_only(tree)
    inner, leaves = np.flatnonzero(left >= 0), tree.leaves
    place = np.empty(len(left), dtype=np.int64)
    place[inner], place[leaves] = np.arange(len(inner)), np.arange(len(leaves))
    modes = np.full(len(left), tree.mode, dtype=np.uint8)
    split = np.array(tree.split, dtype=np.float64)
    sets = [tree.members[node] for node in sorted(tree.members)]
    modes[list(tree.members)] = Mode.MEMBER
    split[list(tree.members)] = 0
    missing = np.zeros(len(left)) if tree.missing_left is None else tree.missing_left
    on_left, on_right = left[inner], right[inner]
    return {
        "nodes_featureids": np.asarray(tree.feature)[inner],
        "nodes_splits": split[inner],
        "nodes_modes": modes[inner],
        "nodes_missing_value_tracks_true": np.asarray(missing)[inner],
        "nodes_truenodeids": place[on_left],
        "nodes_falsenodeids": place[on_right],
        "nodes_trueleafs": left[on_left] < 0,
        "nodes_falseleafs": left[on_right] < 0,
        "leaf_weights": np.asarray(tree.value).reshape(len(left))[leaves],
        "leaf_targetids": np.broadcast_to(tree.target, left.shape)[leaves],
        "membership_values": np.concatenate([[*values, np.nan] for values in sets] or [[]]),
    }


def _leaf_only(tree: Tree) -> dict[str, npt.NDArray[Any]]:
    """Write a lone leaf twice, below a node.

    ONNX Runtime (seen in 1.31) takes a node whose branches are one and the same leaf for
    a leaf, and then looks it up by the number of the node.
    """
    zero = np.zeros(1, dtype=np.int64)
    first, twice = np.asarray(tree.value).ravel()[:1], np.zeros(2, dtype=np.int64)
    return {
        "nodes_featureids": zero,
        "nodes_splits": zero.astype(np.float64),
        "nodes_modes": np.full(1, tree.mode, dtype=np.uint8),
        "nodes_missing_value_tracks_true": zero,
        "nodes_truenodeids": zero,
        "nodes_falsenodeids": zero + 1,
        "nodes_trueleafs": zero + 1,
        "nodes_falseleafs": zero + 1,
        "leaf_weights": first[twice],
        "leaf_targetids": np.asarray(tree.target).ravel()[:1][twice],
        "membership_values": np.empty(0),
    }


def _joined(parts: Sequence[dict[str, npt.NDArray[Any]]], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the attributes of all trees side by side."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    nodes = np.array([len(part["nodes_modes"]) for part in parts])
    leaves = np.array([len(part["leaf_weights"]) for part in parts])
    first_node = np.cumsum(nodes) - nodes
    node_shift = np.repeat(first_node, nodes)
    leaf_shift = np.repeat(np.cumsum(leaves) - leaves, nodes)
    for branch in ("true", "false"):
        ends = joined[f"nodes_{branch}leafs"].astype(np.bool_)
        joined[f"nodes_{branch}nodeids"] += np.where(ends, leaf_shift, node_shift)
    _part_branches_of_roots(joined, first_node)
    if not joined["nodes_missing_value_tracks_true"].any():
        del joined["nodes_missing_value_tracks_true"]
    if not len(joined["membership_values"]):
        del joined["membership_values"]
    attributes = {
        name: _tensor(name, values, dtype)
        if name in {"nodes_splits", "nodes_modes", "leaf_weights", "membership_values"}
        else values.astype(np.int64).tolist()
        for name, values in joined.items()
    }
    return attributes | {"tree_roots": first_node.tolist()}


def _part_branches_of_roots(joined: dict[str, npt.NDArray[Any]], roots: Ints) -> None:
    """Exchange two leaves where a root's branches, a leaf and a node, have the same number.

    ONNX Runtime (seen in 1.21 to 1.23, not in 1.31) takes such a root for a leaf.
    """
    ids = {branch: joined[f"nodes_{branch}nodeids"] for branch in ("true", "false")}
    ends = {branch: joined[f"nodes_{branch}leafs"].astype(np.bool_) for branch in ids}
    clash = (ids["true"] == ids["false"]) & (ends["true"] != ends["false"])
    for root, end in pairwise((*roots.tolist(), len(clash))):
        if not clash[root]:
            continue
        one = int(ids["true"][root])
        nodes = slice(root, end)
        leaves = np.concatenate([ids[each][nodes][ends[each][nodes]] for each in ids])
        other = int(leaves[leaves != one][0])
        for each in ids:
            old, ended = ids[each][nodes].copy(), ends[each][nodes]
            ids[each][nodes][ended & (old == one)] = other
            ids[each][nodes][ended & (old == other)] = one
        for name in ("leaf_weights", "leaf_targetids"):
            joined[name][[one, other]] = joined[name][[other, one]]


def _tensor(name: str, values: npt.NDArray[Any], dtype: np.dtype[Any]) -> Any:
    from onnx import numpy_helper

    if values.dtype == np.uint8:
        return numpy_helper.from_array(values, name)
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if not np.array_equal(cast, values, equal_nan=True):
        msg = f"{name} has numbers that {dtype} cannot hold"
        raise ValueError(msg)
    return numpy_helper.from_array(cast, name)
