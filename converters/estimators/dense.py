"""What a model has learned, as arrays that are not sparse."""

from typing import Any

import numpy as np

from converters.onnx_writer import Array
from toolkit.errors import UnsupportedModelError

_MOST_CELLS = 20_000_000


def dense(values: Any, owner: Any) -> Array:
    """Return a float64 array, of a sparse matrix too.

    Raises:
        UnsupportedModelError: it would hold more than 20 million numbers.
    """
    if hasattr(values, "toarray"):
        if int(np.prod(values.shape)) > _MOST_CELLS:
            msg = f"{type(owner).__name__}: its sparse matrix of {values.shape} is too large"
            raise UnsupportedModelError(msg)
        values = values.toarray()
    return np.ascontiguousarray(values, dtype=np.float64)
