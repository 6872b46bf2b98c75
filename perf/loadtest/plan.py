"""What a load test is to do: everything a worker needs to know."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from perf.loadtest.arrivals import Stage
from perf.loadtest.request import Target
from toolkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Plan:
    """A load test. Open loop with ``stages``, closed loop with ``concurrency``.

    ``address`` is the resolved host. ``seed`` None gives evenly spaced arrivals.
    ``expected`` holds the statuses of success; empty stands for 200 to 299.
    """

    target: Target
    address: str
    requests: tuple[bytes, ...] = field(repr=False)
    stages: tuple[Stage, ...] = ()
    seed: int | None = None
    concurrency: int | None = None
    duration_seconds: float = 0.0
    warmup_seconds: float = 1.0
    timeout_seconds: float = 10.0
    expected: frozenset[int] = frozenset()
    connections_max: int = 256
    waiting_max: int = 100_000
    workers: int = 1

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (not self.stages):
            raise ConfigError(
                "say either how fast requests come or how many callers there are",
                hint="--rate 500 for an open loop\n--concurrency 32 for a closed one",
            )
        for name, value in self._must_be_positive():
            if value <= 0:
                raise ConfigError(f"{name} {value:g} is not above 0")
        if self.warmup_seconds < 0:
            raise ConfigError(f"--warmup {self.warmup_seconds:g} is below 0")
        if self.workers > self.connections:
            raise ConfigError(
                f"{self.workers} workers cannot share {self.connections} connection(s)",
                hint=f"--workers {self.connections}",
            )

    def _must_be_positive(self) -> Iterable[tuple[str, float]]:
        yield "--duration", self.seconds
        yield "--timeout", self.timeout_seconds
        yield "--connections-max", self.connections_max
        yield "--waiting-max", self.waiting_max
        yield "--workers", self.workers
        if self.concurrency is not None:
            yield "--concurrency", self.concurrency

    @property
    def closed(self) -> bool:
        """Whether a caller sends only once it has been answered."""
        return self.concurrency is not None

    @property
    def connections(self) -> int:
        """The most connections at a time, of all workers."""
        return self.connections_max if self.concurrency is None else self.concurrency

    @property
    def seconds(self) -> float:
        """How long requests are sent, without the warm-up."""
        return sum(one.seconds for one in self.stages) if self.stages else self.duration_seconds

    @property
    def warm_stages(self) -> tuple[Stage, ...]:
        """The stages with the warm-up, at the rate of the beginning, in front."""
        first = self.stages[0]
        rate = first.first_rate or first.last_rate
        warmup = Stage(self.warmup_seconds, rate, rate) if self.warmup_seconds else None
        return (warmup, *self.stages) if warmup else self.stages

    def share(self, number: int, worker: int) -> int:
        """Return one worker's share of a number of things; shares differ by one at most."""
        return number // self.workers + (worker < number % self.workers)
