"""The codes of pandas categories, which LightGBM and XGBoost learn in place of them."""

from typing import Any

import numpy as np

from converters.categories import Categories, fitted_categories
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


def coded_matrix(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return all columns as one float64 tensor, fitted categories as their codes.

    A category unknown to the model is NaN, as is an empty text.

    Raises:
        UnsupportedModelError: texts in a column that the model has no categories of.
    """
    fitted = fitted_categories(model, x.names) if x.names else {}
    if not fitted and not x.has_text:
        return x.matrix()
    names = x.names or ("",) * x.width
    columns = []
    for name, column in zip(names, x.columns(), strict=True):
        if name in fitted:
            columns.append(_codes(graph, column, fitted[name]))
        elif column.is_text:
            msg = f"{type(model).__name__}: column {name!r} holds texts, and it was fitted on none"
            raise UnsupportedModelError(msg)
        else:
            columns.append(column.cast(np.float64))
    return graph.concat(columns)


def _codes(graph: Graph, column: Tensor, categories: Categories) -> Tensor:
    if column.is_text:
        keys = [(str(value), code) for code, value in enumerate(categories.values) if value != ""]
        codes = graph.node(
            "LabelEncoder",
            [column],
            dtype=np.int64,
            domain="ai.onnx.ml",
            keys_strings=[text for text, _ in keys],
            values_int64s=[code for _, code in keys],
            default_int64=-1,
        )
        return graph.where(codes < 0, np.nan, codes.cast(np.float64))
    if isinstance(categories.values[0], str):
        msg = "a column of numbers comes where the model was fitted on texts"
        raise UnsupportedModelError(msg)
    known = np.array([float(value) for value in categories.values])
    hits = column.cast(np.float64).eq(known.reshape(1, -1)).cast(np.float64)
    codes = hits.argmax().cast(np.float64).reshape(-1, 1)
    return graph.where(hits.reduce("ReduceMax") > 0.0, codes, np.nan)
