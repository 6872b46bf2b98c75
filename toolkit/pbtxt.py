"""``config.pbtxt``: from the vocabulary to Triton's protobuf message and back.

The message is built with Triton's own ``ModelConfig`` and printed by protobuf, so what
is written always parses. The batch axis is added in one place, ``_config_shape``.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from toolkit.artifact import WarmupInput
from toolkit.errors import ConfigError
from toolkit.spec import (
    DType,
    InstanceKind,
    ModelSpec,
    ServingConfig,
    TensorSpec,
    TimeoutAction,
    VersionPolicy,
)

# Our own key among the backend parameters, which every backend ignores when it does not
# know it: says that the first of the written dims is the batch axis.
_EXPLICIT_BATCH = "explicit_batch_axis"

FEATURE_NAMES = "feature_names"
"""The same, for the names of the columns of a model's one input, as a JSON list."""

CLASS_NAMES = "class_names"
"""The same, for the classes that the values of ``probabilities`` and the like stand for."""


def to_text(
    spec: ModelSpec, serving: ServingConfig, warmup: Mapping[str, WarmupInput] | None = None
) -> str:
    """Return ``config.pbtxt`` for ``spec`` served as ``serving`` says.

    ``warmup`` maps each input name to one row of it; without it no warm-up is written.
    Raises ``ConfigError`` when the two do not fit each other.
    """
    from google.protobuf import text_format

    return str(text_format.MessageToString(to_message(spec, serving, warmup or {})))


def to_message(spec: ModelSpec, serving: ServingConfig, warmup: Mapping[str, WarmupInput]) -> Any:
    """Return Triton's ``ModelConfig`` message; see ``to_text``."""
    from tritonclient.grpc import model_config_pb2

    if not spec.batched and serving.max_batch_size:
        msg = f"model {spec.name!r} has no batch axis, so max_batch_size must be 0"
        raise ConfigError(msg)
    if spec.backend == "fil" and not serving.max_batch_size:
        msg = f"model {spec.name!r}: the fil backend needs a max_batch_size above 0"
        raise ConfigError(msg)
    message = model_config_pb2.ModelConfig(
        name=spec.name,
        backend=spec.backend,
        max_batch_size=serving.max_batch_size,
        default_model_filename=spec.model_file,
    )
    for tensor in spec.inputs:
        _write_tensor(message.input.add(), tensor, spec, serving)
    for tensor in spec.outputs:
        _write_tensor(message.output.add(), tensor, spec, serving)
    _write_batching(message, serving)
    _write_instances(message, serving)
    _write_version_policy(message.version_policy, serving.version_policy)
    if serving.response_cache:
        message.response_cache.enable = True
    _write_parameters(message, spec, serving)
    _write_warmup(message, spec, serving, warmup)
    return message


def parse(text: str) -> tuple[ModelSpec, ServingConfig]:
    """Read a ``config.pbtxt`` back into the vocabulary.

    Raises ``ConfigError`` for text that is no model configuration, or that holds what
    the vocabulary has no word for (an ensemble, another backend).
    """
    return from_message(parse_message(text))


def parse_message(text: str) -> Any:
    """Read any ``config.pbtxt`` into Triton's ``ModelConfig`` message."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        msg = f"config.pbtxt does not parse: {error}"
        raise ConfigError(msg) from error


def from_message(message: Any) -> tuple[ModelSpec, ServingConfig]:
    """Return what ``message`` says, in the vocabulary; see ``parse``."""
    parameters = {key: value.string_value for key, value in message.parameters.items()}
    explicit = parameters.get(_EXPLICIT_BATCH) == "true"
    spec = ModelSpec(
        name=message.name,
        backend=message.backend,
        inputs=tuple(_read_tensor(tensor, explicit=explicit) for tensor in message.input),
        outputs=tuple(_read_tensor(tensor, explicit=explicit) for tensor in message.output),
        batched=explicit or message.max_batch_size > 0,
        feature_names=tuple(json.loads(parameters.get(FEATURE_NAMES, "[]"))),
        class_names=tuple(json.loads(parameters.get(CLASS_NAMES, "[]"))),
        parameters=_told(message.backend, parameters),
    )
    return spec, _read_serving(message, parameters)


def _told(backend: str, parameters: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what the backend is told of the model itself: only FIL cannot see it in the file."""
    if backend != "fil":
        return ()
    ours = {_EXPLICIT_BATCH, FEATURE_NAMES, CLASS_NAMES, *_THREAD_PARAMETERS[backend].values()}
    return tuple(sorted((key, text) for key, text in parameters.items() if key not in ours))


def _config_shape(
    tensor: TensorSpec, spec: ModelSpec, serving: ServingConfig
) -> tuple[tuple[int, ...], bool]:
    """Return ``dims`` as Triton wants them, and whether they stand for a scalar.

    With ``max_batch_size`` above 0 Triton adds the batch axis itself; without, a model
    that has one must show it. ``dims: []`` is never legal, so one value a row is
    written as ``dims: [1]`` with an empty ``reshape``.
    """
    if spec.batched and serving.max_batch_size == 0:
        return (-1, *tensor.dims), False
    return (tensor.dims, False) if tensor.dims else ((1,), True)


def _data_types() -> Any:
    from tritonclient.grpc import model_config_pb2

    return model_config_pb2.DataType


def _write_tensor(
    message: Any, tensor: TensorSpec, spec: ModelSpec, serving: ServingConfig
) -> None:
    dims, scalar = _config_shape(tensor, spec, serving)
    message.name = tensor.name
    message.data_type = _data_types().Value(tensor.dtype.config_name)
    message.dims.extend(dims)
    if scalar:
        message.reshape.SetInParent()


def _read_tensor(message: Any, *, explicit: bool) -> TensorSpec:
    dims = tuple(message.reshape.shape if message.HasField("reshape") else message.dims)
    name = _data_types().Name(message.data_type)
    try:
        dtype = DType.from_config_name(name)
    except ValueError:
        msg = f"tensor {message.name!r}: data type {name} is not supported"
        raise ConfigError(msg) from None
    return TensorSpec(message.name, dtype, dims[1:] if explicit else dims)


def _write_batching(message: Any, serving: ServingConfig) -> None:
    if not (serving.dynamic_batching and serving.max_batch_size):
        return
    batching = message.dynamic_batching
    batching.SetInParent()
    batching.max_queue_delay_microseconds = serving.max_queue_delay_microseconds
    batching.preferred_batch_size.extend(serving.preferred_batch_size)
    batching.preserve_ordering = serving.preserve_ordering
    batching.priority_levels = serving.priority_levels
    batching.default_priority_level = serving.default_priority_level
    policy = type(batching.default_queue_policy)(
        timeout_action=serving.timeout_action.value,
        default_timeout_microseconds=serving.default_timeout_microseconds,
        allow_timeout_override=serving.allow_timeout_override,
        max_queue_size=serving.max_queue_size,
    )
    if policy.ByteSize():
        batching.default_queue_policy.CopyFrom(policy)


def _write_instances(message: Any, serving: ServingConfig) -> None:
    # Without a group the core chooses two instances for onnxruntime on CPU.
    group = message.instance_group.add()
    group.count = serving.instance_count
    group.kind = group.Kind.Value(serving.instance_kind.value)
    group.gpus.extend(serving.gpus)


def _write_version_policy(message: Any, policy: VersionPolicy) -> None:
    if policy.all:
        message.all.SetInParent()
    elif policy.specific:
        message.specific.versions.extend(policy.specific)
    else:
        message.latest.num_versions = policy.latest


def _write_parameters(message: Any, spec: ModelSpec, serving: ServingConfig) -> None:
    known = _THREAD_PARAMETERS[spec.backend]
    for option in ("intra_op_thread_count", "inter_op_thread_count", "execution_mode"):
        value = getattr(serving, option)
        if value is None:
            continue
        if option not in known:
            msg = f"model {spec.name!r}: the {spec.backend} backend has no {option}"
            raise ConfigError(msg, hint=_NO_PARAMETER.get((spec.backend, option)))
        message.parameters[known[option]].string_value = str(value)
    if spec.batched and serving.max_batch_size == 0:
        message.parameters[_EXPLICIT_BATCH].string_value = "true"
    for key, text in spec.parameters:
        message.parameters[key].string_value = text
    for key, names in ((FEATURE_NAMES, spec.feature_names), (CLASS_NAMES, spec.class_names)):
        if names:
            message.parameters[key].string_value = json.dumps(names, ensure_ascii=False)


_THREAD_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "onnxruntime": {
        "intra_op_thread_count": "intra_op_thread_count",
        "inter_op_thread_count": "inter_op_thread_count",
        "execution_mode": "execution_mode",
    },
    "pytorch": {"intra_op_thread_count": "INTRA_OP_THREAD_COUNT"},
    "python": {},
    "fil": {"intra_op_thread_count": "cpu_nthread"},
}
_NO_PARAMETER = {
    ("pytorch", "inter_op_thread_count"): "its INTER_OP_THREAD_COUNT aborts the whole server"
    " when a second model sets it, so it is never written",
}


def thread_options(backend: str) -> frozenset[str]:
    """Return the thread options of ``ServingConfig`` that ``backend`` understands."""
    return frozenset(_THREAD_PARAMETERS[backend])


def thread_parameter(backend: str, option: str) -> str | None:
    """Return the parameter under which ``backend`` takes a thread option, or None."""
    return _THREAD_PARAMETERS.get(backend, {}).get(option)


def _write_warmup(
    message: Any, spec: ModelSpec, serving: ServingConfig, warmup: Mapping[str, WarmupInput]
) -> None:
    if not warmup:
        return
    for size in serving.warmup_batch_sizes:
        sample = message.model_warmup.add()
        sample.name = f"batch_{size}"
        sample.batch_size = size
        for tensor in spec.inputs:
            row = warmup[tensor.name]
            explicit = spec.batched and serving.max_batch_size == 0
            entry = sample.inputs[tensor.name]
            entry.data_type = _data_types().Value(tensor.dtype.config_name)
            entry.dims.extend((1, *row.dims) if explicit else row.dims or (1,))
            entry.input_data_file = warmup_file(tensor.name)


def warmup_file(input_name: str) -> str:
    """Return the name, in the entry's ``warmup`` folder, of the row of an input."""
    return quote(input_name, safe="").replace(".", "%2E")


def _read_serving(message: Any, parameters: Mapping[str, str]) -> ServingConfig:
    batching = message.dynamic_batching
    policy = batching.default_queue_policy
    group = message.instance_group[0] if message.instance_group else None
    threads = {
        option: int(parameters[key])
        for option, key in _THREAD_PARAMETERS[message.backend].items()
        if key in parameters
    }
    return ServingConfig(
        max_batch_size=message.max_batch_size,
        dynamic_batching=message.HasField("dynamic_batching"),
        max_queue_delay_microseconds=batching.max_queue_delay_microseconds,
        preferred_batch_size=tuple(batching.preferred_batch_size),
        preserve_ordering=batching.preserve_ordering,
        max_queue_size=policy.max_queue_size,
        default_timeout_microseconds=policy.default_timeout_microseconds,
        timeout_action=TimeoutAction(policy.TimeoutAction.Name(policy.timeout_action)),
        allow_timeout_override=policy.allow_timeout_override,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
        instance_count=group.count if group else 1,
        instance_kind=InstanceKind(group.Kind.Name(group.kind))
        if group
        else InstanceKind.KIND_AUTO,
        gpus=tuple(group.gpus) if group else (),
        version_policy=_read_version_policy(message.version_policy),
        response_cache=message.response_cache.enable,
        warmup_batch_sizes=tuple(sample.batch_size for sample in message.model_warmup),
        **threads,
    )


def _read_version_policy(message: Any) -> VersionPolicy:
    if message.HasField("all"):
        return VersionPolicy(all=True)
    if message.HasField("specific"):
        return VersionPolicy(specific=tuple(message.specific.versions))
    return VersionPolicy(latest=message.latest.num_versions or 1)
