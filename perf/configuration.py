"""A candidate's changes, made to a model configuration."""

import json
from collections.abc import Mapping
from typing import Any

from perf.candidates import Candidate
from toolkit import pbtxt
from toolkit.errors import ConfigError


def changed(config: Mapping[str, Any], candidate: Candidate) -> dict[str, Any]:
    """Return ``config``, in Triton's JSON, with what ``candidate`` changes.

    Raises ``ConfigError`` where the model has no room for a change.
    """
    message = _message(config)
    change(message, candidate)
    return plain(message)


def change(message: Any, candidate: Candidate) -> None:
    """Make the changes of ``candidate`` to a ``ModelConfig`` message; see ``changed``."""
    if candidate.max_batch_size is not None:
        _set_max_batch_size(message, candidate.max_batch_size)
    if candidate.dynamic_batching is False:
        message.ClearField("dynamic_batching")
    elif candidate.dynamic_batching:
        _require_batches(message, "dynamic_batching")
        message.dynamic_batching.SetInParent()
    _set_batcher(message, candidate)
    if candidate.instance_count is not None:
        _set_instances(message, candidate.instance_count)
    if candidate.intra_op_thread_count is not None:
        key = pbtxt.thread_parameter(message.backend, "intra_op_thread_count")
        if key is None:
            raise _no_room(message, f"the {message.backend} backend has no thread count")
        message.parameters[key].string_value = str(candidate.intra_op_thread_count)
    if candidate.response_cache is not None:
        message.response_cache.enable = candidate.response_cache


def plain(message: Any) -> dict[str, Any]:
    """Return a ``ModelConfig`` message in Triton's JSON."""
    from google.protobuf import json_format

    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations say the same, however their numbers are spelled."""
    return bool(_message(one) == _message(other))


def same_but_for_candidates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations are the same but for what a candidate can change."""
    return bool(_unchangeable(one) == _unchangeable(other))


def backend(config: Mapping[str, Any]) -> str:
    """Return the name of the model's backend; empty for an ensemble."""
    return str(config.get("backend") or "")


def batches(config: Mapping[str, Any]) -> bool:
    """Whether Triton may join requests to the model."""
    return int(config.get("max_batch_size") or 0) > 0


def _set_max_batch_size(message: Any, size: int) -> None:
    if bool(size) != bool(message.max_batch_size):
        raise _no_room(message, "a max_batch_size of 0 and one above it have other shapes")
    message.max_batch_size = size
    # Triton refuses to prefer more rows than may be joined, and 2.51 says of its own accord
    # that it prefers as many as may.
    preferred = message.dynamic_batching.preferred_batch_size
    fitting = [rows for rows in preferred if rows <= size]
    if fitting != list(preferred):
        preferred[:] = fitting
    warmups = [one for one in message.model_warmup if one.batch_size <= size]
    if len(warmups) != len(message.model_warmup):
        kept = [type(one).FromString(one.SerializeToString()) for one in warmups]
        del message.model_warmup[:]
        message.model_warmup.extend(kept)


def _set_batcher(message: Any, candidate: Candidate) -> None:
    delay, preferred = candidate.max_queue_delay_microseconds, candidate.preferred_batch_size
    if delay is None and preferred is None:
        return
    if not message.HasField("dynamic_batching"):
        raise _no_room(message, "a queue delay and preferred sizes belong to dynamic batching")
    if delay is not None:
        message.dynamic_batching.max_queue_delay_microseconds = delay
    if preferred is not None:
        too_large = [rows for rows in preferred if rows > message.max_batch_size]
        if too_large:
            raise _no_room(
                message, f"it may join {message.max_batch_size} rows, not {too_large[0]}"
            )
        message.dynamic_batching.preferred_batch_size[:] = preferred


def _require_batches(message: Any, name: str) -> None:
    if not message.max_batch_size:
        raise _no_room(message, f"{name} needs a max_batch_size above 0")


def _set_instances(message: Any, count: int) -> None:
    if len(message.instance_group) > 1:
        raise _no_room(message, "it has several instance groups, which are set by hand")
    group = message.instance_group[0] if message.instance_group else message.instance_group.add()
    group.count = count


def _no_room(message: Any, reason: str) -> ConfigError:
    return ConfigError(
        f"model {message.name!r}: {reason}", hint="leave this setting out of the search"
    )


def _unchangeable(config: Mapping[str, Any]) -> Any:
    message = _message(config)
    key = pbtxt.thread_parameter(message.backend, "intra_op_thread_count")
    if key is not None and key in message.parameters:
        del message.parameters[key]
    for group in message.instance_group:
        group.count = 0
    # A batcher goes, and comes back, with all that is written in it; warm-ups go with the
    # batches they are too large for.
    for name in ("max_batch_size", "dynamic_batching", "response_cache", "model_warmup"):
        message.ClearField(name)
    return message


def _message(config: Mapping[str, Any]) -> Any:
    from google.protobuf import json_format
    from tritonclient.grpc import model_config_pb2

    # A server may be newer than these definitions.
    return json_format.Parse(
        json.dumps(config), model_config_pb2.ModelConfig(), ignore_unknown_fields=True
    )
