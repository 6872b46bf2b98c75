"""The one place that writes trees: every test holds its word to plain numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from converters import releases
from converters.estimators.trees import (
    DEEPEST,
    Aggregate,
    Mode,
    Tree,
    constant_tree,
    float32_splits,
    leaf_sums,
    reached_leaves,
    tree_ensemble,
)
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

Array = npt.NDArray[Any]
LEAF = np.array([1, -1, -1]), np.array([2, -1, -1])


def run(write: Callable[[Tensor], Tensor], x: Array, threads: int = 1) -> Array:
    graph = Graph(releases.find("25.11").limits)
    model = graph.model("m", {"y": write(graph.input("x", x.dtype, x.shape[1]))})
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answer: Array = session.run(None, {"x": x})[0]
    return answer


def stump(split: float, **more: Any) -> Tree:
    """Return a tree that says 1 where its test holds and 2 where not."""
    return Tree(
        np.zeros(3, np.int64), np.array([split, 0, 0]), *LEAF, np.array([0.0, 1, 2]), **more
    )


def random_tree(random: np.random.Generator, value: Array, target: int = 0) -> Tree:
    """Return a tree of 15 nodes over four features."""
    children = np.full((2, 15), -1)
    children[:, :7] = 2 * np.arange(7) + np.array([[1], [2]])
    return Tree(
        random.integers(0, 4, 15),
        random.normal(size=15),
        children[0],
        children[1],
        value,
        target=target,
    )


def walked(tree: Tree, x: Array) -> Array:
    """Return the node that each row ends in."""
    at = np.zeros(len(x), dtype=np.int64)
    rows = np.arange(len(x))
    while (tree.left[at] >= 0).any():
        left = x[rows, tree.feature[at]] <= tree.split[at]
        at = np.where(tree.left[at] < 0, at, np.where(left, tree.left[at], tree.right[at]))
    return at


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", [Mode.LE, Mode.LT])
@pytest.mark.parametrize("missing_left", [None, True, False])
def test_a_split_is_taken_on_the_dot(dtype: Any, mode: Mode, missing_left: bool | None) -> None:
    half, one, zero = dtype(0.5), dtype(1), dtype(0)
    x = np.array([half, np.nextafter(half, one), np.nextafter(half, zero), np.inf, -np.inf])
    x = np.append(x, np.nan).astype(dtype).reshape(-1, 1)
    missing = None if missing_left is None else np.array([missing_left, False, False])
    answer = run(lambda t: tree_ensemble(t, [stump(0.5, mode=mode, missing_left=missing)]), x)
    holds = x <= half if mode is Mode.LE else x < half
    holds[-1] = bool(missing_left)
    assert answer.dtype == dtype
    assert (answer == np.where(holds, 1, 2)).all()


@pytest.mark.parametrize("missing_left", [True, False])
@pytest.mark.parametrize(
    "members",
    [[0], [3], [0, 1, 2], [1, 5, 30, 31], [0, 31, 32, 63, 64], list(range(0, 255, 3)), [-4, 2, 7]],
)
def test_a_set_of_numbers_is_told_from_all_others(members: list[int], missing_left: bool) -> None:
    far = [2.0**32 + 3, 1e6, 1e20, -1e20, np.nan, np.inf, -np.inf]
    x = np.append(np.arange(-5.0, 300.0), far).reshape(-1, 1)
    left, right = np.array([1, 2, -1, -1, -1]), np.array([4, 3, -1, -1, -1])
    missing = np.array([missing_left, not missing_left, False, False, False])
    sets = {1: np.array([members[0], 7]), 0: np.array(members)}
    value = np.array([0, 0, 10.0, 20.0, 30.0])
    tree = Tree(np.zeros(5, np.int64), np.zeros(5), left, right, value, missing, members=sets)
    answer = run(lambda t: tree_ensemble(t, [tree, constant_tree(1.0), tree]), x)
    first = np.where(np.isnan(x), missing_left, np.isin(x, sets[0]))
    second = np.where(np.isnan(x), not missing_left, np.isin(x, sets[1]))
    assert (answer == 2 * np.where(first, np.where(second, 10, 20), 30) + 1).all()


@pytest.mark.parametrize("count", [7, 150])
def test_one_thread_adds_up_in_the_order_of_the_trees(count: int) -> None:
    random = np.random.default_rng(count)
    x = random.normal(size=(300, 4))
    trees = [random_tree(random, random.normal(size=15), i % 3) for i in range(count)]
    sums = np.zeros((len(x), 3))
    for tree in trees:
        sums[:, tree.target] += tree.value[walked(tree, x)]
    for rows in (1, 2, 33, 300):
        several = run(lambda t: tree_ensemble(t, trees, 3), x[:rows])
        assert (several == sums[:rows]).all()
    mean = run(lambda t: tree_ensemble(t, trees[::3], 1, Aggregate.AVERAGE), x)
    assert (mean[:, 0] == sums[:, 0] / len(trees[::3])).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_leaf_sums_are_those_of_numpy_with_any_number_of_threads(threads: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(700, 4))
    trees = [random_tree(random, random.normal(size=(15, 3))) for _ in range(150)]
    sums = np.zeros((len(x), 3))
    for tree in trees:
        sums += tree.value[walked(tree, x)]
    for rows in (1, 2, 33, 700):
        assert (run(lambda t: leaf_sums(t, trees), x[:rows], threads) == sums[:rows]).all()


def test_leaves_are_counted_through_all_trees() -> None:
    answer = run(lambda t: reached_leaves(t, [stump(0), constant_tree(0), stump(1)]), ROWS)
    assert answer.tolist() == [[0, 2, 3], [1, 2, 3], [1, 2, 4]]


ROWS = np.array([[-1.0], [0.5], [2.0]])


def test_trees_of_one_leaf_count_among_others() -> None:
    trees = [constant_tree(0.25), stump(0), constant_tree(8.0)]
    assert run(lambda t: tree_ensemble(t, trees), ROWS).ravel().tolist() == [9.25, 10.25, 10.25]


def test_a_lone_leaf_tests_as_the_others_do() -> None:
    graph = Graph(releases.find("25.11").limits)
    trees = [constant_tree(0.25), stump(0, mode=Mode.LT), constant_tree(8.0)]
    model = graph.model("m", {"y": tree_ensemble(graph.input("x", ROWS.dtype, 1), trees)})
    (modes,) = (a for node in model.graph.node for a in node.attribute if a.name == "nodes_modes")
    assert set(numpy_helper.to_array(modes.t).tolist()) == {Mode.LT}


def chain(depth: int) -> Tree:
    """Return a tree whose right branch goes on for ``depth`` levels."""
    left = np.full(2 * depth + 1, -1)
    left[:-1:2] = np.arange(1, 2 * depth, 2)
    right = np.where(left < 0, -1, left + 1)
    number = np.arange(2 * depth + 1) // 2
    return Tree(np.zeros_like(left), number.astype(float), left, right, number.astype(float))


def test_a_deep_tree_is_read_and_a_bottomless_one_refused() -> None:
    x = np.array([[0.0], [5.5], [DEEPEST - 1.5], [DEEPEST + 3.0]])
    answer = run(lambda t: tree_ensemble(t, [chain(DEEPEST)]), x)
    assert answer.ravel().tolist() == [0, 6, DEEPEST - 1, DEEPEST]
    with pytest.raises(UnsupportedModelError, match="levels"):
        run(lambda t: tree_ensemble(t, [chain(DEEPEST + 1)]), x)


def test_a_release_without_the_operator_is_named_as_the_reason() -> None:
    x = Graph(releases.find("24.12").limits).input("x", np.float64, 1)
    with pytest.raises(UnsupportedModelError, match=r"ai\.onnx\.ml 5.*older operator"):
        tree_ensemble(x, [stump(0)])


def test_a_split_that_float32_cannot_hold_is_not_rounded() -> None:
    with pytest.raises(ValueError, match="nodes_splits"):
        run(lambda t: tree_ensemble(t, [stump(0.1)]), ROWS.astype(np.float32))


def test_float32_splits_tell_float64_rows_apart_as_their_float32_would() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 20_000, dtype=np.uint64).astype(np.uint32)
    limit = float(np.finfo(np.float32).max)
    special = [0.0, -0.0, 1e-45, -1e-45, limit, -limit, 2.0**128, -(2.0**128), 1e300, -1e300]
    singles = bits.view(np.float32)
    at = np.concatenate([singles[np.isfinite(singles)].astype(float), special, [np.inf, -np.inf]])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        split = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)])
        moved = float32_splits(split)
        single = split.astype(np.float32)
        up = np.nextafter(single, np.float32(np.inf)).astype(float)
        down = np.nextafter(single, np.float32(-np.inf)).astype(float)
        near = [
            moved,
            split,
            single.astype(float),
            up,
            down,
            (single + up) / 2,
            (single + down) / 2,
        ]
        for x in (y for z in near for y in (z, np.nextafter(z, np.inf), np.nextafter(z, -np.inf))):
            asked = ~np.isnan(x)
            assert ((x.astype(np.float32) <= split) == (x <= moved))[asked].all()
