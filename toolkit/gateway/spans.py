"""A span for each request, between the caller's and Triton's, where the program records any.

A program records spans if it set OpenTelemetry's tracer provider before: run under
``opentelemetry-instrument``, or by its own code. Nothing of it is imported here otherwise.
"""

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.client import telemetry
from toolkit.gateway.exchange import Asked, Headers

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

_SERVERS_FAULT = 500


class Served(NamedTuple):
    """A span that is the current one, and what was current before."""

    span: "Span"
    before: "Token[Context]"


def begin(asked: Asked) -> Served | None:
    """Begin the span of a request and make it the current one; None where nobody records any.

    It belongs to the trace of the request's ``traceparent`` (or whatever else the program
    reads), and calls to Triton made in this task or in tasks it starts belong to it.
    """
    provider = telemetry.recording()
    if provider is None:
        return None
    from opentelemetry import context, propagate, trace

    told = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in asked.headers.items()
    }
    callers = propagate.extract(told)
    span = provider.get_tracer("toolkit.gateway").start_span(
        asked.method, context=callers, kind=trace.SpanKind.SERVER
    )
    return Served(span, context.attach(trace.set_span_in_context(span, callers)))


def headers() -> Headers:
    """Return what tells a server of the current span; nothing where there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not trace.get_current_span().get_span_context().is_valid:
        return ()
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((name.lower().encode(), value.encode()) for name, value in carrier.items())


def end(served: Served | None, asked: Asked, status: int, error: str = "") -> None:
    """End the span in the task that began it, with what became known of the request."""
    if served is None:
        return
    from opentelemetry import context
    from opentelemetry.trace import Status, StatusCode

    context.detach(served.before)
    span = served.span
    if span.is_recording():
        if asked.endpoint:
            span.update_name(f"{asked.method} {asked.endpoint}")
        span.set_attributes(_attributes(asked, status))
        if status >= _SERVERS_FAULT:
            span.set_status(Status(StatusCode.ERROR, error or None))
    span.end()


def _attributes(asked: Asked, status: int) -> dict[str, Any]:
    """Name things as OpenTelemetry's semantic conventions (1.38) do, and as the client does."""
    agent = asked.headers.get(b"user-agent", b"").decode("latin-1")
    said: dict[str, Any] = {
        "http.request.method": asked.method,
        "url.path": asked.path,
        "http.response.status_code": status,
        "client.address": asked.client,
        "user_agent.original": agent,
        "triton.request.id": asked.request_id,
        "triton.model.name": asked.model,
        "triton.model.version": asked.version,
        "triton.rows": asked.rows,
        "gateway.endpoint": asked.endpoint,
        "gateway.key.id": asked.key_id,
        "error.type": str(status) if status >= _SERVERS_FAULT else "",
    }
    return {name: value for name, value in said.items() if value}
