from dataclasses import fields, replace

import pytest

from toolkit import pbtxt
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

SPEC = ModelSpec(
    "churn",
    "onnxruntime",
    (TensorSpec("age", DType.FP64, (1,)), TensorSpec("city", DType.BYTES, (1,))),
    (TensorSpec("label", DType.BYTES, ()), TensorSpec("probabilities", DType.FP32, (2,))),
)
WARMUP = {"age": WarmupInput((1,), bytes(8)), "city": WarmupInput((1,), b"\x01\0\0\0x")}

# One value that is not the default for every serving option there is.
OTHER = {
    "max_batch_size": 128,
    "dynamic_batching": False,
    "max_queue_delay_microseconds": 500,
    "preferred_batch_size": (8, 64),
    "preserve_ordering": True,
    "max_queue_size": 100,
    "default_timeout_microseconds": 10_000,
    "timeout_action": TimeoutAction.DELAY,
    "allow_timeout_override": True,
    "priority_levels": 3,
    "default_priority_level": 2,
    "instance_count": 2,
    "instance_kind": InstanceKind.KIND_GPU,
    "gpus": (0, 1),
    "version_policy": VersionPolicy(specific=(1, 3)),
    "response_cache": True,
    "warmup_batch_sizes": (1, 16),
    "intra_op_thread_count": 4,
    "inter_op_thread_count": 2,
    "execution_mode": 1,
}


def test_no_serving_option_is_forgotten_here() -> None:
    assert set(OTHER) == {field.name for field in fields(ServingConfig)}


@pytest.mark.parametrize("name", list(OTHER))
def test_each_option_survives_writing_and_parsing(name: str) -> None:
    options = {name: OTHER[name]}
    if name == "gpus":
        options["instance_kind"] = InstanceKind.KIND_GPU
    if name == "default_priority_level":
        options["priority_levels"] = 3
    serving = ServingConfig(**options)  # type: ignore[arg-type]
    assert serving != ServingConfig()
    assert pbtxt.parse(pbtxt.to_text(SPEC, serving, WARMUP)) == (SPEC, serving)


@pytest.mark.parametrize("max_batch_size", [0, 1, 256])
def test_the_model_survives_with_and_without_batching(max_batch_size: int) -> None:
    serving = ServingConfig(max_batch_size=max_batch_size)
    assert pbtxt.parse(pbtxt.to_text(SPEC, serving, WARMUP)) == (SPEC, serving)


def test_the_names_of_columns_and_classes_survive() -> None:
    one = (TensorSpec("input", DType.FP32, (2,)),)
    spec = replace(SPEC, inputs=one, feature_names=("age", 'h "ö" t'), class_names=("ja", "nö"))
    serving = ServingConfig(warmup_batch_sizes=())
    assert pbtxt.parse(pbtxt.to_text(spec, serving)) == (spec, serving)


def test_a_label_is_written_as_one_value_reshaped_to_none() -> None:
    message = pbtxt.to_message(SPEC, ServingConfig(), WARMUP)
    assert list(message.output[0].dims) == [1]
    assert message.output[0].HasField("reshape")
    assert list(message.output[0].reshape.shape) == []


def test_without_batching_the_batch_axis_is_written_out() -> None:
    message = pbtxt.to_message(SPEC, ServingConfig(max_batch_size=0), WARMUP)
    assert [list(tensor.dims) for tensor in message.output] == [[-1], [-1, 2]]
    assert list(message.model_warmup[0].inputs["age"].dims) == [1, 1]


def test_instances_are_always_written_because_triton_would_start_two() -> None:
    message = pbtxt.to_message(SPEC, ServingConfig(), {})
    assert [group.count for group in message.instance_group] == [1]


def test_a_model_without_a_batch_axis_is_not_batched() -> None:
    with pytest.raises(ConfigError, match="no batch axis"):
        pbtxt.to_text(replace(SPEC, batched=False), ServingConfig())


def test_the_thread_parameter_of_torch_that_aborts_the_server_is_never_written() -> None:
    spec = replace(SPEC, backend="pytorch")
    with pytest.raises(ConfigError, match="no inter_op_thread_count") as caught:
        pbtxt.to_text(spec, ServingConfig(inter_op_thread_count=2))
    assert "aborts the whole server" in str(caught.value.hint)


def test_torch_spells_its_thread_parameter_in_capitals() -> None:
    spec = replace(SPEC, backend="pytorch")
    text = pbtxt.to_text(spec, ServingConfig(intra_op_thread_count=2))
    assert 'key: "INTRA_OP_THREAD_COUNT"' in text


def test_text_that_is_no_configuration_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="does not parse"):
        pbtxt.parse("max_batch_size: many")


def test_two_inputs_never_share_a_warmup_file() -> None:
    names = ["a b", "a_b", "a.b", "ä", "_"]
    assert len({pbtxt.warmup_file(name) for name in names}) == len(names)
