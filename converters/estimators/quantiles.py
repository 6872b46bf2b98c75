"""QuantileTransformer: interpolation among quantiles, then the normal distribution."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.search import interpolated
from converters.estimators.special import ndtri
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_NEAR_THE_ENDS = 1e-7
"""``BOUNDS_THRESHOLD`` of scikit-learn's preprocessing."""


@writes("sklearn:QuantileTransformer")
def write_quantile_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the interpolations upwards and downwards; NaN stays NaN."""
    values = x.matrix()
    if np.isnan(model.quantiles_).any():
        msg = "QuantileTransformer: a column had no value when it was fitted"
        raise UnsupportedModelError(msg)
    columns = list(np.asarray(model.quantiles_, dtype=np.float64).T)
    references = [np.asarray(model.references_, dtype=np.float64)] * len(columns)
    up = interpolated(graph, values, columns, references)
    down = interpolated(
        graph, -values, [-column[::-1] for column in columns], [-r[::-1] for r in references]
    )
    shares = (up - down) * 0.5
    first = np.array([column[0] for column in columns])
    last = np.array([column[-1] for column in columns])
    if model.output_distribution == "normal":
        low, high = values - _NEAR_THE_ENDS < first, values + _NEAR_THE_ENDS > last
    else:
        low, high = values.eq(first), values.eq(last)
    shares = graph.where(low, 0.0, graph.where(high, 1.0, shares))
    if model.output_distribution == "normal":
        shares = _normal_quantile(shares)
    return {"transform": graph.where(values.is_nan(), values, shares)}


def _normal_quantile(shares: Tensor) -> Tensor:
    """Return the quantile of the normal distribution, limited as scikit-learn limits it."""
    from scipy import stats

    edge = _NEAR_THE_ENDS - np.spacing(1)
    return ndtri(shares.clip(edge, 1 - edge)).clip(stats.norm.ppf(edge), stats.norm.ppf(1 - edge))
