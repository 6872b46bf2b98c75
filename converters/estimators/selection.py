"""Feature selection: the chosen columns, and what is predicted from them."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, write, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph
from toolkit.errors import UnsupportedModelError


@writes(
    "sklearn:GenericUnivariateSelect",
    "sklearn:SelectFdr",
    "sklearn:SelectFpr",
    "sklearn:SelectFromModel",
    "sklearn:SelectFwe",
    "sklearn:SelectKBest",
    "sklearn:SelectPercentile",
    "sklearn:SequentialFeatureSelector",
    "sklearn:VarianceThreshold",
)
def write_selector(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the columns of ``get_support()``."""
    return {"transform": _chosen(model, x)}


@writes("sklearn:RFE", "sklearn:RFECV")
def write_elimination(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the columns of ``get_support()`` and what the last estimator says of them."""
    chosen = _chosen(model, x)
    answers = dict(write(graph, model.estimator_, chosen, "estimator_"))
    return {**answers, "transform": chosen}


def _chosen(model: Any, x: Table) -> Table:
    indices = np.flatnonzero(model.get_support())
    if not len(indices):
        msg = f"{type(model).__name__}: it selects no column"
        raise UnsupportedModelError(msg)
    # scikit-learn hands on an array, or gives the names that ``set_output`` asks for.
    return Table(x.graph, x.take([int(i) for i in indices]).parts)
