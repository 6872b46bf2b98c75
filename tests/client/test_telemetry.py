"""Spans where a program records them, nothing where it does not, and counters."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags
from opentelemetry.util._once import Once

from toolkit.client import Client, telemetry
from toolkit.client.records import OPERATIONS, RequestRecord
from toolkit.client.telemetry import Counters
from toolkit.errors import DeadlineExceededError, UnavailableError, UnknownModelError

HTTP = "http://localhost:8000"
SUCCESS = RequestRecord(
    request_id="a-1",
    operation="infer",
    protocol="http",
    url=HTTP,
    attempts=2,
    duration=0.004,
    outcome="ok",
    model="echo",
    version="3",
    rows=5,
)


@pytest.fixture
def _no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what other tests or the environment set; the API lets it be set only once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture
def spans(_no_provider: None) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


def test_a_call_is_a_child_of_the_callers_span_and_names_itself_to_the_server(
    spans: InMemorySpanExporter,
) -> None:
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        span = telemetry.start("infer", "echo", HTTP)
        headers = telemetry.headers(span)
        telemetry.end(span, SUCCESS)

    call, parent = spans.get_finished_spans()
    assert parent.context is not None
    assert call.context is not None
    assert call.parent is not None
    assert call.parent.span_id == parent.context.span_id == caller.get_span_context().span_id
    _, trace_id, span_id, flags = headers["traceparent"].split("-")
    assert (trace_id, span_id) == (f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}")
    assert int(flags, 16) & TraceFlags.SAMPLED
    assert (call.name, call.kind) == ("infer echo", SpanKind.CLIENT)
    assert call.status.status_code is StatusCode.UNSET
    assert dict(call.attributes or {}) == {
        "server.address": "localhost",
        "server.port": 8000,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "triton.model.name": "echo",
        "triton.model.version": "3",
        "triton.request.id": "a-1",
        "triton.attempts": 2,
        "triton.rows": 5,
    }


def test_a_failure_is_an_error_and_each_attempt_before_it_an_event(
    spans: InMemorySpanExporter,
) -> None:
    url = "grpc://localhost:8001"
    error = DeadlineExceededError("no answer", status="DEADLINE_EXCEEDED")
    span = telemetry.start("infer", "echo", url)
    telemetry.attempt_failed(span, 1, url, UnavailableError("busy", status="UNAVAILABLE"))
    telemetry.end(
        span, replace(SUCCESS, protocol="grpc", url=url, outcome="TIMEOUT", error=error, rows=None)
    )

    (call,) = spans.get_finished_spans()
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description == "no answer"
    attributes = dict(call.attributes or {})
    assert attributes["rpc.system.name"] == "grpc"
    assert attributes["rpc.method"] == "inference.GRPCInferenceService/ModelInfer"
    assert attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert attributes["error.type"] == "DeadlineExceededError"
    assert "triton.rows" not in attributes
    (event,) = call.events
    assert event.name == "attempt failed"
    assert dict(event.attributes or {}) == {
        "attempt": 1,
        "error.type": "UnavailableError",
        "server.address": "localhost",
        "server.port": 8001,
        "rpc.response.status_code": "UNAVAILABLE",
    }


def test_a_client_records_its_calls(spans: InMemorySpanExporter, url: str) -> None:
    with Client(url) as client, trace.get_tracer("test").start_as_current_span("caller") as caller:
        client.predict("echo", [[1, 2, 3, 4]])
        with pytest.raises(UnknownModelError):
            client.predict("nobody", [[1]])

    told = {span.name: span for span in spans.get_finished_spans()}
    assert told["infer echo"].parent == caller.get_span_context()
    assert told["metadata nobody"].status.status_code is StatusCode.ERROR


@pytest.mark.usefixtures("_no_provider")
def test_a_trace_that_is_not_sampled_is_passed_on_as_such() -> None:
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        span = telemetry.start("infer", "echo", HTTP)
        _, trace_id, _, flags = telemetry.headers(span)["traceparent"].split("-")
        telemetry.attempt_failed(span, 1, HTTP, UnavailableError("busy"))
        telemetry.end(span, SUCCESS)

    assert trace_id == f"{caller.get_span_context().trace_id:032x}"
    assert not int(flags, 16) & TraceFlags.SAMPLED


@pytest.mark.usefixtures("_no_provider")
def test_without_a_provider_there_is_no_span() -> None:
    span = telemetry.start("infer", "echo", HTTP)

    assert span is None
    assert telemetry.headers(span) == {}
    telemetry.attempt_failed(span, 1, HTTP, UnavailableError("busy"))
    telemetry.end(span, SUCCESS)


HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
from toolkit.client import telemetry
span = telemetry.start("infer", "echo", "http://localhost")
assert span is None and telemetry.headers(span) == {}
telemetry.end(span, None)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


def test_where_opentelemetry_is_missing_nothing_of_it_is_imported() -> None:
    subprocess.run([sys.executable, "-c", HIDDEN], check=True, timeout=60)


def test_every_operation_has_its_grpc_method() -> None:
    assert set(OPERATIONS.values()) <= set(telemetry._METHODS)


def test_counters_count_by_model_and_outcome() -> None:
    counters = Counters()
    error = DeadlineExceededError("no answer")
    for record in (
        SUCCESS,
        replace(SUCCESS, duration=0.001),
        replace(SUCCESS, duration=99.0, outcome="TIMEOUT", error=error),
        replace(SUCCESS, operation="live", model=None, rows=None, attempts=1),
    ):
        counters(record)

    counts = counters.counts()
    assert counts.calls == {("echo", "ok"): 2, ("echo", "TIMEOUT"): 1, ("", "ok"): 1}
    assert counts.attempts == {"echo": 6, "": 1}
    assert counts.rows == {"echo": 15, "": 0}
    assert counts.seconds == pytest.approx({"echo": 99.005, "": 0.004})
    assert counts.durations["echo"][:4] == (1, 1, 2, 2)
    assert counts.durations["echo"][-2:] == (2, 3)


def test_threads_share_counters() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(2000):
            counters(SUCCESS)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)

    assert counters.counts().calls == {("echo", "ok"): 16000}
    assert counters.counts().seconds == pytest.approx({"echo": 16000 * 0.004})
