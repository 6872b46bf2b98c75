"""SplineTransformer: the basis of B-splines of each column."""

from typing import Any

import numpy as np

from converters.estimators.bins import span
from converters.estimators.registry import Answers, writes
from converters.estimators.search import positions
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:SplineTransformer")
def write_spline_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the basis functions; beyond the knots as ``extrapolation`` says.

    With ``extrapolation="error"`` the original raises beyond the knots; this gives NaN.
    """
    _check(model)
    values = x.matrix()
    knots = np.array([spline.t for spline in model.bsplines_], dtype=np.float64)
    low, high, near = _ends(model, knots)
    missing = values.is_nan()
    if model.extrapolation == "periodic":
        inside = _wrapped(graph, values, low, high)
    elif model.extrapolation == "continue":
        inside = values
    else:
        inside = graph.where(values < low, low, graph.where(values > high, high, values))
    basis = _basis(graph, inside, knots, int(model.degree))
    splines = model.bsplines_[0].c.shape[1]
    if model.extrapolation == "periodic":
        basis = _folded(graph, basis, splines)
    elif model.extrapolation != "continue":
        basis = _beyond(graph, values, basis, model, (low, high, near))
    basis = graph.where(missing.reshape(-1, values.width, 1), 0.0, basis)
    kept = splines if model.include_bias else splines - 1
    basis = span(basis, 0, kept, axis=2)
    return {"transform": basis.reshape(-1, values.width * kept)}


def _check(model: Any) -> None:
    if model.bsplines_[0].c.shape[1] == 1 and not model.include_bias:
        msg = "SplineTransformer: include_bias=False leaves no column"
        raise UnsupportedModelError(msg)
    if (
        model.sparse_output
        and getattr(model, "handle_missing", "error") == "zeros"
        and model.extrapolation not in {"constant", "linear"}
    ):
        # scikit-learn 1.9 puts the batch's smallest value in place of NaN there and
        # zeroes only the first column's functions.
        msg = (
            "SplineTransformer: with sparse_output=True and handle_missing='zeros' its "
            "answer to NaN depends on the other rows"
        )
        raise UnsupportedModelError(msg)


def _ends(model: Any, knots: Any) -> tuple[Any, Any, Any]:
    """Return each column's outer knots and how many functions reach beyond them.

    scikit-learn 1.9 raises the degree of a line from column to column while it is 1 or
    less, and takes the outer knots of the next column by the raised one.
    """
    degree = int(model.degree)
    low, high, near = [], [], []
    for each in knots:
        low.append(each[degree])
        high.append(each[-degree - 1])
        if model.extrapolation == "linear" and degree <= 1:
            degree += 1
        near.append(degree)
    return np.array(low), np.array(high), np.array(near)


def _basis(graph: Graph, values: Tensor, knots: Any, degree: int) -> Tensor:
    """Return all basis functions, (rows, columns, functions), by de Boor's recursion.

    The sums are scipy's, term by term; the interval of a value beyond the outer knots
    is the first or the last.
    """
    last = knots.shape[1] - degree - 1
    interval = positions(graph, values, [each[degree + 1 : last] for each in knots]) + degree
    columns = values.width
    count = knots.shape[1] - 1
    basis = interval.reshape(-1, columns, 1).eq(np.arange(count)).cast(np.float64)
    point = values.reshape(-1, columns, 1)
    for order in range(1, degree + 1):
        width = knots[:, order:] - knots[:, :-order]
        safe = np.where(width == 0.0, 1.0, width)[:, :count]
        weight = basis * np.where(width == 0.0, 0.0, 1.0)[:, :count] / safe
        rising = weight * (point - knots[:, :count])
        falling = weight * (knots[:, order : order + count] - point)
        count -= 1
        basis = span(rising, 0, count, axis=2) + span(falling, 1, count + 1, axis=2)
    return basis


def _wrapped(graph: Graph, values: Tensor, low: Any, high: Any) -> Tensor:
    """Return values moved into one period, by numpy's remainder."""
    period = high - low
    safe = np.where(period > 0.0, period, 1.0)
    remainder = graph.node("Mod", [values - low, graph.constant(safe)], fmod=1)
    remainder = graph.where(remainder < 0.0, remainder + safe, remainder)
    flat = graph.constant(period <= 0.0)
    return graph.where(flat, graph.where(values.is_nan(), values, 0.0), remainder + low)


def _folded(graph: Graph, basis: Tensor, splines: int) -> Tensor:
    """Add the functions beyond the period to the first ones, which they continue."""
    over = basis.width - splines
    if not over:
        return basis
    first = span(basis, 0, over, axis=2) + span(basis, splines, basis.width, axis=2)
    return graph.concat([first, span(basis, over, splines, axis=2)], axis=2)


def _beyond(
    graph: Graph, values: Tensor, basis: Tensor, model: Any, ends: tuple[Any, Any, Any]
) -> Tensor:
    """Replace the basis beyond the knots by a constant, a line or NaN."""
    point = values.reshape(-1, values.width, 1)
    *outer, near = ends
    first = np.arange(basis.width) < near.reshape(-1, 1)
    for at, reach in zip(outer, (first, first[:, ::-1]), strict=True):
        edge = at.reshape(-1, 1)
        outside = point < edge if reach is first else point > edge
        if model.extrapolation == "error":
            basis = graph.where(outside, np.nan, basis)
            continue
        reached = np.array([s(a) for s, a in zip(model.bsplines_, at, strict=True)])
        line = graph.constant(np.where(reach, reached, 0.0).reshape(1, *reached.shape))
        if model.extrapolation == "linear":
            slopes = np.array([s(a, nu=1) for s, a in zip(model.bsplines_, at, strict=True)])
            line = (point - edge) * np.where(reach, slopes, 0.0) + line
        basis = graph.where(outside, line, basis)
    return basis
