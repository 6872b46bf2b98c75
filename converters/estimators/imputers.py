"""Imputers of numbers: what stands in for a missing cell."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, tensor, write, writes
from converters.estimators.table import Table
from converters.estimators.text_imputer import impute_texts
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:SimpleImputer")
def write_simple_imputer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write each column's statistic in place of its missing cells."""
    if x.has_text:
        return {"transform": impute_texts(graph, model, x)}
    values = x.matrix()
    mask = missing(values, model)
    return {"transform": with_indicator(graph, filled(graph, values, mask, model), mask, model)}


@writes("sklearn:MissingIndicator")
def write_missing_indicator(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write 1 where a cell is missing, for the columns that had some when it was fitted.

    The original raises for a missing cell in another column if ``error_on_new`` is set.
    """
    return {"transform": _indicator(missing(x.matrix(), model), model)}


@writes("sklearn:IterativeImputer")
def write_iterative_imputer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the fitted regressors one after the other, as often as they were fitted."""
    if model.sample_posterior:
        msg = "IterativeImputer: with sample_posterior=True its answers are drawn at random"
        raise UnsupportedModelError(msg)
    values = x.matrix()
    mask = missing(values, model)
    current = filled(graph, values, mask, model.initial_imputer_)
    if model.n_iter_:
        kept = np.arange(values.width)
        if not model.keep_empty_features:
            kept = np.flatnonzero(~model._is_empty_feature)  # noqa: SLF001
        current = _iterated(graph, model, current, mask.take(kept.tolist()))
    return {"transform": with_indicator(graph, current, mask, model)}


def _iterated(graph: Graph, model: Any, start: Tensor, mask: Tensor) -> Tensor:
    columns = [start.take([i]) for i in range(start.width)]
    masks = [mask.take([i]) for i in range(start.width)]
    never = np.flatnonzero(model._is_empty_feature) if model.keep_empty_features else ()  # noqa: SLF001
    for i in never:
        masks[i] = graph.constant(np.zeros((1, 1), dtype=np.bool_))
    low, high = np.asarray(model._min_value), np.asarray(model._max_value)  # noqa: SLF001
    for feature, neighbours, estimator in model.imputation_sequence_:
        others = graph.concat([columns[i] for i in neighbours])
        answers = write(graph, estimator, Table(graph, (others,)), "imputation_sequence_")
        guess = tensor(answers, "predict", estimator).cast(np.float64).reshape(-1, 1)
        limited = guess.clip(float(low[feature]), float(high[feature]))
        columns[feature] = graph.where(masks[feature], limited, columns[feature])
    if len(never):
        return graph.concat(columns)
    # scikit-learn leaves a batch of nothing but missing cells as it was filled first.
    present = (~mask).cast(np.int64).sum().reduce("ReduceSum", 0)
    return graph.where(present > 0, graph.concat(columns), start)


def missing(values: Tensor, model: Any) -> Tensor:
    """Return which cells hold the model's ``missing_values``, bool (rows, columns)."""
    placeholder = model.missing_values
    if not isinstance(placeholder, int | float | np.number):
        # None and pandas.NA in columns of numbers arrive as NaN.
        placeholder = np.nan
    return values.is_nan() if np.isnan(placeholder) else values.eq(float(placeholder))


def filled(graph: Graph, values: Tensor, mask: Tensor, model: Any) -> Tensor:
    """Return what a fitted ``SimpleImputer`` makes of numbers."""
    statistics = _statistics(model)
    if not model.keep_empty_features:
        kept = np.flatnonzero(~np.isnan(statistics)).tolist()
        if not kept:
            msg = f"{type(model).__name__}: it keeps no column"
            raise UnsupportedModelError(msg)
        values, mask, statistics = values.take(kept), mask.take(kept), statistics[kept]
    return graph.where(mask, graph.constant(statistics.reshape(1, -1)), values)


def _statistics(model: Any) -> Array:
    try:
        statistics = np.asarray(model.statistics_, dtype=np.float64)
        kind = np.dtype(model._fill_dtype)  # noqa: SLF001
        if kind.kind in "iu" and np.isfinite(statistics).all():
            statistics = statistics.astype(kind).astype(np.float64)
    except (TypeError, ValueError) as error:
        msg = "SimpleImputer: it was fitted on texts and is given numbers"
        raise UnsupportedModelError(msg) from error
    return statistics


def _indicator(mask: Tensor, indicator: Any) -> Tensor:
    features = [int(i) for i in indicator.features_]
    return mask.take(features).cast(np.float64)


def with_indicator(graph: Graph, values: Tensor, mask: Tensor, model: Any) -> Tensor:
    """Put the columns of ``add_indicator`` beside the imputed ones."""
    indicator = getattr(model, "indicator_", None)
    if indicator is None or not len(indicator.features_):
        return values
    return graph.concat([values, _indicator(mask, indicator)])
