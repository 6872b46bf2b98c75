"""What is wanted of a configuration: an objective, and limits it must keep."""

import math
from dataclasses import dataclass
from enum import StrEnum

from perf.journal import Point
from perf.measurement import Measurement
from toolkit.errors import ConfigError


class Objective(StrEnum):
    """What is to be as good as it can be."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The objective, and the limits under which it counts; None is no limit.

    ``latency`` means the 99th percentile. A measurement with failed requests keeps no limit.
    """

    objective: Objective = Objective.THROUGHPUT
    max_p99_ms: float | None = None
    min_throughput: float | None = None
    max_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_p99_ms", "min_throughput", "max_memory_bytes"):
            limit = getattr(self, name)
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise ConfigError(f"{name} must be above 0, got {limit}")

    def score(self, measured: Measurement) -> float:
        """Return how good ``measured`` is by the objective alone; more is better."""
        if self.objective is Objective.LATENCY:
            return 1e6 / measured.p99_us
        return measured.inferences_per_second

    def excess(self, measured: Measurement) -> float:
        """Return by how much the limits are broken, as shares added up; 0.0 keeps all.

        Raises ``ConfigError`` when there is a limit of memory and none was measured.
        """
        over = math.inf if measured.failures else 0.0
        if self.max_p99_ms is not None:
            over += max(0.0, measured.p99_us / 1e3 / self.max_p99_ms - 1)
        if self.min_throughput is not None:
            over += max(0.0, 1 - measured.inferences_per_second / self.min_throughput)
        if self.max_memory_bytes is not None:
            if measured.memory_bytes is None:
                raise ConfigError(
                    "the memory of the model's processes cannot be seen on this server",
                    hint="leave --max-memory out, or tune on an embedded server",
                )
            over += max(0.0, measured.memory_bytes / self.max_memory_bytes - 1)
        return over

    def rank(self, point: Point) -> tuple[float, float]:
        """Return a key that sorts points from the best to the worst."""
        if point.measurement is None:
            return math.inf, 0.0
        return self.excess(point.measurement), -self.score(point.measurement)

    def to_json(self) -> dict[str, object]:
        """Return the goal as JSON can hold it."""
        return {
            "objective": str(self.objective),
            "max_p99_ms": self.max_p99_ms,
            "min_throughput": self.min_throughput,
            "max_memory_bytes": self.max_memory_bytes,
        }
