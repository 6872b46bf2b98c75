"""The V2 protocol over HTTP, tensors in binary both ways, on urllib3's connection pool."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from time import monotonic
from typing import Any, cast
from urllib.parse import quote, urlsplit

import urllib3
from urllib3 import exceptions as u3

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

_HEADER_LENGTH = "Inference-Header-Content-Length"
_OK = 200
_NO = 400  # Triton's "no" to a question of readiness, with or without a text
_CONNECTIONS = 128
_CHUNK = 1 << 20

# Triton's own codes are 400, 404, 500, 501 and 503; the rest come from what stands between.
_STATUSES: Mapping[int, type[RequestError]] = {
    400: InvalidInputError,
    401: PermissionDeniedError,
    403: PermissionDeniedError,
    404: UnknownModelError,
    408: DeadlineExceededError,
    413: InvalidInputError,
    429: UnavailableError,
    500: ServerError,
    501: ServerError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineExceededError,
}

# NewConnectionError (refused) is a ConnectTimeoutError to urllib3, so each class is listed
# and the nearest one in the class's own order of ancestors counts.
ERRORS: Mapping[type[BaseException], type[RequestError]] = {
    OSError: ConnectionFailedError,
    TimeoutError: DeadlineExceededError,
    HTTPException: ConnectionFailedError,
    u3.HTTPError: ConnectionFailedError,
    u3.PoolError: ConnectionFailedError,
    u3.ClosedPoolError: ConnectionFailedError,
    u3.EmptyPoolError: ConnectionFailedError,
    u3.FullPoolError: ConnectionFailedError,
    u3.RequestError: ConnectionFailedError,
    u3.MaxRetryError: ConnectionFailedError,
    u3.HostChangedError: ConnectionFailedError,
    u3.NewConnectionError: ConnectionFailedError,
    u3.NameResolutionError: ConnectionFailedError,
    u3.SSLError: ConnectionFailedError,
    u3.ProxyError: ConnectionFailedError,
    u3.ProtocolError: ConnectionFailedError,
    u3.IncompleteRead: ConnectionFailedError,
    u3.InvalidChunkLength: ConnectionFailedError,
    u3.ResponseNotChunked: ConnectionFailedError,
    u3.BodyNotHttplibCompatible: ConnectionFailedError,
    u3.ResponseError: ConnectionFailedError,
    u3.InvalidHeader: ConnectionFailedError,
    u3.HeaderParsingError: ConnectionFailedError,
    u3.UnrewindableBodyError: ConnectionFailedError,
    u3.DecodeError: ServerError,
    u3.TimeoutError: DeadlineExceededError,
    u3.TimeoutStateError: DeadlineExceededError,
    u3.ReadTimeoutError: DeadlineExceededError,
    u3.ConnectTimeoutError: DeadlineExceededError,
    u3.LocationValueError: InvalidInputError,
    u3.LocationParseError: InvalidInputError,
    u3.URLSchemeUnknown: InvalidInputError,
    u3.ProxySchemeUnknown: InvalidInputError,
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A question, ready to be sent."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpTransport:
    """One Triton over HTTP."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._root = urlsplit(url).path.rstrip("/")
        self._headers = {TOKEN_HEADER: token} if token else {}
        self._pool = urllib3.connection_from_url(url, maxsize=_CONNECTIONS)

    def send(self, call: Call[Answer], timeout: float) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        encode, decode = _EXCHANGES[type(call)]
        reply = self._exchange(encode(call), timeout)
        if reply.status == _NO and isinstance(call, (IsServerLive, IsServerReady, IsModelReady)):
            return cast("Answer", False)
        if reply.status != _OK:
            raise _refused(reply)
        try:
            return cast("Answer", decode(reply))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            msg = f"the answer is not of the V2 protocol: {_start(reply.body)}"
            raise ServerError(msg, hint="is this the HTTP port of a Triton?") from error

    def _exchange(self, request: HttpRequest, timeout: float) -> HttpReply:
        deadline = monotonic() + timeout
        try:
            response = self._pool.urlopen(
                request.method,
                self._root + request.path,
                body=request.body,
                headers={**self._headers, **request.headers},
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(total=timeout),
                preload_content=False,
            )
            body = _read(response, deadline)
        except (u3.HTTPError, HTTPException, OSError) as error:
            raise self._broken(error, timeout) from error
        return HttpReply(response.status, response.headers, body)

    def _broken(self, error: Exception, timeout: float) -> RequestError:
        kind = next(ERRORS[ancestor] for ancestor in type(error).__mro__ if ancestor in ERRORS)
        if kind is DeadlineExceededError:
            return kind(f"no answer within {timeout:.3g} s", hint="allow more seconds: timeout=…")
        garbled = error.args[-1] if isinstance(error, u3.ProtocolError) else error
        if isinstance(garbled, BadStatusLine) and not isinstance(garbled, RemoteDisconnected):
            host = urlsplit(self.url).netloc
            return kind(
                "what answers there does not speak HTTP",
                hint=f"if it is Triton's gRPC port, use grpc://{host}; HTTP is on 8000 by default",
            )
        return kind(_reason(error), hint="is the server running? see: toolkit status")

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """Read the body; urllib3's own time-out starts anew with each piece that arrives."""
    chunks: list[bytes] = []
    while True:
        left = deadline - monotonic()
        if left <= 0:
            response.close()
            raise TimeoutError
        sock = getattr(response.connection, "sock", None)
        if sock is not None:
            sock.settimeout(left)
        chunk = response.read1(_CHUNK)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _reason(error: Exception) -> str:
    """Return the innermost reason; urllib3 wraps it in texts that repeat the address."""
    if isinstance(error, u3.NameResolutionError):
        return "the host's name cannot be resolved"
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(error.args[0] if error.args else error).rstrip(".")


def _refused(reply: HttpReply) -> RequestError:
    try:
        message = str(json.loads(reply.body)["error"])
    except (ValueError, LookupError, TypeError):
        # A proxy's page. Its 404 says nothing about a model.
        default = ServerError if reply.status == 404 else _kind(reply.status)  # noqa: PLR2004
        line = f"answered {reply.status} with {_start(reply.body)}"
        return default(line, hint="something between here and Triton answered: check the URL")
    return refusal(message, _kind(reply.status))


def _kind(status: int) -> type[RequestError]:
    return _STATUSES.get(status, ServerError)


def _start(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return repr(text[:80]) if text else "no text"


def _model_path(model: str, version: str | None, rest: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}{rest}" if version else path + rest


def _encode_infer(call: InferRequest) -> HttpRequest:
    tensors = [to_binary(array) for array in call.inputs.values()]
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "datatype": datatype_of(array),
                "shape": array.shape,
                "parameters": {"binary_data_size": len(data)},
            }
            for (name, array), data in zip(call.inputs.items(), tensors, strict=True)
        ],
        "parameters": {"binary_data_output": True},
    }
    if call.request_id is not None:
        head["id"] = call.request_id
    if call.priority is not None:
        head["parameters"]["priority"] = call.priority
    if call.outputs:
        # Triton 2.51 ignores binary_data_output of the request once outputs are listed.
        head["outputs"] = [
            {"name": name, "parameters": {"binary_data": True}} for name in call.outputs
        ]
    text = json.dumps(head).encode()
    return HttpRequest(
        "POST",
        _model_path(call.model, call.version, "/infer"),
        b"".join([text, *tensors]),
        {_HEADER_LENGTH: str(len(text)), "Content-Type": "application/octet-stream"},
    )


def _decode_infer(reply: HttpReply) -> InferResponse:
    position = int(reply.headers.get(_HEADER_LENGTH, len(reply.body)))
    head = json.loads(reply.body[:position])
    data = memoryview(reply.body)
    outputs = {}
    for output in head["outputs"]:
        end = position + int(output["parameters"]["binary_data_size"])
        outputs[output["name"]] = from_binary(
            data[position:end], output["datatype"], output["shape"]
        )
        position = end
    return InferResponse(head["model_name"], head["model_version"], head.get("id", ""), outputs)


def _decode_model_metadata(reply: HttpReply) -> ModelMetadata:
    said = json.loads(reply.body)
    inputs, outputs = (
        tuple(
            TensorMetadata(tensor["name"], tensor["datatype"], tuple(tensor["shape"]))
            for tensor in said[kind]
        )
        for kind in ("inputs", "outputs")
    )
    versions = tuple(said.get("versions", ()))
    return ModelMetadata(said["name"], versions, said["platform"], inputs, outputs)


def _decode_server_metadata(reply: HttpReply) -> ServerMetadata:
    said = json.loads(reply.body)
    return ServerMetadata(said["name"], said["version"], tuple(said["extensions"]))


def _decode_config(reply: HttpReply) -> Mapping[str, Any]:
    return dict(json.loads(reply.body))


def _decode_statistics(reply: HttpReply) -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(reply.body)["model_stats"])


def _decode_index(reply: HttpReply) -> tuple[IndexedModel, ...]:
    return tuple(
        IndexedModel(
            line["name"], line.get("version", ""), line.get("state", ""), line.get("reason", "")
        )
        for line in json.loads(reply.body)
    )


def _get(path: str) -> Callable[[Any], HttpRequest]:
    return lambda _: HttpRequest("GET", path)


def _get_model(rest: str = "") -> Callable[[Any], HttpRequest]:
    return lambda call: HttpRequest("GET", _model_path(call.model, call.version, rest))


def _control(action: str) -> Callable[[Any], HttpRequest]:
    return lambda call: HttpRequest(
        "POST", f"/v2/repository/models/{quote(call.model, safe='')}/{action}", b"{}"
    )


_EXCHANGES: Mapping[
    type[Call[Any]], tuple[Callable[[Any], HttpRequest], Callable[[HttpReply], object]]
] = {
    InferRequest: (_encode_infer, _decode_infer),
    IsServerLive: (_get("/v2/health/live"), lambda _: True),
    IsServerReady: (_get("/v2/health/ready"), lambda _: True),
    IsModelReady: (_get_model("/ready"), lambda _: True),
    GetServerMetadata: (_get("/v2"), _decode_server_metadata),
    GetModelMetadata: (_get_model(), _decode_model_metadata),
    GetModelConfig: (_get_model("/config"), _decode_config),
    GetStatistics: (_get_model("/stats"), _decode_statistics),
    GetRepositoryIndex: (
        lambda _: HttpRequest("POST", "/v2/repository/index", b"{}"),
        _decode_index,
    ),
    LoadModel: (_control("load"), lambda _: None),
    UnloadModel: (_control("unload"), lambda _: None),
}
