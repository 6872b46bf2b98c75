"""What a hook gets to know of a call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from toolkit.errors import Kind, RequestError


@dataclass(frozen=True, slots=True, eq=False)
class RequestRecord:
    """One finished call, however many attempts it took.

    ``operation`` is ``infer``, ``load``, ``metadata`` and so on. ``duration`` is in
    seconds, waiting and retries included; ``queue_seconds`` and ``compute_seconds`` are
    the server's own, None where it does not tell. ``url`` and ``version`` are those that
    answered. ``inputs`` and ``outputs`` belong to the caller: a hook neither keeps nor
    changes them.
    """

    request_id: str
    operation: str
    protocol: Literal["http", "grpc"]
    url: str
    attempts: int
    duration: float
    outcome: Literal["ok"] | Kind
    model: str | None = None
    version: str | None = None
    rows: int | None = None
    error: RequestError | None = None
    inputs: Mapping[str, NDArray[Any]] | None = None
    outputs: Mapping[str, NDArray[Any]] | None = None
    queue_seconds: float | None = None
    compute_seconds: float | None = None


Hook = Callable[[RequestRecord], None]
"""Called after each call; one that raises is logged once and breaks nothing."""
