"""GET /metrics, GET /cache/stats and POST /cache/clear, over HTTP."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families

from toolkit.gateway.caches import Cache, body_key
from toolkit.gateway.exchange import Asked
from toolkit.gateway.metrics import Metrics
from toolkit.gateway.routes_metrics import (
    CacheCleared,
    CacheStats,
    EngineMetrics,
    router,
    wants_json,
)

Ask = Callable[..., httpx.Response]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(lambda _model, _version: True)
    request = Asked("POST", "/predict", {}, model="forest", endpoint="predict", rows=16)
    metrics.count(request, 200)
    return metrics


@pytest.fixture
def caches() -> dict[str, Cache | None]:
    results = Cache(1000, 3600)
    results.put(body_key("m", "1", b"a"), {"y": np.zeros(1)}, "1", 0)
    results.get(body_key("m", "1", b"a"))
    return {"result": results, "feature": Cache(500, 60)}


@pytest.fixture
def app(metrics: Metrics, caches: dict[str, Cache | None]) -> FastAPI:
    app = FastAPI()
    routes = router(
        metrics, lambda: caches, max_batch_size=lambda: 64, batcher=lambda: {"waiting": 3}
    )
    app.include_router(routes)
    return app


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    def one(method: str, path: str, **headers: str) -> httpx.Response:
        async def steps() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(steps())

    return one


def test_prometheus_is_told_in_its_text(ask: Ask) -> None:
    answer = ask("GET", "/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    told = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert told["inference_requests"].samples[0].labels["model_name"] == "forest"


def test_prometheus_may_ask_for_openmetrics(ask: Ask) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
    answer = ask("GET", "/metrics", accept=accept)

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    told = openmetrics_of(answer.text)  # type: ignore[no-untyped-call]
    assert "inference_requests" in {family.name for family in told}


def test_system_1_is_told_in_json(ask: Ask) -> None:
    answer = ask("GET", "/metrics", accept="application/json")

    told = answer.json()
    EngineMetrics.model_validate(told, strict=True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    assert told["metrics"]["requests_processed"] == 1
    assert told["metrics"]["batch_utilization"] == 0.25
    assert told["metrics"]["cache_hit_rate"] == 1.0
    assert told["metrics"]["dynamic_batcher"] == {"waiting": 3}
    assert datetime.fromisoformat(told["timestamp"]).tzinfo is None


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/json, text/plain, */*", True),
        ("text/plain;q=0.5, application/json;q=0.9", True),
        ("text/plain, application/json;q=0.9", False),
        ("application/openmetrics-text, application/json;q=0.9", False),
        ("application/json;q=0", False),
        ("application/json;q=much", False),
        (";;,=;q", False),
    ],
)
def test_json_is_for_those_who_ask_for_it(accept: str, json: bool) -> None:
    assert wants_json(accept) == json


def test_both_caches_tell_of_themselves(ask: Ask) -> None:
    told = ask("GET", "/cache/stats").json()

    CacheStats.model_validate(told, strict=True)
    assert (
        told["result_cache"].items()
        >= {
            "size": 1,
            "capacity": 1000,
            "hit_count": 1,
            "miss_count": 0,
            "hit_rate": 1.0,
            "eviction_count": 0,
            "max_size": 1000,
            "ttl_seconds": 3600,
            "hits": 1,
            "misses": 0,
            "hit_rate_percent": 100.0,
        }.items()
    )
    assert told["feature_cache"]["capacity"] == 500


def test_a_cache_that_is_switched_off_is_null(ask: Ask, caches: dict[str, Cache | None]) -> None:
    caches["result"] = None
    told = ask("GET", "/cache/stats").json()

    CacheStats.model_validate(told, strict=True)
    assert told["result_cache"] is None
    assert told["feature_cache"] is not None


def test_clearing_empties_both(ask: Ask, caches: dict[str, Cache | None]) -> None:
    answer = ask("POST", "/cache/clear")

    CacheCleared.model_validate(answer.json(), strict=True)
    assert answer.json() == {
        "success": True,
        "result_cache_cleared": True,
        "feature_cache_cleared": True,
        "message": "Caches cleared successfully",
    }
    assert caches["result"] is not None
    assert len(caches["result"]) == 0


def test_what_is_switched_off_is_not_cleared(ask: Ask, caches: dict[str, Cache | None]) -> None:
    caches.clear()

    assert ask("POST", "/cache/clear").json() == {
        "success": True,
        "result_cache_cleared": False,
        "feature_cache_cleared": False,
        "message": "Caches cleared successfully",
    }


def test_the_published_schema_has_all_forms_of_the_metrics(app: FastAPI) -> None:
    published: dict[str, Any] = app.openapi()
    answer = published["paths"]["/metrics"]["get"]["responses"]["200"]["content"]

    assert answer.keys() == {"text/plain", "application/openmetrics-text", "application/json"}
    assert answer["application/json"]["schema"]["$ref"].endswith("EngineMetrics")
