"""Decompositions whose ``transform`` is a product with a fixed matrix."""

from typing import Any

import numpy as np

from converters.estimators.kernels import kernel
from converters.estimators.registry import Answers, writes
from converters.estimators.scaling import centered
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:PCA", "sklearn:IncrementalPCA")
def write_pca(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the projection, centred after it and whitened as the library does."""
    components = np.asarray(model.components_, dtype=np.float64)
    projected = x.matrix() @ components.T - np.reshape(model.mean_, (1, -1)) @ components.T
    if model.whiten:
        scale = np.sqrt(model.explained_variance_)
        projected = projected / np.maximum(scale, np.finfo(scale.dtype).eps)
    return {"transform": projected}


@writes("sklearn:TruncatedSVD", "sklearn:NeighborhoodComponentsAnalysis")
def write_projection(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``x @ components_.T``."""
    return {"transform": x.matrix() @ np.asarray(model.components_).T}


@writes("sklearn:FastICA")
def write_fast_ica(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the unmixing of the rows, centred if it was fitted with whitening."""
    values = x.matrix() - model.mean_ if model.whiten else x.matrix()
    return {"transform": values @ np.asarray(model.components_).T}


@writes("sklearn:FactorAnalysis")
def write_factor_analysis(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the expected factors (Bishop, Pattern Recognition, eq. 12.66)."""
    weighted = model.components_ / model.noise_variance_
    spread = np.linalg.inv(np.eye(len(model.components_)) + weighted @ model.components_.T)
    return {"transform": (x.matrix() - model.mean_) @ weighted.T @ spread}


@writes("sklearn:SparsePCA", "sklearn:MiniBatchSparsePCA")
def write_sparse_pca(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the ridge regression on the components: its solution is linear in the row."""
    from sklearn.linear_model import ridge_regression

    components = np.asarray(model.components_, dtype=np.float64)
    unit = np.eye(components.shape[1])
    solution = ridge_regression(components.T, unit, model.ridge_alpha, solver="cholesky")
    return {"transform": (x.matrix() - model.mean_) @ solution}


@writes("sklearn:KernelPCA")
def write_kernel_pca(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the centred kernel against the training rows, times the scaled eigenvectors."""
    if callable(model.kernel):
        msg = "KernelPCA: its kernel is a function of the user's"
        raise UnsupportedModelError(msg)
    params = {"gamma": model.gamma_, "degree": model.degree, "coef0": model.coef0}
    against = kernel(graph, x.matrix(), model.X_fit_, model.kernel, params)
    return {"transform": kernel_components(against, model)}


def kernel_components(against: Tensor, model: Any) -> Tensor:
    """Return what a fitted ``KernelPCA`` makes of the kernel against its training rows."""
    scaled: Array = np.zeros_like(model.eigenvectors_)
    some = np.flatnonzero(model.eigenvalues_)
    scaled[:, some] = model.eigenvectors_[:, some] / np.sqrt(model.eigenvalues_[some])
    return centered(against, model._centerer) @ scaled  # noqa: SLF001


@writes("sklearn:BernoulliRBM")
def write_bernoulli_rbm(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean activation of the hidden units."""
    hidden = x.matrix() @ np.asarray(model.components_).T + model.intercept_hidden_
    return {"transform": 1.0 / ((-hidden).apply("Exp") + 1.0)}


@writes("sklearn:NMF", "sklearn:MiniBatchNMF")
def write_nmf(_graph: Graph, model: Any, _x: Table) -> Answers:
    """Refuse: the solver starts from, and stops at, what the whole batch says."""
    msg = f"{type(model).__name__}: its answer for a row depends on the other rows of the batch"
    raise UnsupportedModelError(msg)
