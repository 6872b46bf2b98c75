"""What is measured: a load, and what a server did under it. Units are in the names."""

import math
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from types import UnionType
from typing import Any, Self, get_args, get_origin

from toolkit.errors import ConfigError


class Protocol(StrEnum):
    """The wire a load goes over (perf_analyzer's names)."""

    GRPC = "grpc"
    HTTP = "http"


class SharedMemory(StrEnum):
    """Where tensors are handed over (perf_analyzer's names)."""

    NONE = "none"
    SYSTEM = "system"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of a model: so many callers, or so many requests a second.

    ``concurrency`` requests are kept under way (a closed loop), or ``request_rate`` are
    sent a second whatever comes back (an open one); exactly one is given. ``batch_size``
    rows go in each request, 1 for a model without a batch axis.
    """

    concurrency: int | None = None
    request_rate: float | None = None
    batch_size: int = 1
    protocol: Protocol = Protocol.GRPC
    shared_memory: SharedMemory = SharedMemory.NONE

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.request_rate is None):
            raise ConfigError("a load has either a concurrency or a request rate")
        if self.batch_size < 1 or (self.concurrency is not None and self.concurrency < 1):
            raise ConfigError("concurrency and batch size start at 1")
        rate = self.request_rate
        if rate is not None and not (rate > 0 and math.isfinite(rate)):
            raise ConfigError(f"a request rate must be above 0, got {rate}")

    def __str__(self) -> str:
        asked = (
            f"concurrency {self.concurrency}"
            if self.concurrency is not None
            else f"{self.request_rate:g} requests/s"
        )
        return asked if self.batch_size == 1 else f"{asked}, {self.batch_size} rows each"

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read the fields of a load; raises as ``Measurement.from_json``, and ``ConfigError``."""
        known = dict(mapping(record))
        known["protocol"] = Protocol(known["protocol"])
        known["shared_memory"] = SharedMemory(known["shared_memory"])
        require_types(cls, known)
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a model did under a load, as perf_analyzer and Triton's statistics saw it.

    Latencies are of whole requests, as their callers saw them. ``client_send``,
    ``client_receive`` and ``network`` are perf_analyzer's shares of the mean request,
    ``queue`` and the three computes the server's; ``overhead`` is what the server spent
    besides. A latency that was not reported, the mean or a percentile, is NaN; all other
    numbers are finite.
    """

    load: Load
    requests: int
    failures: int = 0
    inferences_per_second: float
    mean_us: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    client_send_us: float = 0.0
    client_receive_us: float = 0.0
    network_us: float = 0.0
    queue_us: float = 0.0
    compute_input_us: float = 0.0
    compute_infer_us: float = 0.0
    compute_output_us: float = 0.0
    overhead_us: float = 0.0
    executions: int = 0
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    """Rows in an execution, to how many executions had that many."""
    cache_hits: int = 0
    memory_bytes: int | None = None
    """Of the model's own processes, where they can be seen; else None."""
    stable: bool = True
    """Whether perf_analyzer's windows agreed within its stability percentage."""

    @property
    def mean_batch_size(self) -> float:
        """Rows in the mean execution; NaN when none is known of."""
        executions = sum(self.batch_sizes.values())
        if not executions:
            return math.nan
        return sum(rows * count for rows, count in self.batch_sizes.items()) / executions

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as JSON can hold it: NaN as null."""
        record = asdict(self)
        record["batch_sizes"] = {str(rows): count for rows, count in self.batch_sizes.items()}
        return {key: None if _is_nan(value) else value for key, value in record.items()}

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read what ``to_json`` gave; keys that are not known are passed over.

        Raises ``KeyError``, ``TypeError``, ``ValueError`` or ``ConfigError`` for anything
        else, such as a value of another type than its field's.
        """
        given = mapping(record)
        known = {one.name: given[one.name] for one in fields(cls) if one.name in given}
        known["load"] = Load.from_json(known["load"])
        known["batch_sizes"] = {int(rows): n for rows, n in mapping(known["batch_sizes"]).items()}
        missing = {name: math.nan for name in _MAY_BE_MISSING if known[name] is None}
        require_types(cls, {name: one for name, one in known.items() if name not in missing})
        return cls(**{**known, **missing})


_MAY_BE_MISSING = ("mean_us", "p50_us", "p90_us", "p95_us", "p99_us")


def mapping(record: object) -> Mapping[str, Any]:
    """Return ``record`` where it is a JSON object; ``TypeError`` for anything else."""
    if not isinstance(record, Mapping):
        raise TypeError(f"{reprlib.repr(record)} is no JSON object")
    return record


def require_types(declared: type, values: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for a value of another type than ``declared``'s field of its name.

    True is no number, a whole number serves as a float, and floats are finite. Names that
    are no fields are left to the class itself.
    """
    for one in fields(declared):
        if one.name in values and not _is_a(values[one.name], one.type):
            wanted = getattr(one.type, "__name__", str(one.type))
            raise TypeError(f"{one.name} is {reprlib.repr(values[one.name])}, not {wanted}")


def _is_a(value: object, declared: Any) -> bool:
    origin, inner = get_origin(declared), get_args(declared)
    if declared is Any:
        return True
    if origin is UnionType:
        return any(_is_a(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(one, inner[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _is_a(key, inner[0]) and _is_a(one, inner[1]) for key, one in value.items()
        )
    if declared in {int, float}:
        wanted = (int, float) if declared is float else int
        # Whole numbers may be too large for a float, which isfinite does not survive.
        finite = isinstance(value, wanted) and abs(value) <= sys.float_info.max
        return finite and not isinstance(value, bool)
    return isinstance(value, declared)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
