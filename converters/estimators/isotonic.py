"""Isotonic regression: straight lines between thresholds."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:IsotonicRegression")
def write_isotonic(_graph: Any, model: Any, x: Table) -> Answers:
    """Write the interpolation.

    Where scikit-learn refuses a request that holds a value out of bounds, so does ONNX
    Runtime: the lookup for such a value is out of range.

    Raises:
        UnsupportedModelError: it was fitted on float32, to which scikit-learn then rounds.
    """
    if np.asarray(model.X_thresholds_).dtype != np.float64:
        msg = f"{type(model).__name__}: it was fitted on other numbers than float64"
        raise UnsupportedModelError(msg)
    values = x.matrix().reshape(-1)
    at, heights = np.asarray(model.X_thresholds_), np.asarray(model.y_thresholds_, dtype=float)
    if model.out_of_bounds == "clip":
        values = values.clip(float(model.X_min_), float(model.X_max_))
    result = interpolated(values, at, heights)
    if len(at) > 1 and model.out_of_bounds != "clip":
        outside = (values < float(at[0])) | (values > float(at[-1]))
        if model.out_of_bounds == "nan":
            result = x.graph.where(outside, np.array(np.nan), result)
        else:
            result = result + outside.cast(np.int64).lookup(
                np.array([0.0]), "a value out of bounds"
            )
    return {"predict": result, "transform": result.reshape(-1, 1)}


def interpolated(values: Tensor, at: Array, heights: Array) -> Tensor:
    """Return ``numpy.interp(values, at, heights)`` of a tensor of one axis."""
    if len(at) == 1:
        nowhere = (values < -np.inf).cast(np.int64)
        return nowhere.lookup(heights)
    slopes = np.append(np.diff(heights) / np.diff(at), 0.0)
    passed = (values.reshape(-1, 1) >= at[np.newaxis]).cast(np.int64)
    before = passed.sum(keepdims=False) - 1
    before = before.graph.node("Max", [before, np.array(0)], before.shape)
    return before.lookup(slopes) * (values - before.lookup(at)) + before.lookup(heights)
