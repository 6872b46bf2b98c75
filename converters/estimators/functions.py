"""Functions of numpy and scipy as ONNX, for ``FunctionTransformer``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from converters.estimators.registry import Answers, writes
from converters.estimators.special import expit, expm1, log1p
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:FunctionTransformer")
def write_function_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a transformer whose function is one of numpy's."""
    if model.func is None:
        return {"transform": x}
    given = apply(model.func, model.kw_args or {}, x.matrix())
    return {"transform": Table(graph, (given,), x.names)}


def apply(func: Any, arguments: dict[str, Any], x: Tensor) -> Tensor:
    """Write ``func(x, **arguments)``.

    Raises:
        UnsupportedModelError: it is none of the functions known here.
    """
    for known, write in _UNARY:
        if func is known and not arguments:
            return write(x)
    for known, write_with in _WITH_ARGUMENTS:
        if func is known:
            return write_with(x, dict(arguments))
    name = getattr(func, "__name__", type(func).__name__)
    told = f" with {', '.join(arguments)}" if arguments else ""
    msg = f"FunctionTransformer: the function {name}{told} has no ONNX form here"
    raise UnsupportedModelError(msg)


def _square(x: Tensor) -> Tensor:
    return x * x


def _sign_kept_root(x: Tensor) -> Tensor:
    """Return the cube root: Pow gives NaN for negative numbers."""
    root = x.apply("Abs") ** (1.0 / 3.0)
    # One step of Newton's method brings it to the last digit but one.
    safe = x.graph.where(root.eq(0.0), 1.0, root)
    better = root - (root * root * root - x.apply("Abs")) / (3.0 * safe * safe)
    kept = x.graph.where(root.eq(0.0), root, better)
    finite = x.graph.where(x.apply("Abs") > 1e300, root, kept)  # noqa: PLR2004 - no overflow
    return x.apply("Sign") * finite


def _operator(op_type: str) -> Callable[[Tensor], Tensor]:
    return lambda x: x.apply(op_type)


def _times(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


def _clip(x: Tensor, arguments: dict[str, Any]) -> Tensor:
    low = arguments.pop("a_min", arguments.pop("min", None))
    high = arguments.pop("a_max", arguments.pop("max", None))
    _nothing_left("clip", arguments)
    if not all(bound is None or np.isscalar(bound) for bound in (low, high)):
        raise UnsupportedModelError("FunctionTransformer: clip with bounds for each column")
    bounds = [None if bound is None else float(bound) for bound in (low, high)]
    return x.clip(bounds[0], bounds[1])


def _nan_to_num(x: Tensor, arguments: dict[str, Any]) -> Tensor:
    limits = np.finfo(np.float64)
    arguments.pop("copy", None)
    nan = float(arguments.pop("nan", 0.0))
    high, low = arguments.pop("posinf", None), arguments.pop("neginf", None)
    _nothing_left("nan_to_num", arguments)
    known = x.graph.where(x.is_nan(), nan, x)
    top = float(limits.max if high is None else high)
    bottom = float(limits.min if low is None else low)
    below = x.graph.where(known.eq(np.inf), top, known)
    return x.graph.where(below.eq(-np.inf), bottom, below)


def _nothing_left(name: str, arguments: dict[str, Any]) -> None:
    if arguments:
        msg = f"FunctionTransformer: {name} with {', '.join(arguments)} has no ONNX form here"
        raise UnsupportedModelError(msg)


_UNARY: tuple[tuple[Any, Callable[[Tensor], Tensor]], ...] = (
    (np.abs, _operator("Abs")),
    (np.fabs, _operator("Abs")),
    (np.ceil, _operator("Ceil")),
    (np.floor, _operator("Floor")),
    (np.rint, _operator("Round")),
    (np.sign, _operator("Sign")),
    (np.negative, _operator("Neg")),
    (np.reciprocal, lambda x: 1.0 / x),
    (np.sqrt, _operator("Sqrt")),
    (np.cbrt, _sign_kept_root),
    (np.square, _square),
    (np.exp, _operator("Exp")),
    (np.expm1, expm1),
    (np.log, _operator("Log")),
    (np.log1p, log1p),
    (np.log2, lambda x: x.apply("Log") / np.log(2.0)),
    (np.log10, lambda x: x.apply("Log") / np.log(10.0)),
    (np.sin, _operator("Sin")),
    (np.tanh, _operator("Tanh")),
    (np.deg2rad, _times(np.pi / 180.0)),
    (np.radians, _times(np.pi / 180.0)),
    (np.rad2deg, _times(180.0 / np.pi)),
    (np.degrees, _times(180.0 / np.pi)),
    (np.asarray, lambda x: x),
    (np.array, lambda x: x),
    (scipy.special.expit, expit),
    (scipy.special.logit, lambda x: (x / (1.0 - x)).apply("Log")),
)

_WITH_ARGUMENTS: tuple[tuple[Any, Callable[[Tensor, dict[str, Any]], Tensor]], ...] = (
    (np.clip, _clip),
    (np.nan_to_num, _nan_to_num),
)
