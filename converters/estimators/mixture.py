"""Gaussian mixtures."""

import math
from typing import Any

import numpy as np

from converters.estimators.naive_bayes import log_sum_exp
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor


@writes("sklearn:GaussianMixture", "sklearn:BayesianGaussianMixture")
def write_mixture(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the weighted log density of each component.

    What does not depend on the row is taken from the model itself: at the mean of a
    component its own density is that constant.
    """
    rows = x.matrix()
    distances = _distances(graph, model, rows)
    scores = -0.5 * distances + _constants(model)
    total = log_sum_exp(scores)
    index = scores.argmax()
    return {
        "predict": index,
        "index": index,
        "predict_proba": (scores - total).apply("Exp"),
        "score_samples": total.reshape(-1),
    }


def _constants(model: Any) -> Array:
    """Return each component's log density at distance zero, with its weight."""
    from sklearn.mixture._gaussian_mixture import _compute_log_det_cholesky

    features = model.means_.shape[1]
    log_det = _compute_log_det_cholesky(model.precisions_cholesky_, model.covariance_type, features)
    constants = -0.5 * features * math.log(2 * math.pi) + log_det + model._estimate_log_weights()  # noqa: SLF001
    if hasattr(model, "degrees_of_freedom_"):
        constants = constants + _wishart(model, features)
    return np.asarray(constants, dtype=np.float64)


def _wishart(model: Any, features: int) -> Array:
    """Return what the distribution over precisions adds (Bishop 2006, 10.64 and 10.65)."""
    from scipy.special import digamma

    freedom = np.asarray(model.degrees_of_freedom_)
    spread = digamma(0.5 * (freedom - np.arange(features)[:, np.newaxis])).sum(axis=0)
    spread = features * np.log(2.0) + spread
    shrunk = 0.5 * (spread - features / np.asarray(model.mean_precision_))
    return np.asarray(shrunk - 0.5 * features * np.log(freedom))


def _distances(graph: Graph, model: Any, x: Tensor) -> Tensor:
    """Return the squared Mahalanobis distance to each mean, in scikit-learn's own terms."""
    means: Array = model.means_
    factors: Array = model.precisions_cholesky_
    if model.covariance_type in {"full", "tied"}:
        shared = model.covariance_type == "tied"
        squares = []
        for k, mean in enumerate(means):
            factor = factors if shared else factors[k]
            turned = x @ factor - mean @ factor
            squares.append((turned * turned).sum())
        return graph.concat(squares)
    precisions: Array = factors**2
    if model.covariance_type == "diag":
        constant = graph.constant(np.sum(means**2 * precisions, axis=1))
        return constant - 2.0 * (x @ (means * precisions).T) + (x * x) @ precisions.T
    norms = (x * x).sum()
    constant = graph.constant(np.sum(means**2, axis=1) * precisions)
    return constant - 2.0 * (x @ means.T * precisions) + norms * precisions
