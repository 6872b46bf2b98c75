"""The routes of what can be seen: metrics for Prometheus and for system 1, and the caches."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from toolkit.gateway.caches import Cache
from toolkit.gateway.metrics import Metrics
from toolkit.gateway.published import Detail, response
from toolkit.gateway.replies import json_reply

RESULT, FEATURE = "result", "feature"
"""The names of the two caches."""

Caches = Callable[[], Mapping[str, Cache | None]]

_STAMP = "2026-01-31T12:00:00.000000"
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Detail} for status in (401, 403, 408, 413, 429, 500)
}


class CacheFigures(BaseModel):
    """What a cache did so far; the last names are another way to say the same."""

    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=0, description="Entries held.", examples=[532])
    capacity: int = Field(ge=1, description="Entries held at most.", examples=[1000])
    hit_count: int = Field(ge=0, examples=[2340])
    miss_count: int = Field(ge=0, examples=[780])
    hit_rate: float = Field(ge=0, le=1, examples=[0.75])
    eviction_count: int = Field(
        ge=0, description="Entries that made room for others.", examples=[120]
    )
    max_size: int = Field(ge=1, examples=[1000])
    ttl_seconds: float = Field(gt=0, examples=[3600.0])
    hits: int = Field(ge=0, examples=[2340])
    misses: int = Field(ge=0, examples=[780])
    hit_rate_percent: float = Field(ge=0, le=100, examples=[75.0])
    size_bytes: int = Field(ge=0, description="Bytes held.", examples=[425600])
    max_bytes: int = Field(ge=1, description="Bytes held at most.", examples=[134217728])


class CacheStats(BaseModel):
    """Both caches; null is one that is switched off."""

    result_cache: CacheFigures | None
    feature_cache: CacheFigures | None
    timestamp: str = Field(examples=[_STAMP])


class CacheCleared(BaseModel):
    """What was cleared: a cache that is switched off is not."""

    success: bool
    result_cache_cleared: bool
    feature_cache_cleared: bool
    message: str = Field(examples=["Caches cleared successfully"])


class System(BaseModel):
    """The gateway's own process, and how busy the machine is."""

    cpu_percent: float
    memory_usage_mb: float
    threads_count: int
    open_files: int


class EngineFigures(BaseModel):
    """Times, sizes and rates of the last 100 requests, counts of all."""

    model_config = ConfigDict(extra="forbid")

    avg_inference_time_ms: float = Field(ge=0, examples=[5.2])
    p95_inference_time_ms: float = Field(ge=0)
    p99_inference_time_ms: float = Field(ge=0)
    max_inference_time_ms: float = Field(ge=0)
    throughput_per_second: float = Field(ge=0, description="Requests.", examples=[192.3])
    throughput_requests_per_second: float = Field(ge=0)
    avg_batch_size: float = Field(ge=0, description="Rows of one request.")
    max_batch_size: int = Field(ge=0)
    batch_utilization: float = Field(ge=0, le=1, examples=[0.85])
    requests_processed: int = Field(ge=0, examples=[15000])
    total_requests: int = Field(ge=0, description="Rows of all requests.")
    errors: int = Field(ge=0, examples=[12])
    total_errors: int = Field(ge=0)
    error_rate: float = Field(ge=0, le=1, examples=[0.0008])
    cache_hit_rate: float = Field(ge=0, le=1, examples=[0.75])
    avg_preprocessing_time_ms: float = Field(description="0: models do that in Triton.")
    avg_quantization_time_ms: float = Field(description="0: models are quantised before.")
    memory_usage_mb: float = Field(examples=[256.0])
    last_updated: str | None = Field(examples=[_STAMP])
    memory_pool: dict[str, Any]
    dynamic_batcher: dict[str, Any]
    result_cache: dict[str, Any] = Field(description="Empty while it is switched off.")
    feature_cache: dict[str, Any] = Field(description="Empty while it is switched off.")
    system: System
    gc: dict[str, Any]


class EngineMetrics(BaseModel):
    """System 1's metrics."""

    metrics: EngineFigures
    timestamp: str = Field(examples=[_STAMP])


def router(
    metrics: Metrics,
    caches: Caches,
    *,
    max_batch_size: Callable[[], int],
    batcher: Callable[[], Mapping[str, Any]] = dict,
) -> APIRouter:
    """Return the routes; ``caches`` gives ``result`` and ``feature``, None where switched off."""
    routes = APIRouter(tags=["metrics"])
    told: dict[str, Any] = {
        "description": "Prometheus' text, OpenMetrics or JSON, as `Accept` asks for.",
        "model": EngineMetrics,
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
    }

    @routes.get("/metrics", responses={**_REFUSALS, 200: told}, response_model=None)
    async def read_metrics(request: Request) -> Response:
        """Tell what Prometheus reads, or with `Accept: application/json` the engine's metrics."""
        accept = request.headers.get("accept", "")
        if not wants_json(accept):
            return _varied(response(metrics.render(accept)))
        view = metrics.engine_view(
            max_batch_size=max_batch_size(), caches=caches(), batcher=batcher()
        )
        return _varied(response(json_reply({"metrics": view, "timestamp": _now()})))

    _add_caches(routes, caches)
    return routes


def _add_caches(routes: APIRouter, caches: Caches) -> None:
    @routes.get("/cache/stats", response_model=CacheStats, responses=_REFUSALS)
    async def cache_stats() -> Response:
        """Tell what the caches hold and how often they helped."""
        figures = {
            f"{name}_cache": None if cache is None else cache.statistics().as_dict()
            for name, cache in _both(caches())
        }
        return response(json_reply({**figures, "timestamp": _now()}))

    @routes.post("/cache/clear", response_model=CacheCleared, responses=_REFUSALS)
    async def clear_caches() -> Response:
        """Forget all answers and converted features."""
        cleared = {}
        for name, cache in _both(caches()):
            if cache is not None:
                cache.clear()
            cleared[f"{name}_cache_cleared"] = cache is not None
        message = "Caches cleared successfully"
        return response(json_reply({"success": True, **cleared, "message": message}))


def wants_json(accept: str) -> bool:
    """Say whether JSON is asked for by its name, and no text more than that."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights[media] = _weight(parameters)
    texts = ("text/plain", "application/openmetrics-text")
    asked = weights.get("application/json", 0.0)
    return asked > 0 and asked >= max(weights.get(text, 0.0) for text in texts)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _both(caches: Mapping[str, Cache | None]) -> list[tuple[str, Cache | None]]:
    return [(name, caches.get(name)) for name in (RESULT, FEATURE)]


def _varied(answer: Response) -> Response:
    answer.headers["vary"] = "Accept"
    return answer


def _now() -> str:
    return datetime.now().isoformat()  # noqa: DTZ005  system 1 gives local time
