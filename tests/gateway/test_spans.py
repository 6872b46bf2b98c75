"""A request's span stands between its caller's and Triton's; without OpenTelemetry, nothing."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util._once import Once

from toolkit.client import telemetry
from toolkit.gateway import spans
from toolkit.gateway.exchange import Asked
from toolkit.gateway.keys import Key

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def _no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what other tests or the environment set; the API lets it be set only once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture
def finished(_no_provider: None) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


def asked(sampled: str = "01") -> Asked:
    return Asked(
        "POST",
        "/predict/forest",
        {b"traceparent": f"00-{TRACE}-{CALLER}-{sampled}".encode(), b"user-agent": b"curl"},
        client="10.0.0.7",
        request_id="r-1",
        endpoint="predict",
        model="forest",
        version="2",
        key=Key("shop"),
        rows=3,
    )


def number(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def test_a_span_joins_the_callers_trace_and_tells_of_the_request(
    finished: InMemorySpanExporter,
) -> None:
    request = asked()
    spans.end(spans.begin(request), request, 200)

    (span,) = finished.get_finished_spans()
    assert (span.name, span.kind) == ("POST predict", SpanKind.SERVER)
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == CALLER
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "url.path": "/predict/forest",
        "http.response.status_code": 200,
        "client.address": "10.0.0.7",
        "user_agent.original": "curl",
        "triton.request.id": "r-1",
        "triton.model.name": "forest",
        "triton.model.version": "2",
        "triton.rows": 3,
        "gateway.endpoint": "predict",
        "gateway.key.id": "shop",
    }


def test_the_call_to_triton_is_its_child_also_from_a_task(finished: InMemorySpanExporter) -> None:
    async def call() -> dict[str, str]:
        span = telemetry.start("infer", "forest", "http://localhost:8000")
        told = dict(telemetry.headers(span))
        assert span is not None
        span.end()
        return told

    async def steps() -> dict[str, str]:
        request = asked()
        served = spans.begin(request)
        told = await asyncio.create_task(call())
        spans.end(served, request, 200)
        return told

    told = asyncio.run(steps())
    infer, request = finished.get_finished_spans()
    assert infer.parent is not None
    assert f"{infer.parent.span_id:016x}" == number(request)
    assert told["traceparent"] == f"00-{TRACE}-{number(infer)}-01"


def test_what_is_passed_through_takes_the_span_along(finished: InMemorySpanExporter) -> None:
    request = asked()
    served = spans.begin(request)
    told = dict(spans.headers())
    spans.end(served, request, 200)

    (span,) = finished.get_finished_spans()
    assert told[b"traceparent"].decode() == f"00-{TRACE}-{number(span)}-01"
    assert spans.headers() == ()


def test_requests_at_once_do_not_mix(finished: InMemorySpanExporter) -> None:
    async def one() -> tuple[bytes, str]:
        request = asked()
        served = spans.begin(request)
        assert served is not None
        await asyncio.sleep(0)
        told = dict(spans.headers())[b"traceparent"]
        spans.end(served, request, 200)
        return told, f"{served.span.get_span_context().span_id:016x}"

    async def steps() -> None:
        for told, own in await asyncio.gather(*(one() for _ in range(5))):
            assert own in told.decode()

    asyncio.run(steps())
    assert len({number(span) for span in finished.get_finished_spans()}) == 5


@pytest.mark.parametrize(("status", "is_error"), [(422, False), (503, True)])
def test_only_faults_of_the_server_are_errors(
    finished: InMemorySpanExporter, status: int, is_error: bool
) -> None:
    request = asked()
    spans.end(spans.begin(request), request, status, "Triton is gone")

    (span,) = finished.get_finished_spans()
    assert (span.status.status_code is StatusCode.ERROR) == is_error
    assert (span.status.description == "Triton is gone") == is_error
    assert ("error.type" in (span.attributes or {})) == is_error


def test_a_trace_that_is_not_sampled_is_handed_on_as_such(finished: InMemorySpanExporter) -> None:
    request = asked(sampled="00")
    served = spans.begin(request)
    told = dict(spans.headers())[b"traceparent"].decode()
    spans.end(served, request, 200)

    assert told.startswith(f"00-{TRACE}-")
    assert told.endswith("-00")
    assert finished.get_finished_spans() == ()


@pytest.mark.parametrize("parent", [b"", b"nonsense", b"00-" + b"0" * 32 + b"-1-01", b"\xff"])
def test_a_traceparent_that_is_none_begins_a_trace(
    finished: InMemorySpanExporter, parent: bytes
) -> None:
    request = Asked("GET", "/health", {b"traceparent": parent})
    spans.end(spans.begin(request), request, 200)

    (span,) = finished.get_finished_spans()
    assert (span.name, span.parent) == ("GET", None)


@pytest.mark.usefixtures("_no_provider")
def test_without_a_provider_there_is_no_span() -> None:
    request = asked()
    served = spans.begin(request)

    assert served is None
    assert spans.headers() == ()
    spans.end(served, request, 200)


HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
from toolkit.gateway import spans
from toolkit.gateway.exchange import Asked
asked = Asked("GET", "/", {})
assert spans.begin(asked) is None and spans.headers() == ()
spans.end(None, asked, 200)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


def test_where_opentelemetry_is_missing_nothing_of_it_is_imported() -> None:
    subprocess.run([sys.executable, "-c", HIDDEN], check=True, timeout=60)
