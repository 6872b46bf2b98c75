"""Estimators made of steps: pipelines, unions, column transformers, searches."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, transformed, write, writes
from converters.estimators.table import Table, beside
from converters.onnx_writer import Graph
from toolkit.errors import UnsupportedModelError


@writes("sklearn:Pipeline")
def write_pipeline(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a pipeline: each step takes what the one before gives."""
    steps = [(name, step) for name, step in model.steps if not _passes(step)]
    if not steps:
        return {"transform": x}
    *before, (last_name, last) = steps
    for name, step in before:
        x = transformed(write(graph, step, x, name), step)
    return write(graph, last, x, last_name)


def _passes(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def _drops(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


@writes(
    "sklearn:GridSearchCV",
    "sklearn:RandomizedSearchCV",
    "sklearn:HalvingGridSearchCV",
    "sklearn:HalvingRandomSearchCV",
)
def write_search(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the best estimator that a search found."""
    return write(graph, model.best_estimator_, x)


@writes("sklearn:FrozenEstimator")
def write_frozen(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the estimator inside."""
    return write(graph, model.estimator, x)


@writes("sklearn:FeatureUnion")
def write_feature_union(graph: Graph, model: Any, x: Table) -> Answers:
    """Write each transformer and put what they give side by side."""
    weights = model.transformer_weights or {}
    tables = [
        _weighted(x if _passes(step) else _step(graph, step, x, name), weights.get(name))
        for name, step in model.transformer_list
        if not _drops(step)
    ]
    return {"transform": beside(graph, tables)}


@writes("sklearn:ColumnTransformer")
def write_column_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write each transformer for its columns, found by name in a data frame."""
    weights = model.transformer_weights or {}
    tables = []
    for name, step, _ in model.transformers_:
        indices = _columns(model, name, x)
        if _drops(step) or not indices:
            continue
        part = x.take(indices)
        given = part if _passes(step) else _step(graph, step, part, name)
        tables.append(_weighted(given, weights.get(name)))
    if not tables:
        msg = "ColumnTransformer keeps no column"
        raise UnsupportedModelError(msg)
    return {"transform": beside(graph, [Table(graph, table.parts) for table in tables])}


def _step(graph: Graph, step: Any, x: Table, name: str) -> Table:
    return transformed(write(graph, step, x, name), step)


def _columns(model: Any, name: str, x: Table) -> list[int]:
    """Return where in ``x`` the columns of a transformer stand."""
    indices = [int(i) for i in model._transformer_to_input_indices[name]]  # noqa: SLF001
    fitted = getattr(model, "feature_names_in_", None)
    if fitted is None or not x.names:
        return indices
    return [x.names.index(str(fitted[i])) for i in indices]


def _weighted(table: Table, weight: float | None) -> Table:
    if weight is None:
        return table
    return Table(table.graph, (table.matrix() * np.float64(weight),), table.names)
