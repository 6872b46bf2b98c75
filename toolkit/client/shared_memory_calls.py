"""What is asked of a server about shared memory, and how both wires write it.

Triton's extension "system shared memory": a region is registered under a name, and tensors
of a request then say where in it they lie instead of coming along.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from toolkit.client.metadata import microseconds
from toolkit.client.transport import Call

_ROOT = "/v2/systemsharedmemory"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a region a tensor lies; sizes in bytes, ``shape`` with the batch axis."""

    datatype: str
    shape: tuple[int, ...]
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class RegisteredMemory:
    """One region that a server has mapped."""

    name: str
    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class SharedResponse:
    """Which outputs now lie in the region: name to data type and shape."""

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class RegisterSharedMemory(Call[None]):
    """Map this POSIX shared memory; ``key`` is its name there, with a slash before it."""

    name: str
    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class UnregisterSharedMemory(Call[None]):
    """Let go of a region; a name that is not registered is fine."""

    name: str


@dataclass(frozen=True, slots=True)
class GetSharedMemoryStatus(Call[tuple[RegisteredMemory, ...]]):
    """Which regions are mapped?"""


@dataclass(frozen=True, slots=True)
class InferShared(Call[SharedResponse]):
    """Run a model once on tensors that lie in ``region``, where its answers go too."""

    model: str
    region: str
    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]
    version: str | None = None
    request_id: str | None = None
    priority: int | None = None


def _post(path: str, said: Mapping[str, Any]) -> tuple[str, bytes]:
    return path, json.dumps(said).encode()


def _register_http(call: RegisterSharedMemory, _: float) -> tuple[str, bytes]:
    said = {"key": call.key, "offset": call.offset, "byte_size": call.byte_size}
    return _post(f"{_ROOT}/region/{quote(call.name, safe='')}/register", said)


def _unregister_http(call: UnregisterSharedMemory, _: float) -> tuple[str, bytes]:
    return _post(f"{_ROOT}/region/{quote(call.name, safe='')}/unregister", {})


def _status_from_http(body: bytes) -> tuple[RegisteredMemory, ...]:
    return tuple(
        RegisteredMemory(line["name"], line["key"], int(line["offset"]), int(line["byte_size"]))
        for line in json.loads(body)
    )


def _infer_http(call: InferShared, timeout: float) -> tuple[str, bytes]:
    version = f"/versions/{quote(call.version, safe='')}" if call.version else ""
    said: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "datatype": place.datatype,
                "shape": place.shape,
                "parameters": _parameters(call, place),
            }
            for name, place in call.inputs.items()
        ],
        "outputs": [
            {"name": name, "parameters": _parameters(call, place)}
            for name, place in call.outputs.items()
        ],
        "parameters": {"timeout": microseconds(timeout)},
    }
    if call.priority is not None:
        said["parameters"]["priority"] = call.priority
    if call.request_id is not None:
        said["id"] = call.request_id
    return _post(f"/v2/models/{quote(call.model, safe='')}{version}/infer", said)


def _parameters(call: InferShared, place: Place) -> dict[str, Any]:
    return {
        "shared_memory_region": call.region,
        "shared_memory_offset": place.offset,
        "shared_memory_byte_size": place.byte_size,
    }


def _infer_from_http(body: bytes) -> SharedResponse:
    said = json.loads(body)
    outputs = {
        output["name"]: (output["datatype"], tuple(output["shape"])) for output in said["outputs"]
    }
    return SharedResponse(said["model_name"], said["model_version"], said.get("id", ""), outputs)


def _register_grpc(call: RegisterSharedMemory, _: float) -> Any:
    from tritonclient.grpc import service_pb2 as pb

    return pb.SystemSharedMemoryRegisterRequest(
        name=call.name, key=call.key, offset=call.offset, byte_size=call.byte_size
    )


def _unregister_grpc(call: UnregisterSharedMemory, _: float) -> Any:
    from tritonclient.grpc import service_pb2 as pb

    return pb.SystemSharedMemoryUnregisterRequest(name=call.name)


def _status_grpc(_: GetSharedMemoryStatus, __: float) -> Any:
    from tritonclient.grpc import service_pb2 as pb

    return pb.SystemSharedMemoryStatusRequest()


def _status_from_grpc(reply: Any) -> tuple[RegisteredMemory, ...]:
    return tuple(
        RegisteredMemory(name, line.key, line.offset, line.byte_size)
        for name, line in reply.regions.items()
    )


def _infer_grpc(call: InferShared, timeout: float) -> Any:
    from tritonclient.grpc import service_pb2 as pb

    message = pb.ModelInferRequest(
        model_name=call.model, model_version=call.version or "", id=call.request_id or ""
    )
    for name, place in call.inputs.items():
        tensor = message.inputs.add(name=name, datatype=place.datatype, shape=place.shape)
        _place_grpc(tensor, call, place)
    for name, place in call.outputs.items():
        _place_grpc(message.outputs.add(name=name), call, place)
    message.parameters["timeout"].int64_param = microseconds(timeout)
    if call.priority is not None:
        message.parameters["priority"].uint64_param = call.priority
    return message


def _place_grpc(tensor: Any, call: InferShared, place: Place) -> None:
    tensor.parameters["shared_memory_region"].string_param = call.region
    tensor.parameters["shared_memory_offset"].int64_param = place.offset
    tensor.parameters["shared_memory_byte_size"].int64_param = place.byte_size


def _infer_from_grpc(reply: Any) -> SharedResponse:
    outputs = {output.name: (output.datatype, tuple(output.shape)) for output in reply.outputs}
    return SharedResponse(reply.model_name, reply.model_version, reply.id, outputs)


EncodeHttp = Callable[[Any, float], tuple[str, bytes | None]]
DecodeHttp = Callable[[bytes], object]

HTTP: Mapping[type[Call[Any]], tuple[EncodeHttp, DecodeHttp]] = {
    RegisterSharedMemory: (_register_http, lambda _: None),
    UnregisterSharedMemory: (_unregister_http, lambda _: None),
    GetSharedMemoryStatus: (lambda _, __: (f"{_ROOT}/status", None), _status_from_http),
    InferShared: (_infer_http, _infer_from_http),
}
"""Call to path and body (none is GET), and the body of a reply to the answer."""

GRPC: Mapping[type[Call[Any]], tuple[str, Callable[[Any, float], Any], Callable[[Any], object]]] = {
    RegisterSharedMemory: ("SystemSharedMemoryRegister", _register_grpc, lambda _: None),
    UnregisterSharedMemory: ("SystemSharedMemoryUnregister", _unregister_grpc, lambda _: None),
    GetSharedMemoryStatus: ("SystemSharedMemoryStatus", _status_grpc, _status_from_grpc),
    InferShared: ("ModelInfer", _infer_grpc, _infer_from_grpc),
}
"""Call to method, message, and the reply to the answer."""
