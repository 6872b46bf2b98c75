"""The first to see a request and the last to see its answer.

Every request gets an id, is looked at for its key, its size and the depth of its JSON, and is
counted and logged. What predicts goes from here straight to its handler; all else goes
through FastAPI. The way through FastAPI and its middleware costs as much as a prediction.
"""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError
from toolkit.gateway import guard, passing, routes_models, spans, v2_http
from toolkit.gateway.exchange import Asked, Headers, Refused, Reply
from toolkit.gateway.replies import json_reply, refused

if TYPE_CHECKING:
    from toolkit.gateway.service import Gateway

_log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[["Gateway", Asked], Awaitable[Reply]]

OPEN = frozenset(
    {"/", "/health", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc", "/ui"}
)
"""What needs no key; of models it tells nothing."""

_STATIC = frozenset({"/predict/batch", "/predict/async"})
_COMPRESSIBLE, _LARGE = 1000, 1 << 17
_GZIP_LEVEL = 3


class Front:
    """The gateway's own ASGI application around FastAPI's."""

    def __init__(self, gateway: "Gateway", inner: App) -> None:
        self._gateway = gateway
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers = dict(scope["headers"])
        gateway = self._gateway
        asked = Asked(
            scope["method"],
            scope["path"],
            headers,
            scope["query_string"],
            guard.client_address(scope, headers, trust_forwarded=gateway.settings.trust_forwarded),
            guard.request_id(headers),
        )
        span = spans.begin(asked)
        status, length = 499, 0  # as it is written of callers who leave
        try:
            status, length = await self._answered(scope, receive, send, asked)
        except guard.Disconnected:
            asked.error = "the caller left"
        finally:
            spans.end(span, asked, status, asked.error)
            gateway.seen(asked, status, length)

    async def _answered(
        self, scope: Scope, receive: Receive, send: Send, asked: Asked
    ) -> tuple[int, int]:
        """Answer; return the status and the length of the body."""
        gateway, handler = self._gateway, self._handler(asked)
        try:
            if asked.path not in OPEN and asked.method != "OPTIONS":
                gateway.authorise(asked)
            limit = gateway.settings.max_body_bytes
            asked.body = await guard.read_body(receive, limit, asked.headers)
            if asked.path.startswith(passing.V2):
                return await self._passed(receive, send, asked)
            guard.check_depth(asked.body, gateway.settings.max_json_depth)
            if handler is None:
                return await self._through(scope, send, asked)
            reply = await handler(gateway, asked)
        except (Refused, ToolkitError) as error:
            reply = refused(error)
            asked.error = str(error)
        except guard.Disconnected:
            raise
        except Exception as error:  # noqa: BLE001  told to the caller as 500, and logged
            _log.exception("request %s failed inside", asked.request_id)
            reply = refused(error)
            asked.error = repr(error)
        await _send(send, reply, asked)
        return reply.status, len(reply.body)

    async def _passed(self, receive: Receive, send: Send, asked: Asked) -> tuple[int, int]:
        """Answer by Triton, as it is."""
        reply = await passing.pass_on(self._gateway, asked, receive)
        if isinstance(reply, v2_http.Streamed):
            return reply.status, await v2_http.send_on(reply, send, receive, _common(asked))
        headers = passing.headers_of(reply, _common(asked))
        await _send_out(send, reply.status, headers, reply.body)
        return reply.status, len(reply.body)

    @staticmethod
    def _handler(asked: Asked) -> Handler | None:
        """Return who answers without FastAPI; requests of browsers need its CORS headers."""
        if asked.method != "POST" or b"origin" in asked.headers:
            return None
        path = asked.path
        if path.startswith(routes_models.PREDICT_BATCHED):
            return routes_models.predict_batched
        if path.startswith(routes_models.PREDICT) and path not in _STATIC:
            return routes_models.predict
        return None

    async def _through(self, scope: Scope, send: Send, asked: Asked) -> tuple[int, int]:
        """Answer by FastAPI, from the body that was read already."""
        told = False
        status, length = 500, 0

        async def body() -> dict[str, Any]:
            nonlocal told
            if told:
                return {"type": "http.disconnect"}
            told = True
            return {"type": "http.request", "body": asked.body, "more_body": False}

        async def counted(message: dict[str, Any]) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_common(asked)]
            else:
                length += len(message.get("body", b""))
            await send(message)

        scope["asked"] = asked
        if not _is_text(asked.body):  # FastAPI tells that with a status of its own
            fault = {"type": "json_invalid", "loc": ["body"], "msg": "the body is not UTF-8"}
            await _send(send, json_reply({"detail": [fault]}, 422), asked)
            return 422, 0
        if asked.body:
            # Every body is JSON here, whatever "curl -d" calls it.
            kept = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
            scope["headers"] = [*kept, (b"content-type", b"application/json")]
        await self._inner(scope, body, counted)
        return status, length


def _common(asked: Asked) -> Headers:
    return ((b"x-request-id", asked.request_id.encode()), *guard.SECURE_HEADERS)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, _GZIP_LEVEL)


async def _send(send: Send, reply: Reply, asked: Asked) -> None:
    body, headers = reply.body, reply.headers
    if len(body) >= _COMPRESSIBLE and b"gzip" in asked.headers.get(b"accept-encoding", b""):
        # A large one takes long enough to hold up everyone else.
        large = len(body) > _LARGE
        body = await asyncio.to_thread(_gzip, body) if large else _gzip(body)
        headers = (*headers, (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding"))
    reply = reply._replace(body=body, headers=headers)
    await _send_out(send, reply.status, passing.headers_of(reply, _common(asked)), body)


async def _send_out(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
