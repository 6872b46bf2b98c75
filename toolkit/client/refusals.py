"""What Triton means when it refuses: its codes alone do not tell (seen in 2.51).

An unknown model is 404, 400 or 500 by the API that is asked; a missing token is 403 over
HTTP and UNAVAILABLE over gRPC; a request that waited too long is UNAVAILABLE; a model whose
process died is 500. The text is the same on both wires, so it decides where the code does
not.
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

_DEAD_PROCESS = "is not healthy"

_MEANINGS: tuple[tuple[str, type[RequestError]], ...] = (
    ("is restricted, expecting header", PermissionDeniedError),
    ("unknown model", UnknownModelError),
    ("requested model", UnknownModelError),
    ("failed to poll from model repository", UnknownModelError),
    ("failed to get model version", UnknownModelError),
    ("load failed for model", ServerError),
    ("timeout expired", DeadlineExceededError),
    (_DEAD_PROCESS, UnavailableError),
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


def refusal(
    message: str,
    default: type[RequestError],
    *,
    status: int | str,
    retry_after: float | None = None,
) -> RequestError:
    """Return the error for Triton's ``message``; ``default`` is what its code says."""
    line = " ".join(_REQUEST_ID.sub("", message).split())
    lowered = line.lower()
    kind = next((kind for text, kind in _MEANINGS if text in lowered), default)
    # Triton 2.51 starts no new process, calls the model ready, and takes a bare load for done.
    hint = (
        "the model's process died: unload and load the model, and see why: toolkit logs"
        if _DEAD_PROCESS in lowered
        else _HINTS.get(kind)
    )
    reason = line or "refused without a reason"
    return kind(reason, hint=hint, status=status, retry_after=retry_after)


def too_late(timeout: float) -> DeadlineExceededError:
    """Return the error for an answer that did not come within ``timeout`` seconds."""
    return DeadlineExceededError(
        f"no answer within {timeout:.3g} s", hint=_HINTS[DeadlineExceededError]
    )
