"""The hashing trick: where MurmurHash3 puts a feature, and rows made of such features."""

from typing import Any

import numpy as np

from converters.onnx_writer import Tensor
from toolkit.errors import UnsupportedModelError

WIDEST = 1 << 16
"""The widest row of hashed features that is written: each row is dense in ONNX."""


def refuse_wide(model: Any) -> None:
    """Refuse a hasher whose dense rows would fill the memory of a server."""
    if model.n_features > WIDEST:
        msg = (
            f"{type(model).__name__}: a row of n_features={model.n_features} is dense in ONNX "
            f"({model.n_features * 8 / 1e6:.0f} MB a row)"
        )
        hint = f"n_features of {WIDEST} or less can be written"
        raise UnsupportedModelError(msg, hint=hint)


def murmur(texts: Tensor) -> Tensor:
    """Return the signed 32-bit MurmurHash3 of UTF-8 texts, as int64."""
    hashed = texts.apply("MurmurHash3", np.int32, domain="com.microsoft", seed=0, positive=0)
    return hashed.cast(np.int64)


def placed(hashes: Tensor, model: Any) -> tuple[Tensor, Tensor]:
    """Return the column of each hash, int64, and the sign of its value, float64."""
    graph = hashes.graph
    columns = hashes.apply("Abs")._with("Mod", np.array(model.n_features))  # noqa: SLF001
    if not model.alternate_sign:
        return columns, graph.where(hashes.eq(hashes), np.array(1.0), np.array(1.0))
    return columns, graph.where(hashes >= 0, np.array(1.0), np.array(-1.0))


def scattered(columns: Tensor, values: Tensor, width: int) -> Tensor:
    """Return rows of ``width`` zeros with the values added at their columns, in their order.

    A column of ``width`` stands for nowhere.
    """
    graph = columns.graph
    rows = graph.node("Shape", [columns], (1,), dtype=np.int64, start=0, end=1)
    shape = graph.concat([rows, graph.constant(np.array([width + 1]))], axis=0)
    empty = graph.node("Expand", [np.array(0.0), shape], (None, width + 1), dtype=np.float64)
    full = graph.node("ScatterElements", [empty, columns, values], axis=1, reduction="add")
    return full.take(range(width))
