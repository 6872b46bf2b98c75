"""Columns turned into bins and into products of columns."""

from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.search import positions
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor


@writes("sklearn:KBinsDiscretizer")
def write_k_bins_discretizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the number of each cell's bin, or one column a bin; the outer bins are open."""
    values = x.matrix()
    if model.dtype is not None:
        values = values.cast(model.dtype).cast(np.float64)
    bins = positions(graph, values, [edges[1:-1] for edges in model.bin_edges_])
    if model.encode != "ordinal":
        sizes = [int(size) for size in model.n_bins_]
        column = [i for i, size in enumerate(sizes) for _ in range(size)]
        number = [j for size in sizes for j in range(size)]
        return {"transform": bins.take(column).eq(np.array(number)).cast(np.float64)}
    return {"transform": bins.cast(np.float64)}


@writes("sklearn:PolynomialFeatures")
def write_polynomial_features(graph: Graph, model: Any, x: Table) -> Answers:
    """Write all products up to a degree, each from one of a degree less times a column."""
    values = x.matrix()
    lowest, highest = model._min_degree, model._max_degree  # noqa: SLF001
    choose = combinations if model.interaction_only else combinations_with_replacement
    made = [ones(values)] if model.include_bias else []
    columns = split(graph, values)
    before: dict[tuple[int, ...], int] = {}
    products = values
    for degree in range(1, highest + 1):
        terms = list(choose(range(values.width), degree))
        if not terms:
            break
        if degree > 1:
            # The order of multiplication is scikit-learn's, so that the last bit is too.
            # The products that a column is multiplied with stand together at the end.
            firsts: dict[int, int] = {}
            for term in terms:
                firsts.setdefault(term[0], before[term[1:]])
            products = graph.concat(
                [span(products, start, products.width) * columns[i] for i, start in firsts.items()]
            )
        before = {term: i for i, term in enumerate(terms)}
        if degree >= lowest:
            made.append(products)
    return {"transform": graph.concat(made)}


def split(graph: Graph, values: Tensor) -> list[Tensor]:
    """Return each column as a tensor of shape ``(rows, 1)``."""
    if values.width == 1:
        return [values]
    sizes = np.ones(values.width, dtype=np.int64)
    kinds = [(values.dtype, (None, 1))] * values.width
    return list(graph.nodes("Split", [values, sizes], kinds, axis=1))


def span(values: Tensor, start: int, stop: int, axis: int = 1) -> Tensor:
    """Return neighbouring columns; a slice is much faster than picking each of them."""
    if start == 0 and stop == values.shape[axis]:
        return values
    shape = (*values.shape[:axis], stop - start, *values.shape[axis + 1 :])
    bounds = [np.array([each]) for each in (start, stop, axis)]
    return values.graph.node("Slice", [values, *bounds], shape)


def ones(values: Tensor) -> Tensor:
    """Return a column of ones, as many as there are rows."""
    return values.take([0]).is_nan().cast(np.float64) * 0.0 + 1.0
