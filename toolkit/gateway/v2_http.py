"""The V2 protocol over HTTP: requests to ``/v2/...`` passed on to Triton as they are."""

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

from toolkit.client.addresses import parse
from toolkit.client.transport import TOKEN_HEADER
from toolkit.errors import ConfigError, ConnectionFailedError, DeadlineExceededError
from toolkit.gateway.exchange import Asked, Headers, Refused, Reply
from toolkit.gateway.hop import Hop
from toolkit.gateway.hop_connection import HopStream
from toolkit.gateway.v2_bodies import check_body

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
"""ASGI's, after the body was read: what it says next is that the caller has hung up."""

Send = Callable[[dict[str, Any]], Awaitable[None]]

RETRY: Headers = ((b"retry-after", b"1"),)
HUNG_UP = 499
"""Status, for logs alone, of what was given up because the caller had gone (nginx's number)."""

# Of one connection, not of the message (RFC 9110, 7.6.1); framing is done anew on each.
_OF_A_CONNECTION = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_STOPPED = _OF_A_CONNECTION | {b"authorization", b"x-api-key", b"x-request-id"}
_TOKEN = TOKEN_HEADER.encode()
_AS_IT_IS = "/!$&'()*+,;=:@-._~"  # of a path (RFC 3986, 3.3); Triton 2.51 decodes nothing
_LOOK_AFTER_SECONDS = 0.05
_LONG = 1 << 20  # bytes of a body that is looked through beside the event loop

_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/.*)?", re.DOTALL)
_LOADED = re.compile(r"/v2/repository/(?:[^/]+/)?models/([^/]+)/.*", re.DOTALL)
_SETTINGS = re.compile(r"/v2/(?:models/.*/)?(?:logging|trace/setting)/*", re.DOTALL)
_ALL_STATISTICS = "/v2/models/stats"
_READING = ("GET", "HEAD")


def model_of(path: str) -> tuple[str, str] | None:
    """Return the model and the version ("" for none) that a decoded ``path`` is about."""
    if path == _ALL_STATISTICS:
        return None
    found = _MODEL.fullmatch(path)
    if found:
        return found[1], found[2] or ""
    loaded = _LOADED.fullmatch(path)
    return (loaded[1], "") if loaded else None


@lru_cache(maxsize=1024)
def is_control(method: str, path: str) -> bool:
    """Return whether a request changes how Triton serves, or registers memory with it."""
    if path.startswith("/v2/repository"):
        return not path.endswith("/index")
    if path.startswith(("/v2/systemsharedmemory", "/v2/cudasharedmemory")):
        return True
    return method not in _READING and _SETTINGS.fullmatch(path) is not None


def check_token(given: str | None, token: str | None, header: str = TOKEN_HEADER) -> None:
    """Raise ``Refused`` (403) unless ``given`` is Triton's ``token``; both may be missing."""
    if token is None:
        raise Refused(403, "Triton's controls are closed here: the gateway knows no TRITON_TOKEN")
    if given is None or not hmac.compare_digest(given.encode("latin-1"), token.encode()):
        raise Refused(403, f"This needs Triton's own token in the header {header}")


class Streamed:
    """A reply whose body comes in pieces: ``async for piece in pieces``; close it in the end.

    Iterating raises ``ConnectionFailedError`` or ``DeadlineExceededError`` if it breaks off.
    """

    def __init__(self, status: int, media: bytes, headers: Headers, pieces: HopStream) -> None:
        self.status = status
        self.media = media
        self.headers = headers
        self._pieces = pieces

    @property
    def pieces(self) -> AsyncIterator[bytes]:
        """The pieces of the body, as they arrive."""
        return aiter(self._pieces)

    def close(self) -> None:
        """End it; if more was to come, Triton is told by a closed connection."""
        self._pieces.close()


class V2Http:
    """Passes requests on to the Triton at ``url``, for one event loop.

    ``token`` gives Triton's own token, as it is now: with it callers may use the controls.
    It is compared and never sent; Triton gets what the caller sent. JSON deeper than
    ``max_depth`` ends here, as does a compressed body of over ``largest_bytes``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Callable[[], str | None] = lambda: None,
        connections: int = 256,
        max_depth: int = 64,
        largest_bytes: int = 64 << 20,
    ) -> None:
        address = parse(url)
        if address.protocol != "http" or address.resolved:
            raise ConfigError(
                f"{url!r} is not the URL of Triton's HTTP port", hint="http://localhost:8000"
            )
        tls = None
        if address.scheme == "https":
            import ssl

            tls = ssl.create_default_context()
        self._prefix = address.path.encode()
        self._token = token
        self._max_depth = max_depth
        self._largest_bytes = largest_bytes
        self._hop = Hop(address.host, address.port, tls=tls, connections=connections)

    async def pass_on(
        self,
        asked: Asked,
        deadline_seconds: float,
        *,
        receive: Receive | None = None,
        added: Headers = (),
    ) -> Reply | Streamed:
        """Return Triton's answer to ``asked``, whatever its status, byte for byte.

        The caller's keys are left out and ``added`` headers (``traceparent``, …) put in, with
        names in lower case. ``deadline_seconds`` is for all of an answer, and for each piece
        of a streamed one. With ``receive`` the request is given up when the caller hangs up.

        Raises ``Refused``: what ``check_body`` says of the body, 403 controls without
        Triton's token, 503 no Triton, 504 no answer in time, 499 the caller hung up.
        """
        if is_control(asked.method, asked.path):
            given = asked.headers.get(_TOKEN)
            check_token(given.decode("latin-1") if given else None, self._token())
        if asked.body:
            bounds = self._max_depth, self._largest_bytes
            check = partial(check_body, asked.path, asked.headers, asked.body, *bounds)
            if len(asked.body) > _LONG:
                await asyncio.to_thread(check)
            else:
                check()
        try:
            if receive is None:
                return await self._answer(asked, deadline_seconds, added)
            with _Watch(receive):
                return await self._answer(asked, deadline_seconds, added)
        except ConnectionFailedError as error:
            raise Refused(503, f"Triton cannot be reached: {error.message}", RETRY) from error
        except DeadlineExceededError as error:
            text = f"Triton gave no answer within {deadline_seconds:.3g} seconds"
            raise Refused(504, text) from error

    async def _answer(self, asked: Asked, seconds: float, added: Headers) -> Reply | Streamed:
        method = asked.method.encode("ascii")
        target = self._prefix + _target(asked.path)
        if asked.query:
            target += b"?" + asked.query
        headers = _passed(asked, added)
        if asked.path.endswith("/generate_stream"):
            stream = await self._hop.stream(method, target, headers, asked.body, seconds)
            return await _streamed(stream)
        answer = await self._hop.ask(method, target, headers, asked.body, seconds)
        kept, media = _returned(answer.headers)
        return Reply(answer.status, answer.body, media, kept)

    async def close(self) -> None:
        """Close the connections; requests under way fail."""
        await self._hop.close()


async def send_on(
    streamed: Streamed, send: Send, receive: Receive | None, headers: Headers = ()
) -> int:
    """Give the caller a streamed reply as ASGI messages, and return how many bytes it had.

    ``headers`` go beside the reply's own. If the caller hangs up, raises ``Refused`` (499).
    If Triton breaks off, raises its error after the beginning was sent: let it through, so
    that the server ends the connection and the caller sees that something is missing.
    """
    length = 0
    try:
        with _Watch(receive) if receive is not None else nullcontext():
            start = [(b"content-type", streamed.media), *streamed.headers, *headers]
            await send({"type": "http.response.start", "status": streamed.status, "headers": start})
            async for piece in streamed.pieces:
                length += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    finally:
        streamed.close()
    return length


class _Watch:
    """Ends what its task waits for once the caller has gone.

    Nobody looks for a caller during the first 50 ms, so that short requests pay for no task.
    """

    def __init__(self, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self._receive = receive
        self._left = False
        self._looking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = asyncio.current_task(loop)
        self._timer = loop.call_later(_LOOK_AFTER_SECONDS, self._begin)

    def __enter__(self) -> None:
        """Look from now on."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if not self._left or self._task is None:
            return
        if self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise Refused(HUNG_UP, "The caller hung up") from error

    def _begin(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self._left = True
            self._task.cancel()


class _Returned(NamedTuple):
    headers: Headers
    media: bytes


async def _streamed(stream: HopStream) -> Reply | Streamed:
    """Return events as a stream; an error that came instead is whole at once."""
    headers, media = _returned(stream.headers)
    if media.startswith(b"text/event-stream"):
        return Streamed(stream.status, media, headers, stream)
    try:
        return Reply(stream.status, await stream.read(), media, headers)
    finally:
        stream.close()


@lru_cache(maxsize=1024)
def _target(path: str) -> bytes:
    """Return the path as it stands in a request line; what was decoded is written anew.

    So Triton reads the very path that the gateway has judged.
    """
    return quote(path, safe=_AS_IT_IS).encode("ascii")


def _passed(asked: Asked, added: Headers) -> list[tuple[bytes, bytes]]:
    """Return what of the caller's headers is for Triton."""
    stopped = _stopped(asked.headers)
    if added:
        stopped |= {name for name, _ in added}
    kept = [pair for pair in asked.headers.items() if pair[0] not in stopped]
    if asked.request_id:
        kept.append((b"x-request-id", asked.request_id.encode("ascii", "replace")))
    kept.extend(added)
    return kept


def _stopped(headers: Mapping[bytes, bytes]) -> frozenset[bytes]:
    """Return the names of headers that end here, those that ``Connection`` names among them."""
    named = headers.get(b"connection")
    if named is None or named.lower() in {b"keep-alive", b"close"}:
        return _STOPPED
    return _STOPPED | {name.strip().lower() for name in named.split(b",")}


def _returned(headers: list[tuple[bytes, bytes]]) -> _Returned:
    """Return what of Triton's headers is for the caller, the content type apart."""
    media = b""
    kept = []
    for pair in headers:
        if pair[0] == b"content-type":
            media = pair[1]
        elif pair[0] not in _OF_A_CONNECTION:
            kept.append(pair)
    return _Returned(tuple(kept), media)
