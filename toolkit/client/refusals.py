"""What Triton means when it refuses: its codes alone do not tell (seen in 2.51).

An unknown model is 404, 400 or 500 by the API that is asked; a missing token is 403 over
HTTP and UNAVAILABLE over gRPC; a request that waited too long is UNAVAILABLE. The text is
the same on both wires, so it decides where the code does not.
"""

import re

from toolkit.errors import (
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    RequestError,
    ServerError,
    UnavailableError,
    UnknownModelError,
)

_MEANINGS: tuple[tuple[str, type[RequestError]], ...] = (
    ("is restricted, expecting header", PermissionDeniedError),
    ("unknown model", UnknownModelError),
    ("requested model", UnknownModelError),
    ("failed to poll from model repository", UnknownModelError),
    ("failed to get model version", UnknownModelError),
    ("load failed for model", ServerError),
    ("timeout expired", DeadlineExceededError),
    ("not ready", UnavailableError),
    ("larger than max", InvalidInputError),
    ("serializing request", InvalidInputError),
    ("unable to parse", InvalidInputError),
)

_HINTS: dict[type[RequestError], str] = {
    PermissionDeniedError: "give the token that the server was started with: Client(url, token=…)",
    UnknownModelError: "see what is served: toolkit status",
    ServerError: "see the server's log: toolkit logs",
    UnavailableError: "wait until it is ready, then try again: toolkit status",
    DeadlineExceededError: "allow more seconds: timeout=…",
}

_REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")


def refusal(message: str, default: type[RequestError]) -> RequestError:
    """Return the error for Triton's ``message``; ``default`` is what its code says."""
    line = " ".join(_REQUEST_ID.sub("", message).split())
    lowered = line.lower()
    kind = next((kind for text, kind in _MEANINGS if text in lowered), default)
    return kind(line or "refused without a reason", hint=_HINTS.get(kind))
