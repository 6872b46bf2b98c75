"""torch modules and TorchScript files reach Triton with the same answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.converters.conftest import Array, Convert
from tests.converters.torch_models import (
    Centred,
    Interrupted,
    Lookup,
    Memory,
    Pair,
    Perceptron,
)
from toolkit.errors import SampleError, UnsupportedModelError
from toolkit.spec import DType, Road, TensorSpec

# torch 2.13 calls TorchScript deprecated; it is what Triton's PyTorch backend loads.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


Save = Callable[[torch.nn.Module], Path]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def save(module: torch.nn.Module) -> Path:
        path = tmp_path / "module.pt"
        torch.save(module, path)
        return path

    return save


@pytest.fixture
def rows() -> Array:
    return np.random.default_rng(0).normal(size=(20, 4))


def test_a_module_becomes_onnx_with_the_same_bytes_every_time(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    path = saved(Perceptron())
    artifact = convert_model(path, rows, trusted=True)
    assert (artifact.framework, artifact.road) == ("torch", Road.ONNX)
    assert artifact.spec.inputs == (TensorSpec("input", DType.FP32, (4,)),)
    assert artifact.spec.outputs == (TensorSpec("output", DType.FP32, (3,)),)
    first = artifact.files["model.onnx"].read_bytes()
    again = convert_model(path, rows, trusted=True).files["model.onnx"].read_bytes()
    assert first == again
    assert b"pkg.torch" not in first
    assert b".py" not in first


def test_a_module_becomes_torchscript_when_asked(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    artifact = convert_model(saved(Perceptron()), rows, trusted=True, road=Road.TORCHSCRIPT)
    assert artifact.spec.backend == "pytorch"
    assert artifact.spec.inputs == (TensorSpec("INPUT__0", DType.FP32, (4,)),)
    assert artifact.spec.outputs == (TensorSpec("OUTPUT__0", DType.FP32, (3,)),)


def test_an_lstm_answers_any_number_of_rows_even_from_a_sample_of_one(
    convert_model: Convert, saved: Save
) -> None:
    sample = np.random.default_rng(0).normal(size=(1, 7, 4))
    artifact = convert_model(saved(Memory()), sample, trusted=True)
    assert artifact.road is Road.ONNX
    assert artifact.spec.inputs == (TensorSpec("input", DType.FP32, (7, 4)),)
    assert artifact.parity.rows > 100


def test_named_tensors_go_to_the_arguments_of_that_name(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    sample = {"right": rows, "left": rows[::-1]}
    artifact = convert_model(saved(Pair()), sample, trusted=True)
    assert [tensor.name for tensor in artifact.spec.inputs] == ["left", "right"]
    assert [tensor.name for tensor in artifact.spec.outputs] == ["output_0", "output_1"]


def test_a_torchscript_file_is_taken_as_it_is_without_trust(
    convert_model: Convert, tmp_path: Path, rows: Array
) -> None:
    path = tmp_path / "scripted.pt"
    torch.jit.script(Perceptron()).save(path)
    artifact = convert_model(path, rows)
    assert (artifact.framework, artifact.road) == ("torchscript", Road.TORCHSCRIPT)
    assert artifact.files["model.pt"].read_bytes() == path.read_bytes()
    assert artifact.parity.worst_absolute == 0.0


def test_a_module_that_no_exporter_can_follow_says_why_on_every_road(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    with pytest.raises(UnsupportedModelError, match=r"onnx: .*torchscript: .*python: "):
        convert_model(saved(Lookup()), rows, trusted=True)


def test_a_module_needs_a_sample(convert_model: Convert, saved: Save) -> None:
    with pytest.raises(SampleError, match="Perceptron does not say what tensors it takes"):
        convert_model(saved(Perceptron()), trusted=True)


def test_weights_alone_cannot_be_served(convert_model: Convert, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(Perceptron().state_dict(), path)
    with pytest.raises(UnsupportedModelError, match="weights only") as caught:
        convert_model(path)
    assert "torch.jit.script" in str(caught.value.hint)


def test_ctrl_c_while_exporting_ends_the_conversion(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert_model(saved(Interrupted()), rows, trusted=True)


def test_a_module_that_mixes_the_rows_of_a_batch_takes_no_road(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    refusal = "requests cannot share a batch"
    with pytest.raises(UnsupportedModelError, match=f"onnx: .*{refusal}; torchscript: .*{refusal}"):
        convert_model(saved(Centred()), rows, trusted=True)
