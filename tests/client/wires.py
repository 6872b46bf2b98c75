"""The four bare wires, and one question to any of them as if they were alike."""

import asyncio
from collections.abc import Mapping
from typing import Any

from toolkit.client.transport import NO_HEADERS, Answer, AsyncTransport, Call, Transport
from toolkit.client.wire_grpc import GrpcTransport
from toolkit.client.wire_grpc_async import AsyncGrpcTransport
from toolkit.client.wire_http import HttpTransport
from toolkit.client.wire_http_async import AsyncHttpTransport

STYLES = ("threads", "asyncio")


def wire(url: str, token: str | None = None, **options: Any) -> Transport:
    """Give the wire for threads that speaks the URL's scheme."""
    kind = GrpcTransport if url.startswith("grpc") else HttpTransport
    return kind(url, token, **options)


def async_wire(url: str, token: str | None = None, **options: Any) -> AsyncTransport:
    """Give the wire for event loops that speaks the URL's scheme."""
    kind = AsyncGrpcTransport if url.startswith("grpc") else AsyncHttpTransport
    return kind(url, token, **options)


def ask(
    style: str,
    url: str,
    call: Call[Answer],
    timeout: float = 10.0,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Answer:
    """Send ``call`` once, over a wire of its own."""
    if style == "asyncio":
        return asyncio.run(_ask(url, call, timeout, headers))
    threads = wire(url)
    try:
        return threads.send(call, timeout, headers)
    finally:
        threads.close()


async def _ask(url: str, call: Call[Answer], timeout: float, headers: Mapping[str, str]) -> Answer:
    tasks = async_wire(url)
    try:
        return await tasks.send(call, timeout, headers)
    finally:
        await tasks.close()
