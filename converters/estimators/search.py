"""Sorted edges: where a value falls among them, for all columns at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.onnx_writer import Graph, Tensor


def positions(graph: Graph, x: Tensor, edges: Sequence[Any]) -> Tensor:
    """Return int64 (rows, columns): how many of a column's sorted edges are <= the cell.

    As ``numpy.searchsorted(edges, x, side="right")``; 0 for NaN. A binary search, so
    that a thousand edges cost ten steps and no (rows x edges) tensor.
    """
    longest = max((len(each) for each in edges), default=0)
    steps = [2**i for i in range(longest.bit_length())][::-1]
    if not steps:
        return (x * 0.0).is_nan().cast(np.int64) * 0
    padded = sum(steps)
    table = np.full((len(edges), padded), np.nan)
    for row, each in zip(table, edges, strict=True):
        row[: len(each)] = each
    values = table.ravel()
    flat = graph.constant(values, np.float64)
    start = np.arange(len(edges), dtype=np.int64) * padded - 1
    count: Tensor | None = None
    for step in steps:
        probe = start + step if count is None else count + (start + step)
        edge = probe.lookup(flat) if isinstance(probe, Tensor) else graph.constant(values[probe])
        found = x >= edge
        gained = found.cast(np.int64) * step
        count = gained if count is None else count + gained
    assert count is not None
    return count


def by_position(graph: Graph, position: Tensor, values: Sequence[Any]) -> Tensor:
    """Return ``values[column][position]`` for each cell; a column's may have any length."""
    longest = max(len(each) for each in values)
    table = np.zeros((len(values), longest))
    for row, each in zip(table, values, strict=True):
        row[: len(each)] = each
    start = np.arange(len(values), dtype=np.int64) * longest
    return (position + start).lookup(graph.constant(table.ravel(), np.float64))


def interpolated(graph: Graph, x: Tensor, knots: Sequence[Any], values: Sequence[Any]) -> Tensor:
    """Return ``numpy.interp(x, knots, values)`` column by column, in numpy's arithmetic.

    NaN gives the first value. Knots may repeat; beyond them the end values hold.
    """
    origins, levels, slopes = [], [], []
    for places, heights in zip(knots, values, strict=True):
        at, to = np.asarray(places, np.float64), np.asarray(heights, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            inner = (to[1:] - to[:-1]) / (at[1:] - at[:-1])
        inner = np.where(at[1:] > at[:-1], inner, 0.0)
        slopes.append(np.concatenate([[0.0], inner, [0.0]]))
        origins.append(np.concatenate([[0.0], at]))
        levels.append(np.concatenate([to[:1], to]))
    position = positions(graph, x, knots)
    slope, origin, level = (by_position(graph, position, t) for t in (slopes, origins, levels))
    return slope * (x - origin) + level
