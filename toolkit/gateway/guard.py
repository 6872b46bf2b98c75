"""What every request passes before anyone looks at what it wants; pure functions."""

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from toolkit.gateway.exchange import Headers, Refused

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

SECURE_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""Of every answer."""

_CLOSE: Headers = ((b"connection", b"close"),)
_MOST_CHARACTERS = 128
_MOST_DIGITS = 18
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

_BRACKETS = b"[]{}"
_PLAIN = bytes(set(range(256)) - set(_BRACKETS + b'"'))
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")
_CHUNK = 1 << 18


class Disconnected(Exception):  # noqa: N818  a caller may leave
    """The caller left before all was said: there is nobody to answer."""


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the caller's ``X-Request-ID`` if it is 1 to 128 printable ASCII characters.

    Otherwise 32 random hexadecimal digits.
    """
    given = headers.get(b"x-request-id")
    return (given and _clean(given)) or os.urandom(16).hex()


def client_address(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], *, trust_forwarded: bool = True
) -> str:
    """Return who asks: the first of ``X-Forwarded-For``, else ``X-Real-IP``, else the peer.

    With ``trust_forwarded`` any caller can choose its own name, unless a proxy in front sets
    these headers itself. Empty where there is no peer (a local socket).
    """
    if trust_forwarded:
        forwarded = headers.get(b"x-forwarded-for")
        if forwarded and (name := _clean(forwarded.partition(b",")[0].strip())):
            return name
        real = headers.get(b"x-real-ip")
        if real and (name := _clean(real.strip())):
            return name
    peer = scope.get("client")
    return str(peer[0]) if peer else ""


async def read_body(
    receive: Receive,
    limit: int,
    headers: Mapping[bytes, bytes],
    *,
    timeout_seconds: float = 60.0,
) -> bytes:
    """Return the whole body of a request; never more than ``limit`` bytes are held.

    ``Refused`` with 413 for a longer one (before anything is read where ``Content-Length``
    says so), with 408 where it is not there after ``timeout_seconds``; both close the
    connection, for the rest of the body is not worth reading. ``Disconnected`` if the caller
    leaves.
    """
    declared = headers.get(b"content-length")
    if declared is not None:
        _check_declared(declared, limit)
    # A small body is here already. The first step is made by hand, so that only those who
    # really wait pay for a timer (several microseconds).
    steps = receive().__await__()
    try:
        waited = next(steps)
    except StopIteration as done:
        first: Message = done.value
        if first["type"] == "http.request" and not first.get("more_body"):
            body: bytes = first.get("body", b"")
            if len(body) > limit:
                raise _too_large(limit) from None
            return body
        rest: Awaitable[Message] = asyncio.sleep(0, first)
    else:
        rest = _Begun(steps, waited)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _gathered(rest, receive, limit)
    except TimeoutError:
        text = f"The body did not arrive within {timeout_seconds:g} seconds"
        raise Refused(408, text, _CLOSE) from None


def check_depth(body: bytes, limit: int) -> None:
    """Raise ``Refused`` with 422 if JSON is nested deeper than ``limit``.

    Brackets in strings do not count. What is no JSON may be judged wrongly; its parser says so.
    """
    if b"\\" in body:
        # First pairs of backslashes, so that what is left before a quote escapes it.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side change nothing for the others, so names and plain texts go.
    marks = body.translate(None, _PLAIN).replace(b'""', b"")
    if len(marks) > limit and _deeper(marks, limit):
        raise Refused(422, f"The JSON is nested deeper than {limit} levels")


def page_headers(page: bytes) -> Headers:
    """Return the headers for a page of our own, which runs no script but those written in it.

    Scripts stand in ``<script>`` without attributes and are allowed by their SHA-256. The
    page talks to this server only, and cannot be framed.
    """
    hashes = b"".join(
        b" 'sha256-%s'" % base64.b64encode(hashlib.sha256(script).digest())
        for script in _SCRIPT.findall(page)
    )
    policy = (
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src"
    )
    return ((b"content-security-policy", policy + (hashes or b" 'none'")),)


def _clean(given: bytes) -> str:
    """Return a header's value as text, empty if it could not stand in a log as it is."""
    if len(given) > _MOST_CHARACTERS or not given.isascii():
        return ""
    text = given.decode("ascii")
    return text if text.isprintable() else ""


def _check_declared(declared: bytes, limit: int) -> None:
    if not declared.isdigit():
        raise Refused(400, "Content-Length is not a number", _CLOSE)
    if len(declared) > _MOST_DIGITS or int(declared) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"The body is larger than {limit} bytes", _CLOSE)


async def _gathered(message: Awaitable[Message], receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    length = 0
    while True:
        part = await message
        if part["type"] != "http.request":
            raise Disconnected
        body = part.get("body", b"")
        length += len(body)
        if length > limit:
            raise _too_large(limit)
        parts.append(body)
        if not part.get("more_body"):
            return b"".join(parts)
        message = receive()


class _Begun:
    """What is left of an awaitable after its first step, which waits for ``waited``."""

    def __init__(self, steps: Generator[Any, Any, Message], waited: Any) -> None:
        self._steps = steps
        self._waited = waited

    def __await__(self) -> Generator[Any, Any, Message]:
        waited = self._waited
        while True:
            thrown: BaseException | None = None
            sent = None
            try:
                sent = yield waited
            except BaseException as error:  # noqa: BLE001  cancelling is for the awaitable to see
                thrown = error
            try:
                waited = self._steps.throw(thrown) if thrown else self._steps.send(sent)
            except StopIteration as done:
                message: Message = done.value
                return message


def _deeper(marks: bytes, limit: int) -> bool:
    import numpy as np

    depth, inside = 0, 0
    for start in range(0, len(marks), _CHUNK):  # in pieces, for a body of nothing but quotes
        parts = marks[start : start + _CHUNK].split(b'"')
        steps = b"".join(parts[inside::2]).translate(_STEPS)
        inside ^= (len(parts) - 1) & 1
        if steps:
            depths = np.cumsum(np.frombuffer(steps, np.int8), dtype=np.int32)
            if depth + int(depths.max()) > limit:
                return True
            depth += int(depths[-1])
    return False
