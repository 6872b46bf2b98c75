"""What a hook gets to know of a call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from toolkit.client import shared_memory_calls, transport
from toolkit.errors import Kind, RequestError

OPERATIONS: Mapping[type[transport.Call[Any]], str] = {
    transport.InferRequest: "infer",
    transport.IsServerLive: "live",
    transport.IsServerReady: "ready",
    transport.IsModelReady: "model_ready",
    transport.GetServerMetadata: "server_metadata",
    transport.GetModelMetadata: "metadata",
    transport.GetModelConfig: "config",
    transport.GetStatistics: "statistics",
    transport.GetRepositoryIndex: "repository_index",
    transport.LoadModel: "load",
    transport.UnloadModel: "unload",
    shared_memory_calls.InferShared: "infer",
    shared_memory_calls.RegisterSharedMemory: "register_shared_memory",
    shared_memory_calls.UnregisterSharedMemory: "unregister_shared_memory",
    shared_memory_calls.GetSharedMemoryStatus: "shared_memory_status",
}
"""What each call is named in records, logs and spans."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestRecord:
    """One finished call, however many attempts it took.

    ``operation`` is one of ``OPERATIONS``. ``duration`` is in
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
