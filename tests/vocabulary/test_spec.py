import numpy as np
import pytest

from toolkit.errors import ConfigError, RepositoryError, ToolkitError
from toolkit.spec import (
    DType,
    InstanceKind,
    ModelSpec,
    ServingConfig,
    TensorSpec,
    VersionPolicy,
    check_model_name,
)

X = TensorSpec("input", DType.FP32, (4,))
Y = TensorSpec("label", DType.INT64, ())


@pytest.mark.parametrize("dtype", list(DType))
def test_every_data_type_survives_numpy_and_the_config(dtype: DType) -> None:
    assert DType.from_numpy(np.dtype(dtype.numpy_name)) is dtype
    assert DType.from_config_name(dtype.config_name) is dtype


@pytest.mark.parametrize("text", ["<U5", "|S3", "object", "str"])
def test_text_becomes_bytes(text: str) -> None:
    assert DType.from_numpy(np.dtype(text)) is DType.BYTES


def test_a_dtype_triton_has_no_name_for_is_refused() -> None:
    with pytest.raises(ValueError, match="complex128"):
        DType.from_numpy(np.dtype(complex))


@pytest.mark.parametrize("name", ["churn", "a", "Churn_2.v-1", "7seas"])
def test_ordinary_names_can_name_a_model(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a/b", "..", "ä", "x" * 129, "a\n"])
def test_a_name_that_would_not_survive_a_url_is_refused(name: str) -> None:
    with pytest.raises(RepositoryError, match="cannot name a model") as caught:
        check_model_name(name)
    assert "letters, digits" in str(caught.value.hint)


@pytest.mark.parametrize("dims", [(0,), (3, -2)])
def test_a_dim_is_positive_or_minus_one(dims: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="positive or -1"):
        TensorSpec("input", DType.FP32, dims)


def test_two_inputs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="input names repeat"):
        ModelSpec("m", "onnxruntime", (X, X), (Y,))


def test_a_backend_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'onnx'") as caught:
        ModelSpec("m", "onnx", (X,), (Y,))
    assert "onnxruntime" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_batch_size": -1}, "max_batch_size must not be negative"),
        ({"instance_count": 0}, "instance_count must be at least 1"),
        ({"warmup_batch_sizes": (512,)}, "above max_batch_size 256"),
        ({"preferred_batch_size": (8, 1024)}, "above max_batch_size 256"),
        ({"preferred_batch_size": (0,)}, "sizes start at 1"),
        ({"execution_mode": 2}, "execution_mode must be 0 or 1"),
        ({"intra_op_thread_count": 0}, "at least 1"),
        ({"priority_levels": 2, "default_priority_level": 3}, "above priority_levels 2"),
        ({"dynamic_batching": False, "max_queue_size": 5}, "above 0 is there max_queue_size"),
        ({"max_batch_size": 0, "max_queue_delay_microseconds": 5}, "only with dynamic_batching"),
        ({"priority_levels": 2, "preserve_ordering": True}, "one priority level only"),
        ({"max_batch_size": 2**31}, "at most 2147483647"),
        ({"gpus": (0,)}, "need instance_kind KIND_GPU"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ServingConfig(**options)  # type: ignore[arg-type]


def test_priorities_without_a_default_take_the_middle_one() -> None:
    assert ServingConfig(priority_levels=5).default_priority_level == 3


def test_gpus_go_with_kind_gpu() -> None:
    assert ServingConfig(gpus=(1,), instance_kind=InstanceKind.KIND_GPU).gpus == (1,)


@pytest.mark.parametrize("text", ["all", "latest:1", "latest:3", "specific:1,3"])
def test_a_version_policy_reads_back_as_written(text: str) -> None:
    assert str(VersionPolicy.parse(text)) == text


@pytest.mark.parametrize("text", ["", "newest", "latest:0", "latest:x", "specific:", "all:1"])
def test_a_version_policy_triton_has_not_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="version_policy"):
        VersionPolicy.parse(text)


def test_every_error_says_in_the_tree_at_the_top_whether_retrying_helps() -> None:
    from toolkit import errors

    tree = str(errors.__doc__)
    members = [
        member
        for member in vars(errors).values()
        if isinstance(member, type) and issubclass(member, ToolkitError)
    ]
    for member in members:
        line = next(line for line in tree.splitlines() if f" {member.__name__}" in f" {line}")
        assert line.endswith("(retry)") == member.retryable, member
