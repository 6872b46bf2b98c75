"""What can be asked of a server, and the one method that a wire has to offer.

Each question is a frozen dataclass that names the type of its answer, so that whatever
stands above a wire (retries, balancing, logs) wraps ``send`` once for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

TOKEN_HEADER = "triton-companion-token"  # noqa: S105  the header's name, not its value
"""Header that opens Triton's restricted APIs; gRPC puts ``triton-grpc-protocol-`` before it."""

Answer = TypeVar("Answer")


class Call(Generic[Answer]):
    """One question to a server; the type argument is the type of the answer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """An input or output as the server tells it: ``shape`` has the batch axis, -1 is any."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a served model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """Name, version and extensions of a server."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """One line of the repository index; never loaded: ``version`` and ``state`` are empty."""

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """The answer to one ``InferRequest``: output name to array, text as ``str`` objects."""

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest(Call[InferResponse]):
    """Run a model once on arrays that already have its data types and shapes.

    No ``outputs`` means all of them; no ``version`` leaves the choice to the server.
    """

    model: str
    inputs: Mapping[str, NDArray[Any]]
    version: str | None = None
    outputs: tuple[str, ...] = ()
    request_id: str | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class IsServerLive(Call[bool]):
    """Does the server run?"""


@dataclass(frozen=True, slots=True)
class IsServerReady(Call[bool]):
    """Does the server take requests?"""


@dataclass(frozen=True, slots=True)
class IsModelReady(Call[bool]):
    """Does this model take requests?"""

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class GetServerMetadata(Call[ServerMetadata]):
    """Who are you?"""


@dataclass(frozen=True, slots=True)
class GetModelMetadata(Call[ModelMetadata]):
    """What does this model take and give?"""

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class GetModelConfig(Call[Mapping[str, Any]]):
    """How is this model served? The answer has the field names of ``model_config.proto``."""

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class GetStatistics(Call[tuple[Mapping[str, Any], ...]]):
    """What has this model done? One answer a version, with the protocol's field names."""

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class GetRepositoryIndex(Call[tuple[IndexedModel, ...]]):
    """Which models does the repository hold?"""


@dataclass(frozen=True, slots=True)
class LoadModel(Call[None]):
    """Load this model, or load it again; ``config`` in place of its ``config.pbtxt``."""

    model: str
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UnloadModel(Call[None]):
    """Stop serving this model."""

    model: str


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Transport(Protocol):
    """One wire to one server; safe to share between threads."""

    @property
    def url(self) -> str:
        """The server's URL, for messages."""

    def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds.

        ``headers`` have names in lower case (gRPC calls them metadata). An inference also
        carries the time-out as Triton's request parameter, so that a queue can drop it.

        Raises classes below ``RequestError`` and nothing of the libraries beneath; their
        messages leave out the model and the URL, which the caller knows and adds.
        """

    def close(self) -> None:
        """Give back the connections; ``send`` fails from now on."""


class AsyncTransport(Protocol):
    """The same for one event loop; a cancelled ``send`` closes or cancels its request."""

    @property
    def url(self) -> str:
        """The server's URL, for messages."""

    async def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds, as ``Transport.send``."""

    async def close(self) -> None:
        """Give back the connections; ``send`` fails from now on."""
