"""The client: rows in, named arrays out, whatever wire lies between."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

from numpy.typing import ArrayLike

from toolkit.client import many, sharing
from toolkit.client.addresses import Address
from toolkit.client.asking import Signature, version_name
from toolkit.client.caller import Caller
from toolkit.client.drive import Driver
from toolkit.client.options import TIMEOUT, ClientOptions
from toolkit.client.prediction import Prediction
from toolkit.client.records import Hook
from toolkit.client.shared_memory import Region
from toolkit.client.sharing import SharedMemory
from toolkit.client.transport import (
    Answer,
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
    Transport,
    UnloadModel,
)
from toolkit.errors import ConfigError, RequestError

_OPTIONS = ClientOptions()


class Client(Caller):
    """A running Triton, or several replicas of one, by URL.

    ``http://``, ``https://``, ``grpc://`` and ``grpcs://`` are understood, ``localhost``
    and ``localhost:8000`` mean HTTP, and ``dns:///name:8001`` every address of the name
    over gRPC. ``token`` opens the APIs the server restricts (model control, shared
    memory). ``timeout`` is in seconds and counts for a whole call, retries and all
    requests included. ``hooks`` are called with a ``RequestRecord`` after each request.
    Threads may share a client.
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
        self._given = (url, token, options, tuple(hooks))
        self._driver = Driver(options.max_in_flight)
        super().__init__(
            url, token, timeout, options, hooks, connect=_connect, leave=self._driver.leave
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calling twice is fine."""
        self._policy.closed = True
        self._driver.close()
        for replica in (*self._policy.replicas.all, *self._policy.retired):
            replica.transport.close()

    def predict(  # noqa: PLR0913  each is a part of Triton's request
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
        """Return the model's answers to ``rows``, in their order.

        ``rows`` is a numpy array, nested lists, a DataFrame, a torch tensor, or a dict of
        columns or tensors; images and texts too (``toolkit.client.media``). A single row
        may come without the batch axis. An answer has rows first; an output declared as one
        value a row (a label) has no other axis. More rows than the model's
        ``max_batch_size`` go in several requests, one after the other. ``outputs`` names
        the wanted ones (all if left out); ``priority`` 1 is the highest.

        Raises ``InvalidInputError`` for rows that do not fit the model and other classes
        below ``RequestError`` for what goes wrong on the way.
        """
        question = self._question(model, version, outputs, timeout, priority, request_id)
        return self._driver.run(self._asking.predict(question, rows))

    def predict_one(  # noqa: PLR0913  as predict
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
        """Return the answer to one row, without the axis of rows; see ``predict``."""
        question = self._question(model, version, outputs, timeout, priority, request_id)
        return self._driver.run(self._asking.predict(question, many.lone(row))).row(0)

    def predict_many(  # noqa: PLR0913  as predict
        self,
        model: str,
        rows: Iterable[object],
        *,
        mode: Literal["threads", "sequential", "async"] = "threads",
        max_in_flight: int = 8,
        batch_size: int | None = None,
        progress: bool = False,
        version: int | str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        priority: int | None = None,
    ) -> Iterator[Prediction | RequestError]:
        """Yield an answer or an error for each of any number of rows, in their order.

        ``rows`` may be a generator: a few batches of ``batch_size`` rows (the model's
        ``max_batch_size`` if left out) are held at a time, ``max_in_flight`` of them on
        their way. A row that fails takes no other with it. ``timeout`` counts for each
        request. ``progress`` shows a bar on the terminal.

        Raises what ``metadata`` does if the model cannot be asked at all.
        """
        question = self._question(model, version, outputs, timeout, priority)
        plan = many.Plan(question, rows, max_in_flight, batch_size)
        if mode == "async":
            batches = self._in_a_loop(plan)
        elif mode in {"threads", "sequential"}:
            batches = self.batches(plan if mode == "threads" else replace(plan, max_in_flight=1))
        else:
            raise ConfigError(f"mode is threads, sequential or async, got {mode!r}")
        answers = many.each(batches)
        return many.watched(answers, rows) if progress else answers

    def batches(self, plan: many.Plan) -> many.Batches:
        """Yield what ``predict_many`` does, a batch at a time."""
        return many.with_threads(self._driver, self._asking, plan)

    def _in_a_loop(self, plan: many.Plan) -> many.Batches:
        from toolkit.client.async_client import AsyncClient

        url, token, options, hooks = self._given
        return many.in_a_loop(
            lambda: AsyncClient(url, token=token, options=options, hooks=hooks), plan
        )

    def metadata(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Return what the model takes and gives; remembered until it is loaded anew."""
        return self._known(model, version, timeout).metadata

    def config(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> Mapping[str, Any]:
        """Return how the model is served, in the names of ``model_config.proto``; remembered."""
        return self._known(model, version, timeout).config

    def is_live(self, *, timeout: float | None = None) -> bool:
        """Return whether a Triton answers at the URL; any failure means no."""
        return self._is(IsServerLive(), timeout)

    def is_ready(self, *, timeout: float | None = None) -> bool:
        """Return whether the server takes requests."""
        return self._is(IsServerReady(), timeout)

    def is_model_ready(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> bool:
        """Return whether the model takes requests; an unknown one does not."""
        return self._is(IsModelReady(model, version_name(version)), timeout)

    def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return self._ask(GetServerMetadata(), timeout)

    def statistics(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> tuple[Mapping[str, Any], ...]:
        """Return Triton's counters of the model, one mapping a version; times in ns."""
        return self._ask(GetStatistics(model, version_name(version)), timeout)

    def repository_index(self, *, timeout: float | None = None) -> tuple[IndexedModel, ...]:
        """Return every model of the repository with its state and, if any, its failure."""
        return self._ask(GetRepositoryIndex(), timeout)

    def load(
        self,
        model: str,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Load the model, or load it again if its files changed; returns when it is ready.

        ``config`` is a whole model configuration, as ``config`` returns one, that is used in
        place of the model's ``config.pbtxt``. Triton 2.51 keeps it until another is given,
        the file changes or the model is unloaded.
        Raises ``ServerError`` with Triton's reason if it does not load.
        """
        self._driver.run(self._asking.control(LoadModel(model, config), self._seconds(timeout)))

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Stop serving the model; Triton lets running requests finish first."""
        self._driver.run(self._asking.control(UnloadModel(model), self._seconds(timeout)))

    @contextmanager
    def shared_memory(
        self,
        inputs: Mapping[str, ArrayLike],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        *,
        timeout: float | None = None,
    ) -> Iterator[SharedMemory[Prediction]]:
        """Share memory with a server on this machine, so that big tensors are not copied.

        ``inputs`` maps names to arrays of the model's data types and shapes, batch axis
        included; ``outputs`` maps names to shape and data type (``"FP32"`` or numpy's).
        It is gone with the block, and what killed processes left goes with the next one.
        Needs the server's token where it restricts shared memory, as ours does.
        """
        limit = self._seconds(timeout)
        with Region(inputs, outputs) as region:
            try:
                self._driver.run(sharing.share(self._policy, region, limit))
                yield SharedMemory(
                    region,
                    lambda asked: self._driver.run(sharing.predict(self._policy, region, asked)),
                )
            finally:
                with suppress(RequestError):
                    self._driver.run(sharing.unshare(self._policy, region, limit))

    def _known(self, model: str, version: int | str | None, timeout: float | None) -> Signature:
        steps = self._asking.known(model, version_name(version), self._seconds(timeout))
        return self._driver.run(steps)

    def _ask(self, call: Call[Answer], timeout: float | None) -> Answer:
        return self._driver.run(self._asking.ask(call, self._seconds(timeout)))

    def _is(self, call: Call[bool], timeout: float | None) -> bool:
        return self._driver.run(self._asking.check(call, self._seconds(timeout)))


def _connect(address: Address, token: str | None, options: ClientOptions) -> Transport:
    if address.protocol == "grpc":
        from toolkit.client.wire_grpc import GrpcTransport

        return GrpcTransport(address.url, token)
    from toolkit.client.wire_http import HttpTransport

    return HttpTransport(
        address.url, token, connections=options.connections, idle_seconds=options.idle
    )
