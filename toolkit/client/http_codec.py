"""The V2 protocol over HTTP: a call to a request, a reply to its answer or its error.

Tensors are binary both ways (Triton's extension "binary tensor data").
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from toolkit.client.metadata import check_priority, microseconds, parse_retry_after
from toolkit.client.refusals import refusal
from toolkit.client.shared_memory_calls import HTTP as SHARED_MEMORY
from toolkit.client.tensors import datatype_of, from_binary, to_binary
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
    TensorMetadata,
    UnloadModel,
)
from toolkit.errors import (
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    RequestError,
    ServerError,
    UnavailableError,
    UnknownModelError,
)

_HEADER_LENGTH = "inference-header-content-length"
_OK = 200
_NO = 400  # Triton's "no" to a question of readiness, with or without a text
_NOT_FOUND = 404
_QUESTIONS = (IsServerLive, IsServerReady, IsModelReady)

# Triton's own codes are 400, 404, 500, 501 and 503; the rest come from what stands between.
STATUSES: Mapping[int, type[RequestError]] = {
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


class HttpRequest(NamedTuple):
    """A question, ready to be sent: no body is GET, a body is POST."""

    path: str
    body: bytes | None = None
    headers: tuple[str, ...] = ()


class HttpReply(NamedTuple):
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def encode(call: Call[Any], timeout: float) -> HttpRequest:
    """Return the request that asks ``call``, which has ``timeout`` seconds."""
    return EXCHANGES[type(call)][0](call, timeout)


def decode(call: Call[Answer], reply: HttpReply) -> Answer:
    """Return the answer to ``call``, or raise what the reply says instead."""
    if reply.status == _NO and isinstance(call, _QUESTIONS):
        return cast("Answer", False)
    if reply.status != _OK:
        raise _refused(reply)
    try:
        return cast("Answer", EXCHANGES[type(call)][1](reply))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServerError(
            f"the answer is not of the V2 protocol: {_start(reply.body)}",
            hint="is this the HTTP port of a Triton?",
            status=reply.status,
        ) from error


def parse_headers(lines: list[bytes]) -> Mapping[str, str]:
    """Return the headers of the last block among ``lines``; a 1xx reply sends one before it."""
    headers: dict[str, str] = {}
    for line in b"".join(lines).decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
        elif name.startswith("HTTP/"):
            headers = {}
    return headers


def _refused(reply: HttpReply) -> RequestError:
    status, retry_after = reply.status, parse_retry_after(reply.headers.get("retry-after"))
    kind = STATUSES.get(status, ServerError)
    try:
        message = str(json.loads(reply.body)["error"])
    except (ValueError, LookupError, TypeError):
        # A proxy's page. Its 404 says nothing about a model.
        kind = ServerError if status == _NOT_FOUND else kind
        return kind(
            f"answered {status} with {_start(reply.body)}",
            hint="something between here and Triton answered: check the URL",
            status=status,
            retry_after=retry_after,
        )
    return refusal(message, kind, status=status, retry_after=retry_after)


def _start(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return repr(text[:80]) if text else "no text"


def _model_path(model: str, version: str | None, rest: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}{rest}" if version else path + rest


@lru_cache(maxsize=512)
def _infer_head(
    model: str,
    version: str | None,
    outputs: tuple[str, ...],
    inputs: tuple[tuple[str, str, tuple[int, ...], int], ...],
) -> tuple[str, str]:
    """Return the path and the beginning of the JSON, which many requests have in common."""
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "datatype": datatype,
                "shape": shape,
                "parameters": {"binary_data_size": size},
            }
            for name, datatype, shape, size in inputs
        ]
    }
    if outputs:
        # Triton 2.51 ignores binary_data_output of the request once outputs are listed.
        head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    begun = json.dumps(head)[:-1]
    return _model_path(model, version, "/infer"), f'{begun}, "parameters": {{"binary_data_output": '


def _encode_infer(call: InferRequest, timeout: float) -> HttpRequest:
    tensors = [to_binary(array) for array in call.inputs.values()]
    inputs = tuple(
        [
            (name, datatype_of(array), array.shape, len(data))
            for (name, array), data in zip(call.inputs.items(), tensors, strict=True)
        ]
    )
    path, head = _infer_head(call.model, call.version, call.outputs, inputs)
    text = f'{head}true, "timeout": {microseconds(timeout)}'
    if call.priority is not None:
        check_priority(call.priority)
        text += f', "priority": {call.priority}'
    text += "}}" if call.request_id is None else f'}}, "id": {json.dumps(call.request_id)}}}'
    return HttpRequest(
        path,
        b"".join((text.encode(), *tensors)),
        (f"{_HEADER_LENGTH}: {len(text)}", "content-type: application/octet-stream"),
    )


def _decode_infer(reply: HttpReply) -> InferResponse:
    position = int(reply.headers.get(_HEADER_LENGTH, len(reply.body)))
    head = json.loads(reply.body[:position].decode())
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


Encode = Callable[[Any, float], HttpRequest]
Decode = Callable[[HttpReply], object]


def _get(path: str) -> Encode:
    return lambda _, __: HttpRequest(path)


def _get_model(rest: str = "") -> Encode:
    return lambda call, _: HttpRequest(_model_path(call.model, call.version, rest))


def _control(action: str) -> Encode:
    return lambda call, _: HttpRequest(
        f"/v2/repository/models/{quote(call.model, safe='')}/{action}", _override(call)
    )


def _override(call: LoadModel | UnloadModel) -> bytes:
    config = call.config if isinstance(call, LoadModel) else None
    said = {} if config is None else {"parameters": {"config": json.dumps(config)}}
    return json.dumps(said).encode()


def _shared(
    encoder: Callable[[Any, float], tuple[str, bytes | None]], decoder: Callable[[bytes], object]
) -> tuple[Encode, Decode]:
    return lambda call, timeout: HttpRequest(*encoder(call, timeout)), lambda reply: decoder(
        reply.body
    )


EXCHANGES: Mapping[type[Call[Any]], tuple[Encode, Decode]] = {
    InferRequest: (_encode_infer, _decode_infer),
    IsServerLive: (_get("/v2/health/live"), lambda _: True),
    IsServerReady: (_get("/v2/health/ready"), lambda _: True),
    IsModelReady: (_get_model("/ready"), lambda _: True),
    GetServerMetadata: (_get("/v2"), _decode_server_metadata),
    GetModelMetadata: (_get_model(), _decode_model_metadata),
    GetModelConfig: (_get_model("/config"), _decode_config),
    GetStatistics: (_get_model("/stats"), _decode_statistics),
    GetRepositoryIndex: (lambda _, __: HttpRequest("/v2/repository/index", b"{}"), _decode_index),
    LoadModel: (_control("load"), lambda _: None),
    UnloadModel: (_control("unload"), lambda _: None),
    **{kind: _shared(*pair) for kind, pair in SHARED_MEMORY.items()},
}
