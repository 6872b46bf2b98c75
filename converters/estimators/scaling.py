"""Scalers: each column by constants, or each row by its own norm."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.special import expm1, log1p
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:StandardScaler")
def write_standard_scaler(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``(x - mean_) / scale_``."""
    return {"transform": standardized(x.matrix(), model)}


def standardized(values: Tensor, model: Any) -> Tensor:
    """Return what a fitted ``StandardScaler`` makes of values."""
    if model.with_mean:
        values = values - model.mean_
    return values / model.scale_ if model.with_std else values


@writes("sklearn:MinMaxScaler")
def write_min_max_scaler(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``x * scale_ + min_``, limited to the range where asked."""
    scaled = x.matrix() * model.scale_ + model.min_
    if model.clip:
        low, high = model.feature_range
        scaled = scaled.clip(low, high)
    return {"transform": scaled}


@writes("sklearn:MaxAbsScaler")
def write_max_abs_scaler(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``x / scale_``, limited to [-1, 1] where asked."""
    scaled = x.matrix() / model.scale_
    return {"transform": scaled.clip(-1.0, 1.0) if getattr(model, "clip", False) else scaled}


@writes("sklearn:RobustScaler")
def write_robust_scaler(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``(x - center_) / scale_``."""
    values = x.matrix()
    if model.with_centering:
        values = values - model.center_
    return {"transform": values / model.scale_ if model.with_scaling else values}


@writes("sklearn:Normalizer")
def write_normalizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write each row over its norm; a row of (nearly) zero norm stays."""
    values = x.matrix()
    if model.norm == "l1":
        norm = values.apply("Abs").sum()
    elif model.norm == "max":
        norm = values.apply("Abs").reduce("ReduceMax")
    else:
        norm = (values * values).sum().apply("Sqrt")
    # The bound below which scikit-learn takes a norm for zero.
    nothing = norm < 10 * np.finfo(np.float64).eps
    return {"transform": values / graph.where(nothing, 1.0, norm)}


@writes("sklearn:Binarizer")
def write_binarizer(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write 1 above the threshold and 0 elsewhere."""
    return {"transform": (x.matrix() > float(model.threshold)).cast(np.float64)}


@writes("sklearn:KernelCenterer")
def write_kernel_centerer(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the centred kernel of rows against the training rows."""
    return {"transform": centered(x.matrix(), model)}


def centered(kernel: Tensor, model: Any) -> Tensor:
    """Return what a fitted ``KernelCenterer`` makes of a kernel matrix."""
    columns: Array = np.asarray(model.K_fit_rows_, dtype=np.float64)
    means = kernel.sum() / float(len(columns))
    return kernel - columns - means + float(model.K_fit_all_)


@writes("sklearn:PowerTransformer")
def write_power_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write Box-Cox or Yeo-Johnson, then the standardisation."""
    values = x.matrix()
    lambdas = np.asarray(model.lambdas_, dtype=np.float64)
    if not np.isfinite(lambdas).all():
        msg = "PowerTransformer: a column was fitted to a power that is not finite"
        raise UnsupportedModelError(msg)
    if model.method == "box-cox":
        powered = _power_of_log(graph, values.apply("Log"), lambdas, 1e-19)
    else:
        powered = _yeo_johnson(graph, values, lambdas)
    return {"transform": standardized(powered, model._scaler) if model.standardize else powered}  # noqa: SLF001


def _yeo_johnson(graph: Graph, values: Tensor, lambdas: Any) -> Tensor:
    """Follow ``scipy.stats.yeojohnson``; both branches share one logarithm of 1 + |x|."""
    eps = np.finfo(np.float64).eps
    logs = log1p(values.apply("Abs"))
    above = _power_of_log(graph, logs, lambdas, eps)
    below = -_power_of_log(graph, logs, 2.0 - lambdas, eps)
    return graph.where(values >= 0.0, above, below)


def _power_of_log(graph: Graph, logs: Tensor, lambdas: Any, bound: float) -> Tensor:
    """Return ``(exp(lambda * log) - 1) / lambda``, which for lambda 0 is the logarithm."""
    flat = np.abs(lambdas) < bound
    safe = np.where(flat, 1.0, lambdas)
    powered = expm1(logs * safe) / safe
    return (
        graph.where(graph.constant(flat.reshape(1, -1)), logs, powered) if flat.any() else powered
    )
