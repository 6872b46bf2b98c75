"""Probabilities from the decisions of pairs of classes, as libsvm couples them.

Platt's sigmoid a pair, then method 2 of Wu, Lin and Weng, "Probability Estimates for
Multi-class Classification by Pairwise Coupling" (2004), with libsvm's start, its order of
updates and its early stop: what is returned depends on all three.
"""

import functools

import numpy as np

from converters.onnx_writer import Array, Graph, Tensor

_LEAST = 1e-7
_TURNS = 100
_PRECISION = 0.005


def coupled(graph: Graph, pairs: Tensor, slope: Array, offset: Array, count: int) -> Tensor:
    """Return probabilities, (rows, count), of decisions, (rows, pairs)."""
    fitted = pairs * np.asarray(slope) + np.asarray(offset)
    power = (-fitted.apply("Abs")).apply("Exp")
    wins = graph.where(fitted >= 0.0, power, 1.0) / (1.0 + power)
    wins = wins.clip(_LEAST, 1 - _LEAST)
    quadratic = _quadratic(graph, wins, count)
    start = _constant_rows(graph, wins, np.full((1, count), 1.0 / count))
    going = _constant_rows(graph, wins, np.array([[True]]))
    step = functools.partial(_step, count=count)
    result, _, _ = graph.loop(max(_TURNS, count), [start, going, quadratic], step)
    return result


def _constant_rows(graph: Graph, like: Tensor, value: Array) -> Tensor:
    rows = graph.node("Shape", [like], (1,), dtype=np.int64, start=0, end=1)
    shape = graph.concat([rows, graph.constant(np.array([value.shape[1]]))], axis=0)
    constant = graph.constant(value)
    return graph.node("Expand", [constant, shape], (None, value.shape[1]))


def _quadratic(graph: Graph, wins: Tensor, count: int) -> Tensor:
    """Return the matrix that is minimized, (rows, count, count)."""
    won: dict[tuple[int, int], Tensor] = {}
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for pair, (i, j) in enumerate(pairs):
        won[i, j] = wins.take([pair])
        won[j, i] = 1.0 - won[i, j]
    cells = []
    for t in range(count):
        for j in range(count):
            if t == j:
                squares = [won[i, t] * won[i, t] for i in range(count) if i != t]
                cells.append(functools.reduce(lambda a, b: a + b, squares))
            else:
                cells.append(-won[j, t] * won[t, j])
    return graph.concat(cells).reshape(-1, count, count)


def _step(
    body: Graph, shares: Tensor, going: Tensor, quadratic: Tensor, *, count: int
) -> tuple[Tensor, list[Tensor]]:
    """Do one turn over the classes, for the rows that have not come to rest."""
    slopes = (quadratic * shares.reshape(-1, 1, count)).sum(axis=2, keepdims=False)
    total = (shares * slopes).sum()
    error = (slopes - total).apply("Abs").reduce("ReduceMax")
    still = going & (error >= _PRECISION / count)
    moved = shares
    for t in range(count):
        row = body.node("Gather", [quadratic, np.array(t)], (None, count), axis=1)
        own, slope = row.take([t]), slopes.take([t])
        change = (total - slope) / own
        at_t = np.zeros((1, count))
        at_t[0, t] = 1.0
        moved = (moved + change * at_t) / (1.0 + change)
        total = (total + change * (change * own + 2.0 * slope)) / (1.0 + change) / (1.0 + change)
        slopes = (slopes + change * row) / (1.0 + change)
    moved = body.where(still, moved, shares)
    any_left = still.cast(np.int64).reduce("ReduceMax", axis=0).reshape() > 0
    return any_left, [moved, still, quadratic]
