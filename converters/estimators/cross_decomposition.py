"""Partial least squares and canonical correlation."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph


@writes("sklearn:PLSRegression", "sklearn:PLSCanonical", "sklearn:CCA")
def write_pls(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the scores of X, and the prediction from centred rows."""
    centred = x.matrix() - model._x_mean  # noqa: SLF001
    predicted = centred @ np.ascontiguousarray(model.coef_.T) + model.intercept_
    return {
        "transform": centred / model._x_std @ model.x_rotations_,  # noqa: SLF001
        "predict": predicted.reshape(-1) if model._predict_1d else predicted,  # noqa: SLF001
    }


@writes("sklearn:PLSSVD")
def write_pls_svd(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the scores of X."""
    return {"transform": (x.matrix() - model._x_mean) / model._x_std @ model.x_weights_}  # noqa: SLF001
