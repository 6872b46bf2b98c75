"""Triton's own counters of a model, at one moment or between two."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from toolkit.client import Client

_NS_PER_US = 1_000
_NS_PER_SECOND = 1_000_000_000
_Key = TypeVar("_Key")
_PARTS = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something happened and how long it took, all together."""

    count: int = 0
    ns: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.count + other.count, self.ns + other.ns)

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(self.count - other.count, self.ns - other.ns)

    @property
    def mean_us(self) -> float:
        """The mean in microseconds; NaN of nothing."""
        return _ratio(self.ns / _NS_PER_US, self.count)


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one version, or of several together.

    ``requests`` maps the names of ``inference_stats`` to their tallies, one count a request;
    ``executions`` a batch size and a part of the computing to its tally, one count an
    execution. What Triton leaves out is not there.
    """

    rows: int = 0
    execution_count: int = 0
    requests: Mapping[str, Tally] = field(default_factory=dict)
    executions: Mapping[tuple[int, str], Tally] = field(default_factory=dict)

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            self.rows + other.rows,
            self.execution_count + other.execution_count,
            _joined(self.requests, other.requests),
            _joined(self.executions, other.executions),
        )

    def since(self, earlier: "Counters") -> "Counters | None":
        """Return what was counted after ``earlier``; None if a counter went backwards."""
        later = Counters(
            self.rows - earlier.rows,
            self.execution_count - earlier.execution_count,
            _difference(self.requests, earlier.requests),
            _difference(self.executions, earlier.executions),
        )
        tallies = (*later.requests.values(), *later.executions.values())
        numbers = (n for tally in tallies for n in (tally.count, tally.ns))
        return None if min(later.rows, later.execution_count, *numbers, 0) < 0 else later


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What Triton counted for a model, up to a moment or (``since``) between two.

    A request is one call of a client, with one row or many; an execution is one run of the
    model, for one request or several that were joined. The times of a request are those of
    the executions it was part of, so means over requests weigh full batches more. A mean or
    a rate that cannot be told is NaN: of nothing, or of a moment.
    """

    model: str
    versions: Mapping[str, Counters]
    clock_seconds: float
    """``time.monotonic()`` when the counters were read."""
    seconds: float = math.nan
    """How long was counted; NaN up to a moment, as Triton does not say since when."""
    last_inference_ms: int = 0
    """When the last request was run, in milliseconds since 1970; 0 if none was."""
    reloaded: bool = False
    """Whether the model was loaded anew in between; what was counted before that is lost."""

    def since(self, earlier: "Snapshot") -> "Snapshot":
        """Return what happened between ``earlier`` and now.

        A version whose counters went backwards was loaded anew (Triton begins again at 0);
        of it the later counters alone are taken, as of one that was not there before.
        """
        between: dict[str, Counters] = {}
        reloaded = False
        for version, later in self.versions.items():
            counted = later.since(earlier.versions.get(version, Counters()))
            reloaded = reloaded or counted is None
            between[version] = later if counted is None else counted
        return Snapshot(
            model=self.model,
            versions=between,
            clock_seconds=self.clock_seconds,
            seconds=self.clock_seconds - earlier.clock_seconds,
            last_inference_ms=self.last_inference_ms,
            reloaded=reloaded,
        )

    @property
    def total(self) -> Counters:
        """All versions together."""
        return sum(self.versions.values(), Counters())

    def tally(self, name: str) -> Tally:
        """Return what Triton's statistics call ``name``, such as ``queue``."""
        return self.total.requests.get(name, Tally())

    @property
    def requests(self) -> int:
        """Requests that were answered, those from the cache too."""
        return self.tally("success").count

    @property
    def failures(self) -> int:
        """Requests that were not: refused by the queue, too late, or failed in the model."""
        return self.tally("fail").count

    @property
    def rows(self) -> int:
        """Rows that were computed; what came from the cache is not among them."""
        return self.total.rows

    @property
    def executions(self) -> int:
        """Runs of the model."""
        return self.total.execution_count

    @property
    def cache_hits(self) -> int:
        """Requests that the response cache answered."""
        return self.tally("cache_hit").count

    @property
    def cache_misses(self) -> int:
        """Requests that the response cache was asked for in vain."""
        return self.tally("cache_miss").count

    @property
    def requests_per_second(self) -> float:
        """Answered requests a second."""
        return _ratio(self.requests, self.seconds)

    @property
    def rows_per_second(self) -> float:
        """Computed rows a second."""
        return _ratio(self.rows, self.seconds)

    @property
    def mean_request_us(self) -> float:
        """The mean answered request in the server, from its arrival to its answer."""
        return self.tally("success").mean_us

    @property
    def mean_queue_us(self) -> float:
        """The mean wait of a request for its execution."""
        return self.tally("queue").mean_us

    @property
    def mean_compute_input_us(self) -> float:
        """The mean preparing of the inputs that a request had part in."""
        return self.tally("compute_input").mean_us

    @property
    def mean_compute_infer_us(self) -> float:
        """The mean run of the model itself that a request had part in."""
        return self.tally("compute_infer").mean_us

    @property
    def mean_compute_output_us(self) -> float:
        """The mean taking out of the outputs that a request had part in."""
        return self.tally("compute_output").mean_us

    @property
    def mean_in_flight(self) -> float:
        """The mean number of requests inside the server (Little's law)."""
        success, fail = self.tally("success"), self.tally("fail")
        return _ratio((success.ns + fail.ns) / _NS_PER_SECOND, self.seconds)

    @property
    def rows_per_request(self) -> float:
        """The rows of the mean request that was computed."""
        return _ratio(self.rows, self.tally("compute_infer").count)

    @property
    def batch_sizes(self) -> Mapping[int, int]:
        """Rows in an execution, to how many executions had that many."""
        return {
            rows: tally.count
            for (rows, part), tally in sorted(self.total.executions.items())
            if part == "compute_infer" and tally.count
        }

    @property
    def mean_batch_size(self) -> float:
        """Rows in the mean execution."""
        sizes = self.batch_sizes
        return _ratio(sum(rows * n for rows, n in sizes.items()), sum(sizes.values()))

    def execution(self, rows: int, part: str = "compute_infer") -> Tally:
        """Return the ``part`` of the executions with that many ``rows``."""
        return self.total.executions.get((rows, part), Tally())

    @property
    def mean_execution_us(self) -> float:
        """The mean execution: inputs, model and outputs."""
        parts = self._all_executions()
        return sum(parts[part].mean_us for part in _PARTS)

    @property
    def hand_over_share(self) -> float:
        """The share of the executions that goes into handing inputs and outputs over."""
        parts = self._all_executions()
        handing = parts["compute_input"].ns + parts["compute_output"].ns
        return _ratio(handing, sum(tally.ns for tally in parts.values()))

    def busy_share(self, instances: int) -> float:
        """Return the share of the time in which the mean of ``instances`` was executing."""
        busy_ns = sum(tally.ns for tally in self._all_executions().values())
        return _ratio(busy_ns / _NS_PER_SECOND, self.seconds * instances)

    def _all_executions(self) -> dict[str, Tally]:
        parts = dict.fromkeys(_PARTS, Tally())
        for (_, part), tally in self.total.executions.items():
            parts[part] += tally
        return parts

    @classmethod
    def from_json(
        cls, model: str, versions: Iterable[Mapping[str, Any]], clock_seconds: float
    ) -> Self:
        """Read the ``model_stats`` of Triton's statistics extension.

        Over gRPC what is 0 is left out and whole numbers of 64 bits are strings.
        """
        read = tuple(versions)
        return cls(
            model=model,
            versions={str(one.get("version", "")): _counters(one) for one in read},
            clock_seconds=clock_seconds,
            last_inference_ms=max((int(one.get("last_inference", 0)) for one in read), default=0),
        )


def snapshot(client: "Client", model: str, version: int | str | None = None) -> Snapshot:
    """Read the counters of ``model``, of all its versions if none is named.

    Raises what ``Client.statistics`` does: ``UnknownModelError``, ``ConnectionFailedError``, …
    """
    statistics = client.statistics(model, version)
    return Snapshot.from_json(model, statistics, time.monotonic())


def _counters(one: Mapping[str, Any]) -> Counters:
    executions = {
        (int(batch.get("batch_size", 0)), part): _tally(batch.get(part, {}))
        for batch in one.get("batch_stats", ())
        for part in _PARTS
    }
    requests = {name: _tally(tally) for name, tally in one.get("inference_stats", {}).items()}
    return Counters(
        int(one.get("inference_count", 0)),
        int(one.get("execution_count", 0)),
        requests,
        executions,
    )


def _tally(duration: Mapping[str, Any]) -> Tally:
    return Tally(int(duration.get("count", 0)), int(duration.get("ns", 0)))


def _joined(one: Mapping[_Key, Tally], other: Mapping[_Key, Tally]) -> dict[_Key, Tally]:
    nothing = Tally()
    return {
        key: one.get(key, nothing) + other.get(key, nothing)
        for key in dict.fromkeys((*one, *other))
    }


def _difference(later: Mapping[_Key, Tally], earlier: Mapping[_Key, Tally]) -> dict[_Key, Tally]:
    nothing = Tally()
    return {
        key: later.get(key, nothing) - earlier.get(key, nothing)
        for key in dict.fromkeys((*later, *earlier))
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
