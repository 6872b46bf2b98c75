"""Answers and refusals as bytes: the one place where errors become HTTP's numbers."""

from collections.abc import Mapping
from typing import Any

import orjson

from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    RequestError,
    ToolkitError,
    UnavailableError,
    UnknownModelError,
)
from toolkit.gateway.exchange import Headers, Refused, Reply

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

STATUSES: Mapping[type[ToolkitError], int] = {
    InvalidInputError: 422,
    UnknownModelError: 404,
    PermissionDeniedError: 502,
    UnavailableError: 503,
    ConnectionFailedError: 503,
    DeadlineExceededError: 504,
}
"""What a failed call to Triton is for the caller of the gateway; all else is 500.

Triton's refusal of the gateway's own token is no fault of the caller, so not 403.
"""

_RETRY_SECONDS = 1


def json_reply(content: Any, status: int = 200, headers: Headers = ()) -> Reply:
    """Return ``content`` as JSON; numpy arrays are written as they are, NaN as ``null``."""
    return Reply(status, orjson.dumps(content, option=_OPTIONS), headers=headers)


def refused(error: Exception) -> Reply:
    """Return what a caller is told of ``error``: ``{"detail": …}`` and a status."""
    if isinstance(error, Refused):
        return json_reply({"detail": error.detail}, error.status, error.headers)
    if isinstance(error, ToolkitError):
        status = status_of(error)
        headers: Headers = ()
        if status == 503:  # noqa: PLR2004  Service Unavailable
            retry = error.retry_after if isinstance(error, RequestError) else None
            headers = ((b"retry-after", b"%d" % max(1, round(retry or _RETRY_SECONDS))),)
        return json_reply({"detail": told(error)}, status, headers)
    return json_reply({"detail": "the gateway failed inside; its log says why"}, 500)


def status_of(error: ToolkitError) -> int:
    """Return the HTTP status for ``error``."""
    return next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 500)


def told(error: ToolkitError) -> str:
    """Return the error as one line: what happened, and what to do."""
    return f"{error.message} ({error.hint})" if error.hint else error.message
