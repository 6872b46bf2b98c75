"""The client: rows in, named arrays out, whatever wire lies between."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import numpy as np
from numpy.typing import NDArray

from toolkit.client.rows import check_row_counts, to_tensors
from toolkit.client.transport import (
    Answer,
    Call,
    GetModelConfig,
    GetModelMetadata,
    GetRepositoryIndex,
    GetServerMetadata,
    GetStatistics,
    IndexedModel,
    InferRequest,
    InferResponse,
    IsModelReady,
    IsServerLive,
    IsServerReady,
    LoadModel,
    ModelMetadata,
    ServerMetadata,
    Transport,
    UnloadModel,
)
from toolkit.errors import (
    ConfigError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    RequestError,
    UnknownModelError,
)
from toolkit.pbtxt import FEATURE_NAMES

_PORTS = {"http": 8000, "https": 443, "grpc": 8001, "grpcs": 443}


@dataclass(frozen=True, slots=True, eq=False)
class Prediction(Mapping[str, NDArray[Any]]):
    """A model's answer: output name to array, one entry a row; text outputs hold ``str``."""

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True, slots=True)
class _Signature:
    """What has to be known of a model before rows can be sent to it."""

    metadata: ModelMetadata
    config: Mapping[str, Any]

    @property
    def max_batch_size(self) -> int:
        return int(self.config.get("max_batch_size", 0))

    @property
    def optional(self) -> frozenset[str]:
        inputs = self.config.get("input", ())
        return frozenset(spec["name"] for spec in inputs if spec.get("optional"))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What the columns of the one input are called, in their order, where it is known."""
        parameter = self.config.get("parameters", {}).get(FEATURE_NAMES, {})
        return tuple(json.loads(parameter.get("string_value", "[]")))

    @property
    def scalars(self) -> frozenset[str]:
        """The outputs with one value a row, such as a label.

        Triton has no empty ``dims``: they are declared as ``[1]`` with an empty reshape.
        """
        outputs = self.config.get("output", ()) if self.max_batch_size else ()
        return frozenset(
            spec["name"] for spec in outputs if spec.get("reshape", {"shape": [1]})["shape"] == []
        )


class Client:
    """A running Triton, by URL: ``http://``, ``https://``, ``grpc://`` or ``grpcs://``.

    ``localhost`` and ``localhost:8000`` mean HTTP. ``token`` opens the APIs the server
    restricts (model control, shared memory). ``timeout`` is in seconds and counts for a
    whole call, however many requests it takes. Threads may share a client.
    """

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._timeout = _seconds(timeout)
        self._transport = _connect(url, token)
        self._known: dict[tuple[str, str | None], _Signature] = {}
        self._closed = False

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._transport.url

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
        self._closed = True
        self._transport.close()

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

        ``rows`` is a numpy array, nested lists, a DataFrame, or a dict of columns or
        tensors; a single row may come without the batch axis. An answer has rows first; an
        output declared as one value a row (a label) has no other axis. More rows than the model's
        ``max_batch_size`` go in several requests, one after the other. ``outputs`` names
        the wanted ones (all if left out); ``priority`` 1 is the highest.

        Raises ``InvalidInputError`` for rows that do not fit the model and other classes
        below ``RequestError`` for what goes wrong on the way.
        """
        call = InferRequest(
            model,
            {},
            version=_version(version),
            outputs=(outputs,) if isinstance(outputs, str) else tuple(outputs or ()),
            request_id=request_id,
            priority=priority,
        )
        deadline = self._deadline(timeout)
        cached = self._known.get((model, call.version))
        signature = cached or self._signature(model, call.version, deadline)
        try:
            return self._predict(call, rows, signature, deadline)
        except (InvalidInputError, UnknownModelError):
            # Somebody may have loaded another form of the model since we last asked.
            self._forget(model)
            if cached is None:
                raise
            fresh = self._signature(model, call.version, deadline)
            if fresh == cached:
                raise
            return self._predict(call, rows, fresh, deadline)

    def _predict(
        self, call: InferRequest, rows: object, signature: _Signature, deadline: float
    ) -> Prediction:
        try:
            parts = _parts(call, rows, signature)
        except InvalidInputError as error:
            raise self._placed(error, call) from error.__cause__
        answers = [self._ask(part, deadline) for part in parts]
        arrays = _joined(answers)
        # In the model's order: the server answers in no particular one.
        outputs = {
            name: arrays[name].reshape(-1) if name in signature.scalars else arrays[name]
            for name in (output.name for output in signature.metadata.outputs)
            if name in arrays
        }
        return Prediction(call.model, answers[0].version, answers[0].request_id, outputs)

    def metadata(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Return what the model takes and gives; remembered until it is loaded anew."""
        return self._cached(model, version, timeout).metadata

    def config(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> Mapping[str, Any]:
        """Return how the model is served, in the names of ``model_config.proto``; remembered."""
        return self._cached(model, version, timeout).config

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
        return self._is(IsModelReady(model, _version(version)), timeout)

    def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return self._ask(GetServerMetadata(), self._deadline(timeout))

    def statistics(
        self, model: str, version: int | str | None = None, *, timeout: float | None = None
    ) -> tuple[Mapping[str, Any], ...]:
        """Return Triton's counters of the model, one mapping a version; times in ns."""
        return self._ask(GetStatistics(model, _version(version)), self._deadline(timeout))

    def repository_index(self, *, timeout: float | None = None) -> tuple[IndexedModel, ...]:
        """Return every model of the repository with its state and, if any, its failure."""
        return self._ask(GetRepositoryIndex(), self._deadline(timeout))

    def load(self, model: str, *, timeout: float | None = None) -> None:
        """Load the model, or load it again; returns when it is ready.

        Raises ``ServerError`` with Triton's reason if it does not load.
        """
        self._control(LoadModel(model), timeout)

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Stop serving the model; Triton lets running requests finish first."""
        self._control(UnloadModel(model), timeout)

    def _control(self, call: LoadModel | UnloadModel, timeout: float | None) -> None:
        try:
            self._ask(call, self._deadline(timeout))
        finally:
            self._forget(call.model)

    def _is(self, call: Call[bool], timeout: float | None) -> bool:
        try:
            return self._ask(call, self._deadline(timeout))
        except RequestError:
            return False

    def _cached(self, model: str, version: int | str | None, timeout: float | None) -> _Signature:
        known = self._known.get((model, _version(version)))
        return known or self._signature(model, _version(version), self._deadline(timeout))

    def _signature(self, model: str, version: str | None, deadline: float) -> _Signature:
        metadata = self._ask(GetModelMetadata(model, version), deadline)
        config = self._ask(GetModelConfig(model, version), deadline)
        signature = _Signature(metadata, config)
        self._known[model, version] = signature
        return signature

    def _forget(self, model: str) -> None:
        for known in [key for key in tuple(self._known) if key[0] == model]:
            self._known.pop(known, None)

    def _deadline(self, timeout: float | None) -> float:
        return monotonic() + (self._timeout if timeout is None else _seconds(timeout))

    def _ask(self, call: Call[Answer], deadline: float) -> Answer:
        try:
            if self._closed:
                raise ConnectionFailedError("the client was closed")
            left = deadline - monotonic()
            if left <= 0:
                raise DeadlineExceededError("no time was left for it", hint="allow more seconds")
            return self._transport.send(call, left)
        except RequestError as error:
            raise self._placed(error, call) from error.__cause__

    def _placed(self, error: RequestError, call: Call[Any]) -> RequestError:
        """Return the same error with the model and the URL in its message."""
        model = getattr(call, "model", None)
        where = f"model {model!r} at {self.url}" if model else self.url
        return type(error)(f"{where}: {error.message}", hint=error.hint)


def _parts(call: InferRequest, rows: object, signature: _Signature) -> list[InferRequest]:
    """Return the requests that carry ``rows``, none larger than the model's batch."""
    offered = [spec.name for spec in signature.metadata.outputs]
    unknown = [name for name in call.outputs if name not in offered]
    if unknown:
        raise InvalidInputError(
            f"the model has no output {', '.join(map(repr, unknown))}",
            hint=f"it gives {', '.join(map(repr, offered))}",
        )
    tensors = to_tensors(
        rows,
        signature.metadata.inputs,
        optional=signature.optional,
        feature_names=signature.feature_names,
    )
    step = signature.max_batch_size
    count = check_row_counts(tensors) if step else 0
    pieces = (
        [
            {name: array[start : start + step] for name, array in tensors.items()}
            for start in range(0, count, step)
        ]
        if step and count > step
        else [tensors]
    )
    return [
        InferRequest(call.model, piece, call.version, call.outputs, call.request_id, call.priority)
        for piece in pieces
    ]


def _joined(answers: Sequence[InferResponse]) -> Mapping[str, NDArray[Any]]:
    if len(answers) == 1:
        return answers[0].outputs
    return {
        name: np.concatenate([answer.outputs[name] for answer in answers])
        for name in answers[0].outputs
    }


def _connect(url: str, token: str | None) -> Transport:
    parts = _parse(url)
    if token is not None and not (token.isascii() and token.isprintable() and token):
        raise ConfigError("a token is printable ASCII text, as it travels in a header")
    if parts.scheme.startswith("grpc"):
        from toolkit.client.wire_grpc import GrpcTransport

        return GrpcTransport(parts.geturl(), token)
    from toolkit.client.wire_http import HttpTransport

    return HttpTransport(parts.geturl(), token)


def _parse(url: str) -> SplitResult:
    """Return the URL with scheme and port filled in."""
    hint = "for example http://localhost:8000 or grpc://localhost:8001"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}", hint=hint) from error
    if parts.scheme not in _PORTS or not host:
        raise ConfigError(f"{url!r} is not the URL of a server", hint=hint)
    if parts.username is not None or parts.password is not None:
        raise ConfigError("a URL with a user name is not understood", hint="pass token=…")
    if parts.query or parts.fragment:
        raise ConfigError(f"{url!r} holds more than scheme, host, port and path", hint=hint)
    if parts.scheme.startswith("grpc") and parts.path.strip("/"):
        raise ConfigError(f"{url!r} has a path, and gRPC knows none", hint=hint)
    name = f"[{host}]" if ":" in host else host
    netloc = f"{name}:{port or _PORTS[parts.scheme]}"
    return SplitResult(parts.scheme, netloc, parts.path.rstrip("/"), "", "")


def _seconds(timeout: float) -> float:
    if not isfinite(timeout) or timeout <= 0:
        raise ConfigError(f"timeout must be a positive number of seconds, got {timeout!r}")
    return float(timeout)


def _version(version: int | str | None) -> str | None:
    return None if version is None else str(version)
