"""The client for asyncio: the same questions and the same policy, awaited."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

from numpy.typing import ArrayLike

from toolkit.client import many, sharing
from toolkit.client.addresses import Address
from toolkit.client.asking import Part, Signature, version_name
from toolkit.client.caller import Caller
from toolkit.client.drive_async import AsyncDriver
from toolkit.client.options import TIMEOUT, ClientOptions
from toolkit.client.prediction import Prediction
from toolkit.client.records import Hook
from toolkit.client.shared_memory import Region
from toolkit.client.sharing import SharedMemory
from toolkit.client.transport import (
    Answer,
    AsyncTransport,
    Call,
    GetRepositoryIndex,
    GetServerMetadata,
    GetStatistics,
    IndexedModel,
    IsModelReady,
    IsServerLive,
    IsServerReady,
    LoadModel,
    ModelMetadata,
    ServerMetadata,
    UnloadModel,
)
from toolkit.errors import RequestError

_OPTIONS = ClientOptions()


class AsyncClient(Caller):
    """As ``Client``, for the tasks of one event loop; made anywhere, first awaited in the loop.

    A task that is cancelled cancels its request.
    """

    def __init__(
        self,
        url: str | Sequence[str] = "http://localhost:8000",
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        options: ClientOptions = _OPTIONS,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self._driver = AsyncDriver(options.max_in_flight)
        super().__init__(
            url, token, timeout, options, hooks, connect=_connect, leave=self._driver.leave
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calling twice is fine."""
        self._policy.closed = True
        self._driver.close()
        for replica in (*self._policy.replicas.all, *self._policy.retired):
            await replica.transport.close()

    async def predict(  # noqa: PLR0913  each is a part of Triton's request
        self,
        model: str,
        rows: object,
        *,
        version: int | str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        priority: int | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Return the model's answers to ``rows``; see ``Client.predict``."""
        question = self._question(model, version, outputs, timeout, priority, request_id)
        return await self._driver.run(self._asking.predict(question, rows))

    async def predict_one(  # noqa: PLR0913  as predict
        self,
        model: str,
        row: object,
        *,
        version: int | str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        priority: int | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Return the answer to one row, without the axis of rows."""
        question = self._question(model, version, outputs, timeout, priority, request_id)
        answer = await self._driver.run(self._asking.predict(question, many.lone(row)))
        return answer.row(0)

    async def predict_many(  # noqa: PLR0913  as predict
        self,
        model: str,
        rows: Iterable[object],
        *,
        max_in_flight: int = 8,
        batch_size: int | None = None,
        version: int | str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        priority: int | None = None,
    ) -> AsyncIterator[Prediction | RequestError]:
        """Yield an answer or an error for each row; see ``Client.predict_many``."""
        question = self._question(model, version, outputs, timeout, priority)
        plan = many.Plan(question, rows, max_in_flight, batch_size)
        async with aclosing(self.batches(plan)) as batches:
            async for parts in batches:
                for part in parts:
                    for outcome in part.rows():
                        yield outcome

    def batches(self, plan: many.Plan) -> AsyncGenerator[list[Part], None]:
        """Yield what ``predict_many`` does, a batch at a time."""
        return many.with_tasks(self._driver, self._asking, plan)

    async def metadata(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Return what the model takes and gives; remembered until it is loaded anew."""
        return (await self._known(model, version, timeout)).metadata

    async def config(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> Mapping[str, Any]:
        """Return how the model is served, in the names of ``model_config.proto``; remembered."""
        return (await self._known(model, version, timeout)).config

    async def is_live(self, *, timeout: float | None = None) -> bool:
        """Return whether a Triton answers at the URL; any failure means no."""
        return await self._is(IsServerLive(), timeout)

    async def is_ready(self, *, timeout: float | None = None) -> bool:
        """Return whether the server takes requests."""
        return await self._is(IsServerReady(), timeout)

    async def is_model_ready(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> bool:
        """Return whether the model takes requests; an unknown one does not."""
        return await self._is(IsModelReady(model, version_name(version)), timeout)

    async def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return await self._ask(GetServerMetadata(), timeout)

    async def statistics(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> tuple[Mapping[str, Any], ...]:
        """Return Triton's counters of the model, one mapping a version; times in ns."""
        return await self._ask(GetStatistics(model, version_name(version)), timeout)

    async def repository_index(self, *, timeout: float | None = None) -> tuple[IndexedModel, ...]:
        """Return every model of the repository with its state and, if any, its failure."""
        return await self._ask(GetRepositoryIndex(), timeout)

    async def load(
        self,
        model: str,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Load the model, or load it again, ``config`` in place of its file (``Client.load``)."""
        await self._driver.run(
            self._asking.control(LoadModel(model, config), self._seconds(timeout))
        )

    async def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Stop serving the model; Triton lets running requests finish first."""
        await self._driver.run(self._asking.control(UnloadModel(model), self._seconds(timeout)))

    @asynccontextmanager
    async def shared_memory(
        self,
        inputs: Mapping[str, ArrayLike],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[SharedMemory[Awaitable[Prediction]]]:
        """Share memory with a server on this machine; see ``Client.shared_memory``."""
        limit = self._seconds(timeout)
        with Region(inputs, outputs) as region:
            try:
                await self._driver.run(sharing.share(self._policy, region, limit))
                yield SharedMemory(
                    region,
                    lambda asked: self._driver.run(sharing.predict(self._policy, region, asked)),
                )
            finally:
                with suppress(RequestError):
                    await self._driver.run(sharing.unshare(self._policy, region, limit))

    async def _known(
        self, model: str, version: int | str | None, timeout: float | None
    ) -> Signature:
        steps = self._asking.known(model, version_name(version), self._seconds(timeout))
        return await self._driver.run(steps)

    async def _ask(self, call: Call[Answer], timeout: float | None) -> Answer:
        return await self._driver.run(self._asking.ask(call, self._seconds(timeout)))

    async def _is(self, call: Call[bool], timeout: float | None) -> bool:
        return await self._driver.run(self._asking.check(call, self._seconds(timeout)))


def _connect(address: Address, token: str | None, options: ClientOptions) -> AsyncTransport:
    if address.protocol == "grpc":
        from toolkit.client.wire_grpc_async import AsyncGrpcTransport

        return AsyncGrpcTransport(address.url, token)
    from toolkit.client.wire_http_async import AsyncHttpTransport

    return AsyncHttpTransport(
        address.url, token, connections=options.connections, idle_seconds=options.idle
    )
