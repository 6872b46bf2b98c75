"""The V2 protocol over gRPC: a call to a message, a reply to its answer, a status to its error.

The messages are tritonclient's, the tensors raw.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
from tritonclient.grpc import service_pb2 as pb

from toolkit.client.metadata import check_headers, check_priority, microseconds, parse_retry_after
from toolkit.client.refusals import refusal, too_late
from toolkit.client.shared_memory_calls import GRPC as SHARED_MEMORY
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

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits up to two minutes before it looks again for a server that was not there.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Each client has its own connection; gRPC would share one among all of the process.
    ("grpc.use_local_subchannel_pool", 1),
    # As over HTTP: not even a proxy that the environment names.
    ("grpc.enable_http_proxy", 0),
    # Triton 2.51 takes pings every five minutes; more often, it ends the connection with the
    # calls on it (seen after 140 s with pings each 10 s). The time-out also becomes the
    # socket's TCP_USER_TIMEOUT, which is what finds a peer that is gone.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
"""Of a channel."""

INFER = "/inference.GRPCInferenceService/ModelInfer"
"""The method whose messages are bytes here, as ``encode`` and ``decode`` make and take them."""

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


def encode(call: Call[Any], timeout: float) -> tuple[str, Any]:
    """Return the method's name and the message that asks ``call``, which has ``timeout`` s."""
    method, encoder, _ = EXCHANGES[type(call)]
    return method, encoder(call, timeout)


def decode(call: Call[Answer], reply: Any) -> Answer:
    """Return the answer to ``call``, or raise that there is none in ``reply``."""
    try:
        return cast("Answer", EXCHANGES[type(call)][2](reply))
    except (ValueError, LookupError) as error:
        raise ServerError(
            f"the answer is not of the V2 protocol: {error}",
            hint="is this the gRPC port of a Triton?",
            status="OK",
        ) from error


def token_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return what opens Triton's restricted APIs."""
    return ((f"triton-grpc-protocol-{TOKEN_HEADER}", token),) if token else ()


def metadata(
    own: tuple[tuple[str, str], ...], headers: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return what travels with a call."""
    check_headers(headers)
    return (*own, *headers.items())


def failure(error: Any, timeout: float, url: str) -> RequestError:
    """Return what ``error``, gRPC's of either style, means."""
    code, details = error.code(), error.details() or ""
    lowered = details.lower()
    kind = ERRORS[code]
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return too_late(timeout)
    no_connection = any(text in lowered for text in _NO_CONNECTION)
    if kind is ConnectionFailedError or (no_connection and kind is not InvalidInputError):
        broken = ConnectionFailedError(_reason(details), hint=_connection_hint(lowered, url))
        # gRPC itself has recognised a server of the other protocol.
        broken.retryable = "http1.x" not in lowered
        return broken
    return refusal(details, kind, status=code.name, retry_after=_retry_after(error))


def _retry_after(error: Any) -> float | None:
    """Return the seconds that a proxy or gRPC's own push-back asks to wait."""
    trailing = dict(error.trailing_metadata() or ())
    pushback = trailing.get("grpc-retry-pushback-ms")
    if pushback is not None and str(pushback).isdecimal():
        return int(pushback) / 1000
    return parse_retry_after(trailing.get("retry-after"))


def _connection_hint(lowered: str, url: str) -> str:
    if "refused" not in lowered and any(text in lowered for text in _OTHER_PROTOCOL):
        host = urlsplit(url).netloc
        return f"if it is Triton's HTTP port, use http://{host}; gRPC is on 8001 by default"
    return "is the server running? see: toolkit status"


def _reason(details: str) -> str:
    """Return the end of gRPC's chain of texts, which is where the reason stands."""
    lowered = details.lower()
    if "resolv" in lowered or "name resolution" in lowered:
        return "the host's name cannot be resolved"
    return lowered.rsplit(": ", 1)[-1].strip() or "the connection broke"


@lru_cache(maxsize=512)
def _infer_head(
    model: str,
    version: str | None,
    outputs: tuple[str, ...],
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...],
) -> bytes:
    """Return the beginning of the message, which many requests have in common."""
    message = pb.ModelInferRequest(model_name=model, model_version=version or "")
    for name, datatype, shape in inputs:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
    for name in outputs:
        message.outputs.add(name=name)
    return cast("bytes", message.SerializeToString())


def _encode_infer(call: InferRequest, timeout: float) -> bytes:
    """Return the message in its written form, in which fields may stand in any order.

    So what is the same each time is written once, and the tensors are copied once
    (https://protobuf.dev/programming-guides/encoding).
    """
    arrays = call.inputs
    inputs = tuple([(name, datatype_of(array), array.shape) for name, array in arrays.items()])
    parts: list[bytes | memoryview] = [
        _infer_head(call.model, call.version, call.outputs, inputs),
        _parameter(b"timeout", _INT64, microseconds(timeout)),
    ]
    if call.priority is not None:
        check_priority(call.priority)
        parts.append(_parameter(b"priority", _UINT64, call.priority))
    if call.request_id is not None:
        text = call.request_id.encode()
        parts += (_ID + _varint(len(text)), text)
    for array in arrays.values():
        data = to_binary(array)
        parts += (_RAW_INPUT + _varint(len(data)), data)
    return b"".join(parts)


def _tag(message: Any, field: str, kind: int = 2) -> bytes:
    """Return what stands before a field; ``kind`` 2 is a length and then bytes, 0 a number."""
    return bytes([message.DESCRIPTOR.fields_by_name[field].number << 3 | kind])


_ID = _tag(pb.ModelInferRequest, "id")
_RAW_INPUT = _tag(pb.ModelInferRequest, "raw_input_contents")
_PARAMETERS = _tag(pb.ModelInferRequest, "parameters")
_KEY = _tag(pb.ModelInferRequest.ParametersEntry, "key")
_VALUE = _tag(pb.ModelInferRequest.ParametersEntry, "value")
_INT64 = _tag(pb.InferParameter, "int64_param", 0)
_UINT64 = _tag(pb.InferParameter, "uint64_param", 0)


def _parameter(name: bytes, choice: bytes, number: int) -> bytes:
    value = choice + _varint(number)
    entry = b"%b%c%b%b%c%b" % (_KEY, len(name), name, _VALUE, len(value), value)
    return b"%b%c%b" % (_PARAMETERS, len(entry), entry)


def _varint(number: int) -> bytes:
    """Return a number in pieces of seven bits, the last ones first."""
    if number < 0x80:  # noqa: PLR2004
        return b"%c" % number
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _decode_infer(said: bytes) -> InferResponse:
    reply = pb.ModelInferResponse.FromString(said)
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


Encode = Callable[[Any, float], Any]
Decode = Callable[[Any], object]


def _empty(message: Callable[[], Any]) -> Encode:
    return lambda _, __: message()


def _named(message: Callable[..., Any]) -> Encode:
    return lambda call, _: message(name=call.model, version=call.version or "")


def _of_model(message: Callable[..., Any]) -> Encode:
    return lambda call, _: message(model_name=call.model)


def _encode_load(call: LoadModel, _: float) -> Any:
    request = pb.RepositoryModelLoadRequest(model_name=call.model)
    if call.config is not None:
        request.parameters["config"].string_param = json.dumps(call.config)
    return request


def _shared(method: str, encoder: Encode, decoder: Decode) -> tuple[str, Encode, Decode]:
    if method != "ModelInfer":
        return method, encoder, decoder
    return (
        method,
        lambda call, timeout: encoder(call, timeout).SerializeToString(),
        lambda said: decoder(pb.ModelInferResponse.FromString(said)),
    )


EXCHANGES: Mapping[type[Call[Any]], tuple[str, Encode, Decode]] = {
    InferRequest: ("ModelInfer", _encode_infer, _decode_infer),
    IsServerLive: ("ServerLive", _empty(pb.ServerLiveRequest), lambda said: said.live),
    IsServerReady: ("ServerReady", _empty(pb.ServerReadyRequest), lambda said: said.ready),
    IsModelReady: ("ModelReady", _named(pb.ModelReadyRequest), lambda said: said.ready),
    GetServerMetadata: (
        "ServerMetadata",
        _empty(pb.ServerMetadataRequest),
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
    GetRepositoryIndex: ("RepositoryIndex", _empty(pb.RepositoryIndexRequest), _decode_index),
    LoadModel: ("RepositoryModelLoad", _encode_load, lambda _: None),
    UnloadModel: (
        "RepositoryModelUnload",
        _of_model(pb.RepositoryModelUnloadRequest),
        lambda _: None,
    ),
    **{kind: _shared(*exchange) for kind, exchange in SHARED_MEMORY.items()},
}
