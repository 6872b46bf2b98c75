"""Models that weigh how alike a row is to each training row."""

from typing import Any

import numpy as np

from converters.estimators.dense import dense
from converters.estimators.kernels import kernel
from converters.estimators.nearest import Neighbourhood
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:KernelRidge")
def write_kernel_ridge(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the weighted sum of kernels."""
    parameters = {"gamma": model.gamma, "degree": model.degree, "coef0": model.coef0}
    rows = x.matrix()
    alike = _kernel(graph, model, rows, model.X_fit_, parameters)
    weights = np.asarray(model.dual_coef_, dtype=np.float64)
    predicted = alike @ weights.reshape(len(weights), -1)
    return {"predict": predicted.reshape(-1) if weights.ndim == 1 else predicted}


@writes("sklearn:LabelPropagation", "sklearn:LabelSpreading")
def write_label_propagation(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the labels that training rows nearby have come to; far from all it is NaN."""
    rows = x.matrix()
    known = np.asarray(model.label_distributions_, dtype=np.float64)
    if model.kernel == "knn":
        hood = Neighbourhood(model.nn_fit)
        hood.refuse_ties(model.n_neighbors, known)
        _, indices = hood.nearest(graph, rows, model.n_neighbors)
        shares = indices.lookup(known[hood.order]).sum(axis=1, keepdims=False)
    else:
        shares = _kernel(graph, model, rows, model.X_, {"gamma": model.gamma}) @ known
    probabilities = shares / shares.sum()
    return {
        "predict_proba": probabilities,
        **labelled(graph, model.classes_, probabilities.argmax()),
    }


def _kernel(graph: Graph, model: Any, x: Tensor, points: Any, parameters: Any) -> Tensor:
    name = type(model).__name__
    try:
        return kernel(graph, x, dense(points, model), model.kernel, parameters)
    except UnsupportedModelError as error:
        msg = f"{name}: {error.message}"
        raise UnsupportedModelError(msg) from error
