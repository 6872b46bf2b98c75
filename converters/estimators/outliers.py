"""Detectors of outliers that are neither trees, machines of kernels nor neighbours."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor


@writes("sklearn:EllipticEnvelope")
def write_elliptic_envelope(graph: Graph, model: Any, x: Table) -> Answers:
    """Write how far a row is, in the shape of the data."""
    away = x.matrix() - model.location_
    squared = (away @ np.asarray(model.get_precision()) * away).sum().reshape(-1)
    length = squared.apply("Sqrt")
    scores = -(length * length)
    decision = scores - float(model.offset_)
    return {
        "score_samples": scores,
        "decision_function": decision,
        "predict": inlier(graph, decision >= 0.0),
    }


@writes("sklearn:SGDOneClassSVM")
def write_sgd_one_class(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the side of the plane that a row is on."""
    offset = np.asarray(model.offset_, dtype=np.float64).reshape(-1)
    decision = (x.matrix() @ np.atleast_2d(model.coef_).T - offset).reshape(-1)
    return {
        "decision_function": decision,
        "score_samples": decision + offset,
        "predict": inlier(graph, decision >= 0.0),
    }


def inlier(graph: Graph, inside: Tensor) -> Tensor:
    """Return 1 where it is inside and -1 where it is not."""
    return graph.where(inside, np.array(1), np.array(-1))
