"""Explicit feature maps that approximate kernels."""

from typing import Any

import numpy as np

from converters.estimators.bins import ones
from converters.estimators.kernels import kernel
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_MOST_SKETCHED = 2_048
"""PolynomialCountSketch is written for no more components: two square matrices of them."""


@writes("sklearn:RBFSampler")
def write_rbf_sampler(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the cosines of random projections."""
    projected = x.matrix() @ np.asarray(model.random_weights_) + model.random_offset_
    return {"transform": cosine(projected) * (2.0 / model.n_components) ** 0.5}


@writes("sklearn:SkewedChi2Sampler")
def write_skewed_chi2_sampler(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the cosines of random projections of logarithms.

    The original raises for cells of -skewedness and less; this gives NaN.
    """
    logs = (x.matrix() + float(model.skewedness)).apply("Log")
    projected = logs @ np.asarray(model.random_weights_) + model.random_offset_
    return {"transform": cosine(projected) * (np.sqrt(2.0) / np.sqrt(model.n_components))}


@writes("sklearn:AdditiveChi2Sampler")
def write_additive_chi2_sampler(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the sampled Fourier transform of the additive chi-squared kernel."""
    values = x.matrix()
    # Intervals of Vedaldi and Zisserman (2011), figure 2c, as scikit-learn has them.
    interval = model.sample_interval
    if interval is None:
        interval = {1: 0.8, 2: 0.5, 3: 0.4}[model.sample_steps]
    zero = values.eq(0.0)
    parts = [graph.where(zero, 0.0, (values * float(interval)).apply("Sqrt"))]
    logs = values.apply("Log") * float(interval)
    for step in range(1, model.sample_steps):
        spread = float(np.cosh(np.pi * step * interval))
        factor = (values * 2.0 * float(interval) / spread).apply("Sqrt")
        angle = logs * float(step)
        waves = (cosine(angle), angle.apply("Sin"))
        parts += [graph.where(zero, 0.0, factor * wave) for wave in waves]
    return {"transform": graph.concat(parts)}


@writes("sklearn:Nystroem")
def write_nystroem(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the kernel against the chosen training rows, normalised."""
    if callable(model.kernel):
        msg = "Nystroem: its kernel is a function of the user's"
        raise UnsupportedModelError(msg)
    params = dict(model.kernel_params or {})
    for name in ("gamma", "coef0", "degree"):
        if getattr(model, name) is not None:
            params[name] = getattr(model, name)
    against = kernel(graph, x.matrix(), model.components_, model.kernel, params)
    return {"transform": against @ np.asarray(model.normalization_).T}


@writes("sklearn:PolynomialCountSketch")
def write_polynomial_count_sketch(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the product of the sketches' Fourier transforms, and its inverse, as matrices."""
    size = int(model.n_components)
    if size > _MOST_SKETCHED:
        msg = f"PolynomialCountSketch: {size} components; up to {_MOST_SKETCHED} are written"
        raise UnsupportedModelError(msg)
    values = x.matrix() * float(np.sqrt(model.gamma))
    if model.coef0 != 0:
        values = graph.concat([values, ones(values) * float(np.sqrt(model.coef0))])
    real: Tensor | None = None
    imaginary: Tensor | None = None
    for places, signs in zip(model.indexHash_, model.bitHash_, strict=True):
        sketch = np.zeros((values.width, size))
        sketch[np.arange(values.width), places] = signs
        waves = np.fft.rfft(sketch, axis=1)
        this, other = values @ waves.real.copy(), values @ waves.imag.copy()
        if real is None or imaginary is None:
            real, imaginary = this, other
        else:
            real, imaginary = real * this - imaginary * other, real * other + imaginary * this
    assert real is not None
    assert imaginary is not None
    half = np.eye(size // 2 + 1)
    back = np.fft.irfft(half, n=size, axis=1), np.fft.irfft(1j * half, n=size, axis=1)
    return {"transform": real @ back[0] + imaginary @ back[1]}


def cosine(x: Tensor) -> Tensor:
    """Return the cosine; ONNX Runtime 1.23 has no such operator in float64, but the sine."""
    half = (x * 0.5).apply("Sin")
    return 1.0 - half * half * 2.0
