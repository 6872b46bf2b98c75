"""What Prometheus reads, and system 1's figures: counted once a request, told when asked.

The counters are plain numbers of one event loop: those of ``prometheus_client`` cost a request
more than twice as much. They are written as text here as well: there a scrape would hold the
event loop ten times as long.
"""

import logging
import platform
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from time import perf_counter
from typing import Any, Literal, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from toolkit import __version__
from toolkit.gateway.caches import Cache
from toolkit.gateway.exchange import Asked, Reply

LATENCY_MS = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)
"""Upper bounds of the counted durations, in milliseconds."""

BATCH_SIZES = tuple(float(rows) for rows in range(1, 1024, 16))
"""Upper bounds of the counted numbers of rows: 1, 17, …, 1009."""

UNKNOWN = "unknown"
MAX_SERIES = 1000
"""How many combinations of labels are told apart; more than those count as unknown."""

WINDOW = 100
"""How many of the last requests system 1's figures are about."""

_CALLERS_FAULT = range(400, 500)
_END = b"# EOF\n"

_log = logging.getLogger(__name__)

Value = float | Mapping[tuple[str, ...], float]
"""A number, or one for each combination of the labels' values."""


class _Place(NamedTuple):
    model: str
    version: str
    endpoint: str
    key_id: str

    def labels(self) -> str:
        model, version = _quoted(self.model), _quoted(self.version)
        named = f"model_name={model},endpoint={_quoted(self.endpoint)},model={model}"
        return f"{named},version={version},key_id={_quoted(self.key_id)}"


class _Histogram:
    """Counts in buckets that are not cumulative yet."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        bounds = (*map(floatToGoString, self._bounds), "+Inf")
        for bound, count in zip(bounds, accumulate(self._counts), strict=True):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
        yield f"{name}_count{{{labels}}} {sum(self._counts)}"
        yield f"{name}_sum{{{labels}}} {self._total}"


class _Series:
    """What is counted of the requests of one kind."""

    __slots__ = ("errors", "latency_ms", "requests", "rows")

    def __init__(self, rows: _Histogram) -> None:
        self.requests = 0
        self.errors: dict[int, int] = {}
        self.latency_ms = _Histogram(LATENCY_MS)
        self.rows = rows


class _Watched(NamedTuple):
    kind: Literal["gauge", "counter"]
    name: str
    text: str
    read: Callable[[], Value]
    labels: tuple[str, ...]


class Metrics(Collector):
    """The counters of one gateway, in a registry of its own; for one event loop.

    ``known`` says whether a model of this name and version is served; an empty version asks
    about the model alone. Other names never become labels.
    """

    def __init__(self, known: Callable[[str, str], bool]) -> None:
        self._known = known
        self._series: dict[_Place | tuple[str, str, str, str], _Series] = {}
        self._rows: dict[tuple[str, str, str], _Histogram] = {}
        self._watched: dict[str, _Watched] = {}
        self._window: deque[tuple[float, float, int]] = deque(maxlen=WINDOW)
        self._requests = self._errors = self._total_rows = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def count(self, asked: Asked, status: int, inference_seconds: float | None = None) -> None:
        """Count one prediction that ended with ``status``.

        A failure of the model counts as 500 here, whatever the HTTP status that tells of it.
        Requests refused with 4xx are counted and not timed: no model ran. Without
        ``inference_seconds`` system 1's times are those of the whole request.
        """
        now = perf_counter()
        seconds = now - asked.began
        series = self._series.get((asked.model, asked.version, asked.endpoint, asked.key_id))
        if series is None:
            series = self._place(asked)
        series.requests += 1
        if status >= 400:  # noqa: PLR2004  where HTTP's errors begin
            series.errors[status] = series.errors.get(status, 0) + 1
            if status in _CALLERS_FAULT:
                return
            self._errors += 1
        series.latency_ms.observe(seconds * 1e3)
        if asked.rows:
            series.rows.observe(asked.rows)
        self._requests += 1
        self._total_rows += asked.rows
        inference = seconds if inference_seconds is None else inference_seconds
        self._window.append((now, inference, asked.rows))

    def _place(self, asked: Asked) -> _Series:
        """Return the counters for a combination of labels that is new or no model's."""
        model, version = asked.model, asked.version
        if version and not self._known(model, version):
            version = ""
        if not self._known(model, ""):
            model, version = UNKNOWN, ""
        place = _Place(model, version, asked.endpoint, asked.key_id)
        if place not in self._series and len(self._series) >= MAX_SERIES:
            place = _Place(UNKNOWN, "", asked.endpoint, "")
        series = self._series.get(place)
        if series is None:
            rows = self._rows.setdefault(place[:3], _Histogram(BATCH_SIZES))
            series = self._series[place] = _Series(rows)
        return series

    def watch(
        self,
        kind: Literal["gauge", "counter"],
        name: str,
        text: str,
        read: Callable[[], Value],
        *,
        labels: tuple[str, ...] = (),
    ) -> None:
        """Tell what ``read`` returns whenever the metrics are read; a second ``name`` replaces.

        With ``labels`` it returns a number for each tuple of their values. One that raises is
        left out. The name of a counter has no ``_total``.
        """
        self._watched[name] = _Watched(kind, name, text, read, labels)

    def watch_caches(self, caches: Callable[[], Mapping[str, Cache | None]]) -> None:
        """Tell of caches by their names; None is one that is switched off."""

        def each(field: str) -> Callable[[], Value]:
            return lambda: {
                (name,): float(cache.statistics().as_dict()[field])
                for name, cache in caches().items()
                if cache is not None
            }

        for kind, name, field, text in _CACHES:
            self.watch(kind, f"gateway_cache_{name}", text, each(field), labels=("cache",))

    def render(self, accept: str = "") -> Reply:
        """Return all metrics as text; OpenMetrics for those whose ``Accept`` asks for it."""
        openmetrics = "application/openmetrics-text" in accept
        if openmetrics:
            encode, media = choose_encoder(accept)
        else:
            encode, media = generate_latest, CONTENT_TYPE_LATEST
        others = encode(self._registry).removesuffix(_END)
        own = "\n".join(self._predictions(openmetrics=openmetrics)).encode()
        return Reply(200, others + own + b"\n" + openmetrics * _END, media.encode())

    def collect(self) -> Iterator[Metric]:
        """Return what ``prometheus_client`` writes: all but the predictions."""
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("gateway_build", "What answers here.", build)
        for watched in tuple(self._watched.values()):
            metric = _read(watched)
            if metric is not None:
                yield metric

    def _predictions(self, *, openmetrics: bool) -> Iterator[str]:
        """Return lines; OpenMetrics leaves out ``_total`` where a counter is described."""
        total = "" if openmetrics else "_total"
        all_series = [(_Place(*place).labels(), one) for place, one in self._series.items()]
        yield from _about("inference_requests" + total, "counter", "Predictions asked for.")
        for labels, series in all_series:
            yield f"inference_requests_total{{{labels}}} {series.requests}"
        text = "Predictions that were refused or failed, by HTTP status."
        yield from _about("inference_errors" + total, "counter", text)
        for labels, series in all_series:
            for status, count in series.errors.items():
                yield f'inference_errors_total{{{labels},status="{status}"}} {count}'
        text = "Milliseconds from request to answer."
        yield from _about("inference_latency_ms", "histogram", text)
        for labels, series in all_series:
            yield from series.latency_ms.lines("inference_latency_ms", labels)
        yield from _about("inference_batch_size", "histogram", "Rows of one request.")
        for of_model, histogram in self._rows.items():
            yield from histogram.lines("inference_batch_size", _Place(*of_model, "").labels())

    def engine_view(
        self,
        *,
        max_batch_size: int,
        caches: Mapping[str, Cache | None],
        batcher: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return system 1's figures, by the names it documents and those of its code.

        Times, sizes and rates are those of the last ``WINDOW`` requests, counts of all.
        ``total_requests`` counts rows and ``requests_processed`` requests, as there.
        ``caches`` has ``result`` and ``feature``. Nothing is preprocessed or quantised here:
        models do that in Triton.
        """
        times = sorted(seconds * 1e3 for _, seconds, _ in self._window)
        sizes = [rows for _, _, rows in self._window]
        mean_size = _mean(sizes)
        result, feature = (_statistics(caches.get(name)) for name in ("result", "feature"))
        rate = self._rate()
        system = _system()
        return {
            "avg_inference_time_ms": _mean(times),
            "p95_inference_time_ms": _quantile(times, 0.95),
            "p99_inference_time_ms": _quantile(times, 0.99),
            "max_inference_time_ms": times[-1] if times else 0.0,
            "throughput_per_second": rate,
            "throughput_requests_per_second": rate,
            "avg_batch_size": mean_size,
            "max_batch_size": max(sizes, default=0),
            "batch_utilization": min(1.0, mean_size / max_batch_size),
            "requests_processed": self._requests,
            "total_requests": self._total_rows,
            "errors": self._errors,
            "total_errors": self._errors,
            "error_rate": self._errors / self._requests if self._requests else 0.0,
            "cache_hit_rate": result.get("hit_rate", 0.0),
            "avg_preprocessing_time_ms": 0.0,
            "avg_quantization_time_ms": 0.0,
            "memory_usage_mb": system["memory_usage_mb"],
            "last_updated": self._updated(),
            "memory_pool": {},
            "dynamic_batcher": dict(batcher or {}),
            "result_cache": result,
            "feature_cache": feature,
            "system": system,
            "gc": _garbage(),
        }

    def _rate(self) -> float:
        """Return requests per second since the oldest of the window; it falls in quiet times."""
        if not self._window:
            return 0.0
        return len(self._window) / max(perf_counter() - self._window[0][0], 1e-3)

    def _updated(self) -> str | None:
        if not self._window:
            return None
        ago = perf_counter() - self._window[-1][0]
        moment = datetime.now().timestamp() - ago  # noqa: DTZ005  system 1 gives local time
        return datetime.fromtimestamp(moment).isoformat()  # noqa: DTZ006


_CACHES: tuple[tuple[Literal["gauge", "counter"], str, str, str], ...] = (
    ("gauge", "entries", "size", "Entries held."),
    ("gauge", "capacity", "capacity", "Entries held at most."),
    ("gauge", "bytes", "size_bytes", "Bytes held."),
    ("counter", "hits", "hit_count", "Requests answered from the cache."),
    ("counter", "misses", "miss_count", "Requests the cache had nothing for."),
    ("counter", "evictions", "eviction_count", "Entries that made room for others."),
)


def _about(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'


def _read(watched: _Watched) -> Metric | None:
    try:
        value = watched.read()
    except Exception as error:  # noqa: BLE001  the other metrics do not suffer from it
        _log.warning("the metric %s cannot be read: %r", watched.name, error)
        return None
    family = GaugeMetricFamily if watched.kind == "gauge" else CounterMetricFamily
    metric = family(watched.name, watched.text, labels=watched.labels)
    for labels, number in value.items() if isinstance(value, Mapping) else [((), value)]:
        metric.add_metric(labels, number)
    return metric


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _quantile(ordered: list[float], share: float) -> float:
    """Return the nearest rank: a time that was measured."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0.0


def _statistics(cache: Cache | None) -> dict[str, Any]:
    return {} if cache is None else cache.statistics().as_dict()


def _system() -> dict[str, Any]:
    import psutil

    process = psutil.Process()
    with process.oneshot():
        return {
            "cpu_percent": psutil.cpu_percent(),
            "memory_usage_mb": process.memory_info().rss / (1 << 20),
            "threads_count": process.num_threads(),
            "open_files": process.num_fds(),
        }


def _garbage() -> dict[str, Any]:
    import gc

    return {
        "enabled": gc.isenabled(),
        "counts": list(gc.get_count()),
        "collections": sum(each["collections"] for each in gc.get_stats()),
    }
