"""The V2 protocol over gRPC, with tritonclient's generated messages and raw tensors."""

from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from toolkit.client.refusals import refusal
from toolkit.client.tensors import datatype_of, from_binary, to_binary
from toolkit.client.transport import (
    TOKEN_HEADER,
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
    TensorMetadata,
    UnloadModel,
)
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    RequestError,
    ServerError,
    UnavailableError,
    UnknownModelError,
)

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits up to two minutes before it looks again for a server that was not there.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

ERRORS: Mapping[grpc.StatusCode, type[RequestError]] = {
    grpc.StatusCode.CANCELLED: ConnectionFailedError,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: UnknownModelError,
    grpc.StatusCode.ALREADY_EXISTS: InvalidInputError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
    grpc.StatusCode.FAILED_PRECONDITION: UnavailableError,
    grpc.StatusCode.ABORTED: UnavailableError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInputError,
    grpc.StatusCode.UNIMPLEMENTED: ServerError,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DATA_LOSS: ConnectionFailedError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDeniedError,
}

# gRPC and Triton share the code UNAVAILABLE; these are the texts of gRPC itself (1.85).
_NO_CONNECTION = (
    "failed to connect",
    "connections to all backends",
    "errors resolving",
    "dns resolution failed",
    "name resolution",
    "socket closed",
    "connection reset",
    "connection refused",
    "connection aborted",
    "broken pipe",
    "goaway",
    "endpoint closing",
    "stream removed",
    "transport closed",
    "channel closed",
    "recvmsg",
    "sendmsg",
)
_OTHER_PROTOCOL = ("socket closed", "http1.x", "http/1", "settings frame", "http2")


class GrpcTransport:
    """One Triton over gRPC."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        parts = urlsplit(url)
        self._host = parts.netloc
        self._metadata = ((f"triton-grpc-protocol-{TOKEN_HEADER}", token),) if token else ()
        self._channel = (
            grpc.secure_channel(self._host, grpc.ssl_channel_credentials(), _OPTIONS)
            if parts.scheme == "grpcs"
            else grpc.insecure_channel(self._host, _OPTIONS)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def send(self, call: Call[Answer], timeout: float) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        method, encode, decode = _EXCHANGES[type(call)]
        message = encode(call)
        try:
            reply = getattr(self._stub, method)(message, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._broken(error, timeout) from error
        except ValueError as error:
            # grpcio's way to say that the channel was closed by another thread.
            raise ConnectionFailedError("the client was closed") from error
        try:
            return cast("Answer", decode(reply))
        except (ValueError, LookupError) as error:
            msg = f"the answer is not of the V2 protocol: {error}"
            raise ServerError(msg, hint="is this the gRPC port of a Triton?") from error

    def _broken(self, error: grpc.RpcError, timeout: float) -> RequestError:
        details = error.details() or ""
        lowered = details.lower()
        kind = ERRORS[error.code()]
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return kind(f"no answer within {timeout:.3g} s", hint="allow more seconds: timeout=…")
        no_connection = any(text in lowered for text in _NO_CONNECTION)
        if kind is ConnectionFailedError or (no_connection and kind is not InvalidInputError):
            return ConnectionFailedError(_reason(details), hint=self._connection_hint(lowered))
        return refusal(details, kind)

    def _connection_hint(self, lowered: str) -> str:
        if "refused" not in lowered and any(text in lowered for text in _OTHER_PROTOCOL):
            return (
                f"if it is Triton's HTTP port, use http://{self._host}; gRPC is on 8001 by default"
            )
        return "is the server running? see: toolkit status"

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _reason(details: str) -> str:
    """Return the end of gRPC's chain of texts, which is where the reason stands."""
    lowered = details.lower()
    if "resolv" in lowered or "name resolution" in lowered:
        return "the host's name cannot be resolved"
    return lowered.rsplit(": ", 1)[-1].strip() or "the connection broke"


def _encode_infer(call: InferRequest) -> Any:
    message = pb.ModelInferRequest(
        model_name=call.model, model_version=call.version or "", id=call.request_id or ""
    )
    for name, array in call.inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        message.raw_input_contents.append(to_binary(array))
    for name in call.outputs:
        message.outputs.add(name=name)
    if call.priority is not None:
        message.parameters["priority"].uint64_param = call.priority
    return message


def _decode_infer(reply: Any) -> InferResponse:
    outputs = {
        output.name: from_binary(data, output.datatype, tuple(output.shape))
        for output, data in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }
    return InferResponse(reply.model_name, reply.model_version, reply.id, outputs)


def _decode_model_metadata(reply: Any) -> ModelMetadata:
    inputs, outputs = (
        tuple(TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in said)
        for said in (reply.inputs, reply.outputs)
    )
    return ModelMetadata(reply.name, tuple(reply.versions), reply.platform, inputs, outputs)


def _decode_server_metadata(reply: Any) -> ServerMetadata:
    return ServerMetadata(reply.name, reply.version, tuple(reply.extensions))


def _decode_index(reply: Any) -> tuple[IndexedModel, ...]:
    return tuple(
        IndexedModel(line.name, line.version, line.state, line.reason) for line in reply.models
    )


def _plain(message: Any) -> dict[str, Any]:
    """Return a message as Triton's HTTP API prints it: defaults shown, 64-bit as numbers."""
    return {
        field.name: _plain_field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _plain_field(field: Any, value: Any) -> Any:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        element = entry.fields_by_name["value"]
        return {str(key): _plain_value(element, value[key]) for key in value}
    if isinstance(value, (str, bytes, int, float)) or hasattr(value, "DESCRIPTOR"):
        return _plain_value(field, value)
    return [_plain_value(field, element) for element in value]


def _plain_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def _named(message: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda call: message(name=call.model, version=call.version or "")


_EXCHANGES: Mapping[type[Call[Any]], tuple[str, Callable[[Any], Any], Callable[[Any], object]]] = {
    InferRequest: ("ModelInfer", _encode_infer, _decode_infer),
    IsServerLive: ("ServerLive", lambda _: pb.ServerLiveRequest(), lambda said: said.live),
    IsServerReady: ("ServerReady", lambda _: pb.ServerReadyRequest(), lambda said: said.ready),
    IsModelReady: ("ModelReady", _named(pb.ModelReadyRequest), lambda said: said.ready),
    GetServerMetadata: (
        "ServerMetadata",
        lambda _: pb.ServerMetadataRequest(),
        _decode_server_metadata,
    ),
    GetModelMetadata: ("ModelMetadata", _named(pb.ModelMetadataRequest), _decode_model_metadata),
    GetModelConfig: (
        "ModelConfig",
        _named(pb.ModelConfigRequest),
        lambda said: _plain(said.config),
    ),
    GetStatistics: (
        "ModelStatistics",
        _named(pb.ModelStatisticsRequest),
        lambda said: tuple(_plain(statistics) for statistics in said.model_stats),
    ),
    GetRepositoryIndex: ("RepositoryIndex", lambda _: pb.RepositoryIndexRequest(), _decode_index),
    LoadModel: (
        "RepositoryModelLoad",
        lambda call: pb.RepositoryModelLoadRequest(model_name=call.model),
        lambda _: None,
    ),
    UnloadModel: (
        "RepositoryModelUnload",
        lambda call: pb.RepositoryModelUnloadRequest(model_name=call.model),
        lambda _: None,
    ),
}
