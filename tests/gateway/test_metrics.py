"""What Prometheus reads of the gateway, and what system 1's callers read."""

import math
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families

from toolkit.gateway import metrics as metrics_module
from toolkit.gateway.caches import Cache, body_key
from toolkit.gateway.exchange import Asked
from toolkit.gateway.keys import Key
from toolkit.gateway.metrics import Metrics

SERVED = {("forest", ""), ("forest", "1"), ("forest", "2")}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda model, version: (model, version) in SERVED)


def asked(milliseconds: float = 3.0, key_id: str = "", **known: Any) -> Asked:
    known = dict[str, Any](model="forest", version="1", endpoint="predict", rows=1) | known
    key = Key(key_id) if key_id else None
    began = perf_counter() - milliseconds / 1e3
    return Asked("POST", "/predict/forest", {}, began=began, key=key, **known)


def families(metrics: Metrics) -> dict[str, Metric]:
    text = metrics.render().body.decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(metrics: Metrics, name: str, **labels: str) -> float:
    """Return the sum over the series that have these labels."""
    return sum(
        sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_the_names_labels_and_buckets_are_those_of_system_3(metrics: Metrics) -> None:
    metrics.count(asked(key_id="shop"), 200)
    metrics.count(asked(), 500)
    told = families(metrics)

    requests = told["inference_requests"]
    assert requests.type == "counter"
    assert {sample.name for sample in requests.samples} == {"inference_requests_total"}
    assert requests.samples[0].labels == {
        "model_name": "forest",
        "endpoint": "predict",
        "model": "forest",
        "version": "1",
        "key_id": "shop",
    }
    assert [sample.name for sample in told["inference_errors"].samples] == [
        "inference_errors_total"
    ]
    shop = [sample for sample in told["inference_latency_ms"].samples if _of(sample, "shop")]
    assert [sample.labels["le"] for sample in shop if "le" in sample.labels] == [
        *("1.0", "5.0", "10.0", "25.0", "50.0", "100.0"),
        *("250.0", "500.0", "1000.0", "2500.0", "5000.0", "+Inf"),
    ]
    bounds = [
        float(sample.labels["le"])
        for sample in told["inference_batch_size"].samples
        if sample.name == "inference_batch_size_bucket"
    ]
    assert bounds == [*range(1, 1010, 16), math.inf]
    assert not [name for name in told if "created" in name]


def _of(sample: Any, key_id: str) -> bool:
    return bool(sample.labels.get("key_id") == key_id)


def test_durations_and_rows_fall_into_their_buckets(metrics: Metrics) -> None:
    for milliseconds, rows in ((0.5, 1), (3, 17), (30, 18), (9000, 5000)):
        metrics.count(asked(milliseconds, rows=rows), 200)

    latency = "inference_latency_ms"
    counted = {le: values(metrics, f"{latency}_bucket", le=le) for le in ("1.0", "5.0", "50.0")}
    assert counted == {"1.0": 1, "5.0": 2, "50.0": 3}
    assert values(metrics, f"{latency}_bucket", le="5000.0") == 3
    assert values(metrics, f"{latency}_bucket", le="+Inf") == 4
    assert values(metrics, f"{latency}_count") == 4
    assert values(metrics, f"{latency}_sum") == pytest.approx(9033.5, abs=50)
    sizes = "inference_batch_size"
    assert values(metrics, f"{sizes}_bucket", le="1.0") == 1
    assert values(metrics, f"{sizes}_bucket", le="17.0") == 2
    assert values(metrics, f"{sizes}_bucket", le="1009.0") == 3
    assert (values(metrics, f"{sizes}_count"), values(metrics, f"{sizes}_sum")) == (4, 5036)


def test_errors_are_told_apart_by_status_and_refusals_are_not_timed(metrics: Metrics) -> None:
    for status in (200, 422, 429, 429, 504):
        metrics.count(asked(), status)

    assert values(metrics, "inference_requests_total") == 5
    assert values(metrics, "inference_errors_total") == 4
    assert values(metrics, "inference_errors_total", status="429") == 2
    assert values(metrics, "inference_latency_ms_count") == 2


def test_models_versions_endpoints_and_keys_are_told_apart(metrics: Metrics) -> None:
    metrics.count(asked(), 200)
    metrics.count(asked(version="2"), 200)
    metrics.count(asked(endpoint="v2"), 200)
    metrics.count(asked(key_id="shop"), 200)
    metrics.count(asked(key_id="shop"), 200)

    assert values(metrics, "inference_requests_total", version="1") == 4
    assert values(metrics, "inference_requests_total", endpoint="v2") == 1
    assert values(metrics, "inference_requests_total", key_id="shop") == 2
    assert values(metrics, "inference_batch_size_count", endpoint="predict", version="1") == 3


def test_names_that_nobody_serves_become_no_labels(metrics: Metrics) -> None:
    for number in range(3000):
        metrics.count(asked(model=f"guess{number}"), 404)
        metrics.count(asked(version=f"v{number}"), 404)

    assert (
        values(metrics, "inference_requests_total", model="unknown", model_name="unknown") == 3000
    )
    # The parser of the text tells of an empty label, Prometheus does not.
    assert values(metrics, "inference_requests_total", model="forest", version="") == 3000
    assert len(metrics._series) == 2


def test_combinations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MAX_SERIES", 10)
    metrics = Metrics(lambda _model, _version: True)
    for number in range(50):
        metrics.count(asked(model=f"m{number}"), 200)
    metrics.count(asked(model="m0"), 200)

    assert values(metrics, "inference_requests_total") == 51
    assert values(metrics, "inference_requests_total", model="m0") == 2
    assert values(metrics, "inference_requests_total", model="unknown") == 40


def test_what_is_counted_already_stays_apart_when_no_more_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_module, "MAX_SERIES", 1)
    metrics = Metrics(lambda _model, version: not version)
    for version in ("guess", "another"):
        metrics.count(asked(version=version), 404)

    assert values(metrics, "inference_requests_total", model="forest") == 2


def test_labels_are_escaped(metrics: Metrics) -> None:
    metrics.count(asked(key_id='a"b\\c\nd'), 200)

    assert values(metrics, "inference_requests_total", key_id='a"b\\c\nd') == 1


def test_openmetrics_is_for_those_who_ask_for_it(metrics: Metrics) -> None:
    metrics.count(asked(), 200)
    metrics.count(asked(), 500)
    metrics.watch("counter", "jobs_done", "Jobs done.", lambda: 7)

    usual = metrics.render("text/html,*/*")
    assert usual.media == b"text/plain; version=1.0.0; charset=utf-8"
    asked_for = metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert asked_for.media.startswith(b"application/openmetrics-text; version=1.0.0")
    told = {family.name: family for family in _openmetrics(asked_for.body)}
    assert told["inference_requests"].samples[0].value == 2
    assert told["jobs_done"].samples[0].name == "jobs_done_total"
    assert asked_for.body.count(b"# EOF") == 1


def _openmetrics(body: bytes) -> list[Metric]:
    return list(openmetrics_of(body.decode()))  # type: ignore[no-untyped-call]


def test_the_text_is_readable_before_the_first_request(metrics: Metrics) -> None:
    told = families(metrics)

    assert told["inference_requests"].samples == []
    assert told["gateway_build_info"].samples[0].labels.keys() == {"version", "python"}
    assert told["process_resident_memory_bytes"].samples[0].value > 1e6


def test_gauges_are_read_when_they_are_asked_for(metrics: Metrics) -> None:
    waiting = [0.0]
    metrics.watch("gauge", "gateway_waiting", "Requests that wait.", lambda: waiting[0])
    metrics.watch(
        "gauge",
        "gateway_jobs",
        "Jobs.",
        lambda: {("pending",): 3, ("running",): 1},
        labels=("status",),
    )
    waiting[0] = 5

    assert values(metrics, "gateway_waiting") == 5
    assert values(metrics, "gateway_jobs", status="pending") == 3


def test_a_gauge_that_cannot_be_read_leaves_the_others(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> float:
        raise OSError("the store is gone")

    metrics.watch("gauge", "gateway_jobs", "Jobs.", broken)
    metrics.count(asked(), 200)

    assert "gateway_jobs" not in families(metrics)
    assert values(metrics, "inference_requests_total") == 1
    assert "the store is gone" in caplog.text


def test_caches_are_told_of_and_those_switched_off_are_not(metrics: Metrics) -> None:
    cache = Cache(10, 60)
    cache.put(body_key("m", "1", b"a"), {"y": np.zeros(1)}, "1", 0)
    cache.get(body_key("m", "1", b"a"))
    cache.get(body_key("m", "1", b"b"))
    metrics.watch_caches(lambda: {"result": cache, "feature": None})

    assert values(metrics, "gateway_cache_hits_total", cache="result") == 1
    assert values(metrics, "gateway_cache_misses_total", cache="result") == 1
    assert values(metrics, "gateway_cache_capacity", cache="result") == 10
    assert values(metrics, "gateway_cache_bytes", cache="result") > 600
    assert [sample.labels for sample in families(metrics)["gateway_cache_entries"].samples] == [
        {"cache": "result"}
    ]


def test_two_gateways_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics(lambda _model, _version: True)
    metrics.count(asked(), 200)

    assert values(metrics, "inference_requests_total") == 1
    assert values(other, "inference_requests_total") == 0


def test_system_1_finds_both_its_vocabularies(metrics: Metrics) -> None:
    for milliseconds in (10, 20, 30, 40):
        metrics.count(asked(rows=16), 200, inference_seconds=milliseconds / 1e3)
    metrics.count(asked(rows=0), 500, inference_seconds=0.05)
    metrics.count(asked(), 422)
    cache = Cache(10, 60)
    cache.get(body_key("m", "1", b"a"))

    told = metrics.engine_view(
        max_batch_size=64, caches={"result": cache, "feature": None}, batcher={"waiting": 2}
    )

    assert told["avg_inference_time_ms"] == pytest.approx(30)
    assert told["p95_inference_time_ms"] == told["max_inference_time_ms"] == pytest.approx(50)
    assert (told["avg_batch_size"], told["max_batch_size"]) == (12.8, 16)
    assert told["batch_utilization"] == 0.2
    assert (told["requests_processed"], told["total_requests"]) == (5, 64)
    assert told["errors"] == told["total_errors"] == 1
    assert told["error_rate"] == 0.2
    assert told["throughput_per_second"] == told["throughput_requests_per_second"] > 0
    assert told["cache_hit_rate"] == 0.0
    assert told["result_cache"]["misses"] == 1
    assert told["feature_cache"] == {}
    assert told["dynamic_batcher"] == {"waiting": 2}
    assert told["memory_usage_mb"] > 1
    assert told["system"].keys() == {
        "cpu_percent",
        "memory_usage_mb",
        "threads_count",
        "open_files",
    }
    assert "T" in told["last_updated"]


def test_times_are_those_of_the_last_hundred_requests_and_counts_those_of_all(
    metrics: Metrics,
) -> None:
    metrics.count(asked(), 200, inference_seconds=9.0)
    for number in range(100):
        metrics.count(asked(), 200, inference_seconds=number / 1e3)

    told = metrics.engine_view(max_batch_size=1, caches={})
    assert told["max_inference_time_ms"] == pytest.approx(99)
    assert told["p95_inference_time_ms"] == pytest.approx(94)
    assert told["p99_inference_time_ms"] == pytest.approx(98)
    assert told["requests_processed"] == 101


def test_without_requests_system_1_finds_zeros(metrics: Metrics) -> None:
    told = metrics.engine_view(max_batch_size=1, caches={})

    assert told["avg_inference_time_ms"] == told["p99_inference_time_ms"] == 0.0
    assert told["throughput_per_second"] == told["error_rate"] == 0.0
    assert told["last_updated"] is None
