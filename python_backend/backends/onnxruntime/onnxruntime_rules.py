"""What Triton's own ONNX Runtime backend accepts, fills in and reads from a config.

The rules are those of ``src/onnxruntime.cc`` and ``src/onnxruntime_utils.cc`` in
triton-inference-server/onnxruntime_backend, so that a model which loads here loads on
the C++ backend of the container too. Standard library only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

# The largest batch Triton fills in where a config names none (its default for
# --backend-config=default-max-batch-size, which a Python-based backend cannot see).
_DEFAULT_MAX_BATCH_SIZE = 4


class RefusedError(Exception):
    """The C++ backend would refuse this model or config."""


class ModelTensor(NamedTuple):
    """An input or output of the ONNX model; dynamic dimensions are -1."""

    name: str
    onnx_type: str
    shape: tuple[int, ...]

    @property
    def data_type(self) -> str | None:
        """The name in ``config.pbtxt``, ``None`` for a type Triton cannot carry."""
        return _TYPES.get(self.onnx_type)


class Model(NamedTuple):
    """The signature of an ONNX model; ``initializers`` are inputs that have a default."""

    inputs: tuple[ModelTensor, ...]
    initializers: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]


class Node(Protocol):
    """What ONNX Runtime tells of an input or output."""

    name: str
    type: str
    shape: Sequence[int | str | None]


class Settings(NamedTuple):
    """What a config asks of the ONNX Runtime session; ``None``: its own choice."""

    intra_op: int | None
    inter_op: int | None
    parallel: bool
    graph_level: int
    memory_arena: bool | None
    memory_pattern: bool | None
    device_allocator: str | None


def describe(session: Any) -> Model:
    """Read the signature of an ONNX Runtime session."""
    return Model(
        inputs=_tensors(session.get_inputs()),
        initializers=_tensors(session.get_overridable_initializers()),
        outputs=_tensors(session.get_outputs()),
    )


def _tensors(nodes: Iterable[Node]) -> tuple[ModelTensor, ...]:
    return tuple(
        ModelTensor(
            node.name,
            node.type,
            tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape),
        )
        for node in nodes
    )


def complete(config: dict[str, Any], model: Model) -> None:
    """Fill in what ``config`` leaves out, in place; one given in full is left as it is."""
    if config["input"] and config["output"]:
        return
    _refuse(config, _not_tensors(model))
    batches = all(
        tensor.shape and tensor.shape[0] == -1 for tensor in (*model.inputs, *model.outputs)
    )
    if not batches and config["max_batch_size"] > 0:
        problem = (
            f"max_batch_size is {config['max_batch_size']}, but not every input and output of"
            " the model has a dynamic first dimension; write max_batch_size: 0"
        )
        _refuse(config, [problem])
    if batches and config["max_batch_size"] == 0:
        config["max_batch_size"] = _DEFAULT_MAX_BATCH_SIZE
    schedulers = {"dynamic_batching", "sequence_batching"}
    if batches and config["max_batch_size"] > 1 and not schedulers & config.keys():
        config["dynamic_batching"] = {}
    for key, described in (("input", model.inputs), ("output", model.outputs)):
        if not config[key]:
            config[key] = [_entry(tensor, config["max_batch_size"]) for tensor in described]


def _entry(tensor: ModelTensor, max_batch_size: int) -> dict[str, Any]:
    dims = list(tensor.shape[1:] if max_batch_size > 0 else tensor.shape)
    entry: dict[str, Any] = {"name": tensor.name, "data_type": tensor.data_type, "dims": dims}
    if not dims:
        # A config cannot say dims: [], so one value a row is [1] to callers and [] to the model.
        entry["dims"] = [1]
        if max_batch_size > 0:
            entry["reshape"] = {"shape": []}
    return entry


def check(config: Mapping[str, Any], model: Model) -> None:
    """Raise ``RefusedError``, naming everything the C++ backend would refuse."""
    problems = [*_not_tensors(model), *_unsupported(config), *_wrong_accelerators(config)]
    problems += _wrong_inputs(config, model)
    problems += _wrong_outputs(config, model)
    _refuse(config, problems)


def _refuse(config: Mapping[str, Any], problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise RefusedError(f"model '{config['name']}': " + "; ".join(found))


def _not_tensors(model: Model) -> Iterator[str]:
    for kind, described in (("input", model.inputs), ("output", model.outputs)):
        for tensor in described:
            if not tensor.onnx_type.startswith("tensor("):
                yield (
                    f"{kind} '{tensor.name}' is a {tensor.onnx_type}, and Triton carries only"
                    " tensors; convert the model with ZipMap off (skl2onnx:"
                    " options={'zipmap': False})"
                )
            elif tensor.data_type is None:
                yield (
                    f"{kind} '{tensor.name}' is a {tensor.onnx_type}, which Triton has no type"
                    " for; cast it inside the model"
                )


def _unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what only the C++ backend does: refused here rather than done wrongly."""
    ours = "is not supported by the Python-based ONNX Runtime backend, only by Triton's own"
    for key in ("sequence_batching", "batch_input", "batch_output"):
        if config.get(key):
            yield f"{key} {ours}; leave it out"
    if config.get("model_transaction_policy", {}).get("decoupled"):
        yield f"decoupled {ours}; leave it out"
    for entry in config["input"]:
        if entry.get("allow_ragged_batch"):
            yield f"input '{entry['name']}': allow_ragged_batch {ours}; leave it out"


def _wrong_accelerators(config: Mapping[str, Any]) -> Iterator[str]:
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for accelerator in accelerators.get("cpu_execution_accelerator", []):
        yield (
            f"cpu_execution_accelerator '{accelerator['name']}' is not one that this ONNX Runtime"
            " has; leave it out"
        )


def _wrong_inputs(config: Mapping[str, Any], model: Model) -> Iterator[str]:
    known = {tensor.name: tensor for tensor in (*model.inputs, *model.initializers)}
    required = {tensor.name for tensor in model.inputs}
    listed = {entry["name"] for entry in config["input"]}
    for tensor in model.inputs:
        if tensor.name not in listed:
            yield (
                f"input '{tensor.name}' of the model is missing from the config; write"
                f" {_written(tensor, config['max_batch_size'])}"
            )
    for entry in config["input"]:
        name, optional = entry["name"], entry.get("optional", False)
        if name not in known:
            yield f"input '{name}' is not in the model, which has {_names(model.inputs)}; remove it"
        elif optional and (config["max_batch_size"] > 0 or name in required):
            yield (
                f"input '{name}' is optional: true, which needs max_batch_size: 0 and a default in"
                " the model; leave it out"
            )
        elif not optional and name not in required:
            yield f"input '{name}' has a default in the model; leave it out of the config"
        else:
            yield from _wrong_entry("input", entry, known[name], config["max_batch_size"])


def _wrong_outputs(config: Mapping[str, Any], model: Model) -> Iterator[str]:
    known = {tensor.name: tensor for tensor in model.outputs}
    if not config["output"]:
        yield f"the config lists no output; the model has {_names(model.outputs)}"
    for entry in config["output"]:
        name = entry["name"]
        if name not in known:
            yield (
                f"output '{name}' is not in the model, which has {_names(model.outputs)}; remove it"
            )
        else:
            yield from _wrong_entry("output", entry, known[name], config["max_batch_size"])


def _wrong_entry(
    kind: str, entry: Mapping[str, Any], tensor: ModelTensor, max_batch_size: int
) -> Iterator[str]:
    if tensor.data_type is None:
        return  # already refused for the model's own sake
    if entry["data_type"] != tensor.data_type:
        yield (
            f"{kind} '{tensor.name}' is {tensor.data_type} in the model and {entry['data_type']}"
            f" in the config; write data_type: {tensor.data_type}"
        )
    if max_batch_size > 0 and tensor.shape[:1] != (-1,):
        yield (
            f"{kind} '{tensor.name}' has the shape {list(tensor.shape)} in the model, whose first"
            f" dimension must be dynamic (-1) for max_batch_size: {max_batch_size}; export the"
            " model with a dynamic batch or write max_batch_size: 0"
        )
    elif not _dims_fit(kind, entry, tensor, max_batch_size):
        yield (
            f"{kind} '{tensor.name}' has the shape {list(tensor.shape)} in the model and"
            f" {_shape_in(entry)} in the config with max_batch_size: {max_batch_size}; write"
            f" {_dims(tensor, max_batch_size)}"
        )


def _dims_fit(
    kind: str, entry: Mapping[str, Any], tensor: ModelTensor, max_batch_size: int
) -> bool:
    dims = entry["reshape"]["shape"] if "reshape" in entry else entry["dims"]
    if not tensor.shape:  # a scalar travels as ones
        return all(dim == 1 for dim in dims)
    wanted = tensor.shape[1:] if max_batch_size > 0 else tensor.shape
    # A dynamic dimension of an input may be narrowed; of an output it may not.
    return len(dims) == len(wanted) and all(
        dim == want or (want == -1 and kind == "input")
        for dim, want in zip(dims, wanted, strict=True)
    )


def _shape_in(entry: Mapping[str, Any]) -> str:
    reshaped = f" reshape {{ shape: {entry['reshape']['shape']} }}" if "reshape" in entry else ""
    return f"dims: {entry['dims']}{reshaped}"


def _dims(tensor: ModelTensor, max_batch_size: int) -> str:
    return _shape_in({"dims": [1], **_entry(tensor, max_batch_size)})


def _written(tensor: ModelTensor, max_batch_size: int) -> str:
    data_type = tensor.data_type or "a type Triton knows"
    dims = _dims(tensor, max_batch_size)
    return f'{{ name: "{tensor.name}" data_type: {data_type} {dims} }}'


def _names(described: Iterable[ModelTensor]) -> str:
    return ", ".join(f"'{tensor.name}'" for tensor in described) or "none"


def settings(config: Mapping[str, Any]) -> Settings:
    """Read the session's settings; raise ``RefusedError`` for a value that is not one.

    Keys and values are those of the C++ backend. Other parameters are ignored, as there.
    """
    texts = {
        key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()
    }
    level = config.get("optimization", {}).get("graph", {}).get("level", 0)
    execution_mode = _number(config, texts, "execution_mode")
    if execution_mode not in {None, 0, 1}:
        _refuse(config, [f"parameter execution_mode is {execution_mode}; write 0 or 1"])
    _flag(config, texts, "share_session_between_instances")  # each instance is a process here
    return Settings(
        intra_op=_number(config, texts, "intra_op_thread_count"),
        inter_op=_number(config, texts, "inter_op_thread_count"),
        parallel=execution_mode == 1,
        graph_level=int(level),
        memory_arena=_flag(config, texts, "enable_mem_arena"),
        memory_pattern=_flag(config, texts, "enable_mem_pattern"),
        device_allocator=texts.get("session.use_device_allocator_for_initializers"),
    )


def _number(config: Mapping[str, Any], texts: Mapping[str, str], key: str) -> int | None:
    if key not in texts:
        return None
    if not re.fullmatch(r"\s*[+-]?[0-9]+", texts[key]):
        _refuse(config, [f"parameter {key} is '{texts[key]}'; write a whole number"])
    return int(texts[key])


def _flag(config: Mapping[str, Any], texts: Mapping[str, str], key: str) -> bool | None:
    if key not in texts:
        return None
    text = texts[key].lower()
    if text not in {"1", "0", "true", "false"}:
        _refuse(config, [f"parameter {key} is '{texts[key]}'; write true or false"])
    return text in {"1", "true"}
