"""Rows of every data type, kept beside a model as a conversion keeps them."""

import json
from pathlib import Path

import numpy as np

from toolkit.spec import DType

SAMPLE_ROWS = 3
HARD_ROWS = 3


def write_proof(version: Path) -> None:
    """Write rows of every data type, as a conversion does: the sample's, then hard ones."""
    rng = np.random.default_rng(7)
    arrays = {}
    for dtype in DType:
        shape = (SAMPLE_ROWS + HARD_ROWS, 2)
        if dtype is DType.BYTES:
            values = np.array([["né\n", ""], ["a", '"b"'], ["c", "日本"], *[["x", "y"]] * 3])
            arrays["input:STRING"] = values
            continue
        if dtype.value.startswith("FP"):
            values = rng.random(shape)
            values[:SAMPLE_ROWS, 0] = [np.nan, -np.inf, 0.1]
            values[SAMPLE_ROWS:] = 6e4
        else:
            most = 2 if dtype is DType.BOOL else np.iinfo(dtype.numpy_name).max
            values = rng.integers(0, most, shape, dtype=np.uint64, endpoint=dtype is not DType.BOOL)
        arrays[f"input:{dtype.value}"] = values.astype(dtype.numpy_name)
    arrays["expected:count"] = np.ones((SAMPLE_ROWS + HARD_ROWS, 1), np.int64)
    np.savez(version / "proof.npz", allow_pickle=False, **arrays)
    report = {"rows": SAMPLE_ROWS + HARD_ROWS, "sample_rows": SAMPLE_ROWS}
    (version / "parity.json").write_text(json.dumps({"report": report}), encoding="utf-8")
