"""SimpleImputer where some column holds texts."""

from typing import Any

import numpy as np

from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


def impute_texts(graph: Graph, model: Any, x: Table) -> Table:
    """Write what a SimpleImputer makes of a table with texts; other columns stay as they are.

    The empty text is missing where ``missing_values`` is NaN or ``None``.
    """
    masks = [_is_missing(graph, model, column) for column in x.columns()]
    parts = []
    for column, mask, value in zip(x.columns(), masks, model.statistics_.tolist(), strict=True):
        if not _is_nan(value):
            parts.append(_filled(graph, column, mask, value))
        elif model.keep_empty_features:
            msg = "SimpleImputer: a column of texts without any value is kept"
            raise UnsupportedModelError(msg, hint="fit it with keep_empty_features=False")
    if model.add_indicator:
        parts += [_as_cells(graph, masks[i], x) for i in model.indicator_.features_.tolist()]
    if not parts:
        msg = "SimpleImputer: it keeps no column"
        raise UnsupportedModelError(msg)
    return Table(graph, tuple(parts))


def _is_missing(graph: Graph, model: Any, column: Tensor) -> Tensor | None:
    """Return which cells are missing; ``None`` if none can be."""
    marker = model.missing_values
    unknown = marker is None or _is_nan(marker) or str(marker) == "<NA>"
    if column.is_text:
        if not unknown and not isinstance(marker, str):
            return None
        return column.eq(graph.constant(np.array("" if unknown else marker, dtype=object)))
    if isinstance(marker, str):
        return None
    if unknown:
        return column.is_nan() if column.dtype.kind == "f" else None
    return column.cast(np.float64).eq(float(marker))


def _filled(graph: Graph, column: Tensor, mask: Tensor | None, value: Any) -> Tensor:
    if mask is None:
        return column
    if column.is_text != isinstance(value, str):
        kinds = ("a text", "a number") if isinstance(value, str) else ("a number", "a text")
        msg = f"SimpleImputer: it puts {kinds[0]} where {kinds[1]} is missing"
        raise UnsupportedModelError(msg, hint="impute texts and numbers in steps of their own")
    if column.is_text:
        return graph.where(mask, graph.constant(np.array(value, dtype=object)), column)
    return graph.where(mask, graph.constant(np.array(float(value))), column.cast(np.float64))


def _as_cells(graph: Graph, mask: Tensor | None, x: Table) -> Tensor:
    """Return a mask as a column, which is all false where nothing can be missing."""
    if mask is not None:
        return mask
    shape = graph.node("Shape", [x.columns()[0]], (2,), dtype=np.int64)
    return graph.node("Expand", [np.array(False), shape], (None, 1), dtype=np.bool_)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))
