"""What a caller may say about a conversion."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from toolkit.errors import ConfigError
from toolkit.spec import Road


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionOptions:
    """How to convert and how to prove one model.

    ``sample`` is a matrix or tensor whose first axis counts rows, or named columns
    (one axis each) or named tensors. ``road`` left out tries the roads of the framework
    in order; the first that proves wins. ``release`` is the container release whose ONNX
    Runtime must read the model. ``intra_op_thread_count`` is that of the offline session
    and ought to be the server's; left out it is 1 for tabular models.
    """

    name: str
    sample: np.ndarray | Mapping[str, np.ndarray] | None = None
    road: Road | None = None
    trusted: bool = False
    framework: str | None = None
    release: str = "25.11"
    intra_op_thread_count: int | None = None
    atol: float = 1e-4
    rtol: float = 1e-4
    generated_rows: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("atol", "rtol", "generated_rows", "seed"):
            # The comparison is written so that NaN is refused too.
            if not getattr(self, name) >= 0:
                msg = f"{name} must not be negative, got {getattr(self, name)}"
                raise ConfigError(msg)
