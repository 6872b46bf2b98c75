"""Gaussian processes."""

from typing import Any

import numpy as np

from converters.estimators.covariances import covariance, variance
from converters.estimators.registry import Answers, labelled, write, writes
from converters.estimators.special import erf
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:GaussianProcessRegressor")
def write_gaussian_process_regressor(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean of the posterior."""
    weights = np.asarray(model.alpha_, dtype=np.float64)
    weights = weights.reshape(len(weights), -1)
    mean = _covariance(model, x.matrix()) @ weights
    mean = mean * np.atleast_1d(model._y_train_std) + np.atleast_1d(model._y_train_mean)  # noqa: SLF001
    return {"predict": mean.reshape(-1) if mean.width == 1 else mean}


@writes("sklearn:GaussianProcessClassifier")
def write_gaussian_process_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write what it is made of: one process, or several against the rest or each other."""
    answers = dict(write(graph, model.base_estimator_, x))
    if model.n_classes_ > 2 and model.multi_class == "one_vs_one":  # noqa: PLR2004
        answers.pop("predict_proba", None)
    return answers


@writes("sklearn:_BinaryGaussianProcessClassifierLaplace")
def write_binary_process(graph: Graph, model: Any, x: Table) -> Answers:
    """Write Laplace's approximation (Rasmussen and Williams 2006, algorithm 3.2)."""
    from scipy.linalg import solve_triangular

    rows = x.matrix()
    alike = _covariance(model, rows)
    mean = alike @ np.reshape(model.y_train_ - model.pi_, (-1, 1))
    index = (mean > 0.0).cast(np.int64).reshape(-1)
    lower = np.asarray(model.L_)
    factor = solve_triangular(lower, np.diag(model.W_sr_), lower=True)
    explained = alike @ np.ascontiguousarray(factor.T)
    try:
        own = variance(rows, model.kernel_)
    except UnsupportedModelError:  # It still predicts labels.
        return labelled(graph, model.classes_, index)
    spread = own - (explained * explained).sum()
    one = _expected_sigmoid(mean, spread)
    return {
        "predict_proba": graph.concat([1.0 - one, one]),
        **labelled(graph, model.classes_, index),
    }


def _covariance(model: Any, x: Tensor) -> Tensor:
    points = np.asarray(model.X_train_)
    if points.dtype.kind not in "fiu":
        msg = f"{type(model).__name__}: it was trained on structures and not on numbers"
        raise UnsupportedModelError(msg)
    try:
        return covariance(x, points.astype(np.float64), model.kernel_)
    except UnsupportedModelError as error:
        msg = f"{type(model).__name__}: {error.message}"
        raise UnsupportedModelError(msg) from error


def _expected_sigmoid(mean: Tensor, spread: Tensor) -> Tensor:
    """Return the sigmoid averaged over a normal distribution, (rows, 1).

    By the five error functions of Williams and Barber (1998), in scikit-learn's terms.
    """
    from sklearn.gaussian_process._gpc import COEFS, LAMBDAS

    scales, shares = np.ravel(LAMBDAS), np.ravel(COEFS)
    alpha = 1.0 / (2.0 * spread)
    heights = erf(mean * scales * (alpha / (alpha + scales**2)).apply("Sqrt"))
    integrals = (np.pi / alpha).apply("Sqrt") * heights
    integrals = integrals / (2.0 * (spread * 2.0 * np.pi).apply("Sqrt"))
    return (integrals * shares).sum() + 0.5 * float(shares.sum())
