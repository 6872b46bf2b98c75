"""What a caller may say about a conversion."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from toolkit.errors import ConfigError
from toolkit.spec import Road


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionOptions:
    """How to convert and how to prove one model.

    ``sample`` is a matrix or tensor whose first axis counts rows, or named columns (one
    axis each) or named tensors. ``road`` left out tries the roads of the framework in
    order; the first that proves wins, unless ``prefer`` says otherwise. ``release`` is
    the container release whose ONNX Runtime must read the model.
    ``intra_op_thread_count`` is that of the offline session and ought to be the server's;
    left out it is 1 for tabular models. ``outputs`` are the names of the answers to
    serve; left out, those usual for the kind of model. ``dynamic_axes`` maps tensors of a
    torch model to their axes, counted from the rows' axis 0, that may have any length.
    ``quantize`` is ``dynamic`` or ``fp16``: the proven ONNX model is made smaller, and
    ``atol`` and ``rtol`` are what that may cost. ``time_limit`` is in seconds, for each
    converter of another library. ``prefer`` is ``exact`` or ``speed``: with the latter
    all rungs are tried, and of those that prove the one is taken that answers
    ``batch_size`` rows fastest.
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
    generated_rows: int = 2000
    seed: int = 0
    outputs: tuple[str, ...] = ()
    dynamic_axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    quantize: str | None = None
    time_limit: float = 120.0
    prefer: str = "exact"
    batch_size: int = 256

    def __post_init__(self) -> None:
        for name in ("atol", "rtol", "generated_rows", "seed", "time_limit"):
            # The comparison is written so that NaN is refused too.
            if not getattr(self, name) >= 0:
                msg = f"{name} must not be negative, got {getattr(self, name)}"
                raise ConfigError(msg)
        if self.prefer not in {"exact", "speed"}:
            msg = f"unknown preference {self.prefer!r}"
            raise ConfigError(msg, hint="known: exact, speed")
        if self.quantize not in {None, "dynamic", "fp16"}:
            msg = f"unknown quantization {self.quantize!r}"
            raise ConfigError(msg, hint="known: dynamic, fp16")
        if self.quantize and self.road not in {None, Road.ONNX}:
            msg = f"quantize makes an ONNX model smaller, and the road is {self.road}"
            raise ConfigError(msg, hint="leave one of --quantize and --road out")
