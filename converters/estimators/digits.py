"""Several sums in one number: a leaf of ``TreeEnsemble`` adds to one target only.

Each sum has digits of its own in the number that a leaf adds, wide enough for the total
of all trees. Whole numbers are added up exactly, in any order and number of threads.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators.trees import Tree, in_float32, tree_ensemble
from converters.onnx_writer import Graph, Tensor

Array = npt.NDArray[Any]

LARGEST_TABLE = 20_000
"""Rows of a table of all that the trees can say together; some hundred kilobytes."""

SHARE_ERROR = 1e-6
"""Of a share from ``three_shares``; a few hundredths of it are usual."""

_FLOAT32_BITS, _FLOAT64_BITS, _HALF_BITS = 24, 52, 27
_GROUP = 255
"""Trees whose shares go in one number with an error below ``SHARE_ERROR``."""


def said_together(trees: Sequence[Tree], classes: int) -> Array | None:
    """Return how many trees vote for each class, for each number ``votes`` can give.

    Shape (numbers, classes); ``None`` if there are too many. Numbers that no forest
    gives have a row as well.
    """
    base = len(trees) + 1
    if base ** (classes - 1) > LARGEST_TABLE:
        return None
    number = np.arange(base ** (classes - 1))
    others = [number // base**digit % base for digit in range(classes - 1)]
    return np.stack([len(trees) - sum(others, np.zeros_like(number)), *others], axis=1)


def votes(x: Tensor, trees: Sequence[Tree], classes: int) -> Tensor:
    """Return one int64 a row, (rows, 1), that says how many trees vote for each class.

    Each leaf has 1 for one class and 0 for the others; the first class has no digit.
    """
    digit = np.concatenate([[0], (len(trees) + 1) ** np.arange(classes - 1)])
    return _voted(x, trees, digit, (len(trees) + 1) ** (classes - 1)).cast(np.int64)


def counts(x: Tensor, trees: Sequence[Tree], classes: int) -> Tensor | None:
    """Return how many trees vote for each class, float64 of shape (rows, classes).

    ``None`` if there are more classes than digits.
    """
    width = len(trees).bit_length()
    if width * classes > _FLOAT64_BITS:
        return None
    base = 2.0**width
    number = _voted(x, trees, base ** np.arange(classes), base**classes).cast(np.float64)
    higher = (number * base ** -np.arange(classes)[None, :]).apply("Floor")
    return higher @ (np.eye(classes) - base * np.eye(classes, k=-1))


def three_shares(graph: Graph, x: Tensor, trees: Sequence[Tree]) -> Tensor:
    """Return the mean share of each of three classes, within ``SHARE_ERROR``."""
    first, *others = (trees[i : i + _GROUP] for i in range(0, len(trees), _GROUP))
    mean = _two_sums(graph, x, first, float(len(trees)), 0.0)
    for group in others:
        mean = _two_sums(graph, x, group, float(len(trees)), mean)
    return mean


def _two_sums(
    graph: Graph, x: Tensor, trees: Sequence[Tree], count: float, mean: Tensor | float
) -> Tensor:
    """Add some trees' shares of three classes to the mean over ``count`` trees.

    The second class's sum is the whole part of a number, the third's the fraction; both
    are of shares less a half, so that they have a sign.
    """
    fraction = 2.0**-_HALF_BITS
    unit = 2.0 ** np.floor(_HALF_BITS - np.log2(len(trees) + 1))
    packed = [
        replace(tree, value=np.rint((tree.value[:, 1:] - 0.5) * unit) @ [1.0, fraction])
        for tree in trees
    ]
    number = tree_ensemble(x, packed)
    whole = number.apply("Round")
    # Of the number itself, and what the whole part changes in that.
    of_number = np.array([[-1.0, 0.0, 1.0]]) / (fraction * unit * count)
    of_whole = np.array([[-1.0, 1.0, 0.0]]) / (unit * count) - of_number
    half = len(trees) / count / 2
    start = mean + np.array([[0.0, half, half]])
    partly = graph.node("Gemm", [number, of_number, start], (None, 3))
    return graph.node("Gemm", [whole, of_whole, partly], (None, 3))


def _voted(x: Tensor, trees: Sequence[Tree], digit: Array, above: float) -> Tensor:
    """Add up the digit of the class that each tree votes for; sums stay below ``above``."""
    voting = [replace(tree, value=digit[tree.value.argmax(axis=1)]) for tree in trees]
    if above <= 2**_FLOAT32_BITS:
        return tree_ensemble(*in_float32(x, voting))
    return tree_ensemble(x, voting)
