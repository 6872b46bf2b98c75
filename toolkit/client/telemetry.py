"""Spans and counters of calls: OpenTelemetry where the program uses it, plain numbers else."""

import sys
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from toolkit.client.records import RequestRecord
from toolkit.client.transport import NO_HEADERS
from toolkit.errors import RequestError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_SERVICE = "inference.GRPCInferenceService"
_METHODS = {
    "infer": "ModelInfer",
    "live": "ServerLive",
    "ready": "ServerReady",
    "model_ready": "ModelReady",
    "server_metadata": "ServerMetadata",
    "metadata": "ModelMetadata",
    "config": "ModelConfig",
    "statistics": "ModelStatistics",
    "repository_index": "RepositoryIndex",
    "load": "RepositoryModelLoad",
    "unload": "RepositoryModelUnload",
    "register_shared_memory": "SystemSharedMemoryRegister",
    "unregister_shared_memory": "SystemSharedMemoryUnregister",
    "shared_memory_status": "SystemSharedMemoryStatus",
}
_GETS = frozenset(
    {"live", "ready", "model_ready", "server_metadata", "metadata", "config", "statistics"}
    | {"shared_memory_status"}
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the counted durations."""


def in_use() -> bool:
    """Return whether the program has imported OpenTelemetry; nothing is traced else."""
    return "opentelemetry.trace" in sys.modules


def recording() -> Any:
    """Return the program's tracer provider; None where nobody records spans.

    OpenTelemetry is never imported here: a program that has set a tracer provider has
    imported it already.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    nobody = isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
    return None if nobody else provider


def start(operation: str, model: str | None, url: str) -> "Span | None":
    """Return the span of one call, a child of the caller's; None where nobody records any."""
    provider = recording()
    if provider is None:
        return None
    from opentelemetry import trace

    span: Span = provider.get_tracer("toolkit.client").start_span(
        f"{operation} {model}" if model else operation,
        kind=trace.SpanKind.CLIENT,
        attributes=_where(url) | ({"triton.model.name": model} if model else {}),
    )
    return span


def headers(span: "Span | None") -> Mapping[str, str]:
    """Return what tells the server of the span: ``traceparent`` and what else is configured.

    Also for a span that is not sampled, so that the server does not sample it either.
    """
    if span is None:
        return NO_HEADERS
    from opentelemetry import propagate, trace

    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    return {name.lower(): value for name, value in carrier.items()}


def attempt_failed(span: "Span | None", number: int, url: str, error: RequestError) -> None:
    """Note an attempt that another one follows; the first has ``number`` 1."""
    if span is not None:
        told: dict[str, Any] = {"attempt": number, "error.type": type(error).__name__}
        span.add_event("attempt failed", told | _where(url) | _status(error.status))


def end(span: "Span | None", record: RequestRecord) -> None:
    """End the span with what became of the call."""
    if span is None:
        return
    if span.is_recording():
        span.set_attributes(_attributes(record))
        if record.error is not None:
            from opentelemetry.trace import Status, StatusCode

            span.set_status(Status(StatusCode.ERROR, record.error.message))
    span.end()


def _attributes(record: RequestRecord) -> dict[str, Any]:
    """Name things as OpenTelemetry's semantic conventions (1.38) do, where they do."""
    said: dict[str, Any] = {
        "triton.request.id": record.request_id,
        "triton.attempts": record.attempts,
        "triton.model.version": record.version,
        "triton.rows": record.rows,
        "triton.queue_seconds": record.queue_seconds,
        "triton.compute_seconds": record.compute_seconds,
    }
    said |= _where(record.url)
    if record.protocol == "http":
        said["http.request.method"] = "GET" if record.operation in _GETS else "POST"
    else:
        said["rpc.system.name"] = "grpc"
        said["rpc.method"] = f"{_SERVICE}/{_METHODS.get(record.operation, '_OTHER')}"
    if record.error is not None:
        said["error.type"] = type(record.error).__name__
        said |= _status(record.error.status)
    else:
        said |= _status("OK" if record.protocol == "grpc" else 200)
    return {name: value for name, value in said.items() if value is not None}


def _where(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    where: dict[str, Any] = {"server.address": parts.hostname or url}
    try:
        port = parts.port
    except ValueError:  # "dns:///" and the like may hold anything
        return where
    return where | ({"server.port": port} if port else {})


def _status(status: int | str | None) -> dict[str, Any]:
    if status is None:
        return {}
    name = "http.response" if isinstance(status, int) else "rpc.response"
    return {f"{name}.status_code": status}


@dataclass(frozen=True, slots=True)
class Counts:
    """What ``Counters`` had counted at one moment.

    ``calls`` has the number of calls by model and outcome; ``attempts``, ``rows`` and
    ``seconds`` are sums by model; ``durations`` has for each model the number of calls that
    took at most each of ``SECONDS``, and last the number of all.
    """

    calls: Mapping[tuple[str, str], int]
    attempts: Mapping[str, int]
    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    durations: Mapping[str, tuple[int, ...]]


class Counters:
    """A hook that counts calls, as an exporter of metrics wants them; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._attempts: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._durations: dict[str, list[int]] = {}

    def __call__(self, record: RequestRecord) -> None:
        """Count one finished call; one about no model counts under ``""``."""
        model = record.model or ""
        with self._lock:
            self._calls[model, record.outcome] += 1
            self._attempts[model] += record.attempts
            self._rows[model] += record.rows or 0
            self._seconds[model] = self._seconds.get(model, 0.0) + record.duration
            durations = self._durations.setdefault(model, [0] * (len(SECONDS) + 1))
            durations[bisect_left(SECONDS, record.duration)] += 1

    def counts(self) -> Counts:
        """Return the totals so far."""
        with self._lock:
            return Counts(
                dict(self._calls),
                dict(self._attempts),
                dict(self._rows),
                dict(self._seconds),
                {model: tuple(accumulate(each)) for model, each in self._durations.items()},
            )
