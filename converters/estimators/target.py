"""Regressors on a transformed target: the transformers that can be undone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.estimators import functions
from converters.estimators.registry import Answers, tensor, write, writes
from converters.estimators.responses import matrix
from converters.estimators.search import interpolated
from converters.estimators.special import log1p, ndtr
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_EPSILON = np.spacing(1.0)


@writes("sklearn:TransformedTargetRegressor")
def write_transformed_target(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the regressor, then the inverse of the target's transformer."""
    answers = write(graph, model.regressor_, x, "regressor")
    given = matrix(tensor(answers, "predict", model.regressor_)).cast(np.float64)
    given = undone(model.transformer_, given)
    one = model._training_dim == 1 and given.width == 1  # noqa: SLF001
    return {"predict": given.reshape(-1) if one else given}


def undone(transformer: Any, y: Tensor) -> Tensor:
    """Write ``transformer.inverse_transform(y)``.

    Raises:
        UnsupportedModelError: it is none of the transformers known here.
    """
    if hasattr(transformer, "steps"):
        for _, step in reversed(transformer.steps):
            y = undone(step, y)
        return y
    if isinstance(transformer, str) or transformer is None:
        return y  # A passthrough step.
    inverse = _INVERSES.get(type(transformer).__name__)
    if inverse is None or not type(transformer).__module__.startswith("sklearn."):
        msg = f"TransformedTargetRegressor: {type(transformer).__name__} is not undone as ONNX"
        raise UnsupportedModelError(msg)
    return inverse(transformer, y)


def _function(transformer: Any, y: Tensor) -> Tensor:
    if transformer.inverse_func is None:
        return y
    return functions.apply(transformer.inverse_func, transformer.inv_kw_args or {}, y)


def _standard(transformer: Any, y: Tensor) -> Tensor:
    if transformer.with_std:
        y = y * np.asarray(transformer.scale_)
    return y + np.asarray(transformer.mean_) if transformer.with_mean else y


def _min_max(transformer: Any, y: Tensor) -> Tensor:
    return (y - np.asarray(transformer.min_)) / np.asarray(transformer.scale_)


def _max_abs(transformer: Any, y: Tensor) -> Tensor:
    return y * np.asarray(transformer.scale_)


def _robust(transformer: Any, y: Tensor) -> Tensor:
    if transformer.with_scaling:
        y = y * np.asarray(transformer.scale_)
    return y + np.asarray(transformer.center_) if transformer.with_centering else y


def _quantile(transformer: Any, y: Tensor) -> Tensor:
    share = ndtr(y) if transformer.output_distribution == "normal" else y
    columns = list(np.asarray(transformer.quantiles_, dtype=np.float64).T)
    references = [np.asarray(transformer.references_, dtype=np.float64)] * len(columns)
    given = interpolated(y.graph, share, references, columns)
    if transformer.output_distribution != "normal":
        return given
    near = 1e-7  # BOUNDS_THRESHOLD of scikit-learn's preprocessing.
    first = np.array([column[0] for column in columns])
    last = np.array([column[-1] for column in columns])
    topped = y.graph.where(share + near > 1.0, last, given)
    return y.graph.where(share - near < 0.0, first, topped)


def _power(transformer: Any, y: Tensor) -> Tensor:
    if transformer.standardize:
        y = _standard(transformer._scaler, y)  # noqa: SLF001
    undo = _box_cox if transformer.method == "box-cox" else _yeo_johnson
    columns = [undo(y.take([i]), float(each)) for i, each in enumerate(transformer.lambdas_)]
    return y.graph.concat(columns)


def _box_cox(y: Tensor, exponent: float) -> Tensor:
    if exponent == 0.0:
        return y.apply("Exp")
    # As SciPy writes it, so that it is exact for small exponents too.
    return (log1p(y * exponent) / exponent).apply("Exp")


def _yeo_johnson(y: Tensor, exponent: float) -> Tensor:
    graph = y.graph
    if abs(exponent) < _EPSILON:
        above = y.apply("Exp") - 1.0
    else:
        above = (y * exponent + 1.0) ** (1.0 / exponent) - 1.0
    if abs(exponent - 2.0) > _EPSILON:
        rest = 2.0 - exponent
        below = 1.0 - (y * -rest + 1.0) ** (1.0 / rest)
    else:
        below = 1.0 - (-y).apply("Exp")
    return graph.where(y >= 0.0, above, below)


_INVERSES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "FunctionTransformer": _function,
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "QuantileTransformer": _quantile,
    "PowerTransformer": _power,
}
