"""torch modules and TorchScript files reach Triton with the same answers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from converters import ConversionOptions, from_torch, loading, reference, releases, samples
from converters.table import Question
from tests.converters.conftest import Array, Convert
from tests.converters.torch_models import (
    Branch,
    Centred,
    Encoder,
    Flat,
    Interrupted,
    Kept,
    Lookup,
    Memory,
    Numpy,
    Pair,
    Perceptron,
    Pooled,
    Sloppy,
    Squeezed,
    StepsFirst,
)
from toolkit.errors import ConfigError, SampleError, UnsupportedModelError
from toolkit.spec import DType, Road, TensorSpec

# torch 2.13 calls TorchScript deprecated; it is what Triton's PyTorch backend loads.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


Save = Callable[[torch.nn.Module], Path]


@pytest.fixture
def convert_model(convert_model: Convert) -> Convert:
    return partial(convert_model, generated_rows=100)


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
    assert artifact.parity.rows > 20


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


def test_a_module_that_no_exporter_can_follow_serves_itself(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    artifact = convert_model(saved(Lookup()), rows, trusted=True)
    assert (artifact.road, artifact.spec.backend) == (Road.PYTHON, "python")
    exported, scripted = artifact.refused
    assert "torch.onnx.export cannot convert it: " in exported
    assert "neither script it (Expected type hint" in scripted
    assert "a trace would freeze what depends on the data" in scripted


def test_a_module_with_numpy_inside_serves_itself_with_outputs_by_name(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    artifact = convert_model(saved(Numpy()), rows, trusted=True)
    assert artifact.road is Road.PYTHON
    assert artifact.spec.outputs == (
        TensorSpec("sorted", DType.FP32, (4,)),
        TensorSpec("order", DType.INT64, (4,)),
    )
    assert artifact.parity.worst_absolute == 0.0


def test_branches_on_the_data_go_to_torchscript_and_keep_the_names_of_a_dict(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    artifact = convert_model(saved(Branch()), rows, trusted=True)
    assert artifact.road is Road.TORCHSCRIPT
    assert "data-dependent" in artifact.refused[0]
    assert [tensor.name for tensor in artifact.spec.outputs] == ["z", "a"]
    served = torch.jit.load(str(artifact.files["model.pt"]))
    assert isinstance(served(torch.ones(2, 4)), tuple)


def test_a_torchscript_file_that_gives_a_dict_is_wrapped(
    convert_model: Convert, tmp_path: Path, rows: Array
) -> None:
    path = tmp_path / "scripted.pt"
    torch.jit.script(Branch()).save(path)
    artifact = convert_model(path, rows)
    assert [tensor.name for tensor in artifact.spec.outputs] == ["z", "a"]
    assert artifact.files["model.pt"].read_bytes() != path.read_bytes()


def test_a_trace_that_would_freeze_a_branch_is_not_believed(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    with pytest.raises(UnsupportedModelError, match="a trace would freeze"):
        convert_model(saved(Sloppy()), rows, trusted=True, road=Road.TORCHSCRIPT)


def test_a_module_that_cannot_be_scripted_is_traced_and_its_list_becomes_outputs(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    artifact = convert_model(saved(Kept()), rows, trusted=True, road=Road.TORCHSCRIPT)
    assert artifact.spec.outputs == (
        TensorSpec("OUTPUT__0", DType.FP32, (3,)),
        TensorSpec("OUTPUT__1", DType.FP32, ()),
    )


def test_one_output_of_several_can_be_served_alone(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    for road in (Road.ONNX, Road.TORCHSCRIPT, Road.PYTHON):
        artifact = convert_model(
            saved(Pair()),
            {"left": rows, "right": rows[::-1]},
            trusted=True,
            road=road,
            outputs=("output_1",),
        )
        assert len(artifact.spec.outputs) == 1


@pytest.mark.parametrize("road", [Road.ONNX, Road.TORCHSCRIPT, Road.PYTHON])
def test_a_batch_of_one_keeps_its_rows_where_the_module_squeezes(
    convert_model: Convert, saved: Save, rows: Array, road: Road
) -> None:
    artifact = convert_model(saved(Squeezed()), rows, trusted=True, road=road)
    assert artifact.spec.outputs[0].dims == ()


SEQUENCES = {
    "ids": np.random.default_rng(0).integers(0, 11, (6, 5)),
    "hidden": np.zeros((6, 5), dtype=bool),
}


@pytest.mark.parametrize("road", [Road.ONNX, Road.TORCHSCRIPT, Road.PYTHON])
def test_sequences_of_any_length_are_taken_where_the_user_says_so(
    convert_model: Convert, saved: Save, road: Road
) -> None:
    axes = {"ids": (1,), "hidden": (1,)}
    artifact = convert_model(
        saved(Encoder()), SEQUENCES, trusted=True, road=road, dynamic_axes=axes
    )
    assert [tensor.dims for tensor in artifact.spec.inputs] == [(-1,), (-1,)]
    assert [tensor.dims for tensor in artifact.spec.outputs] == [(-1, 8), (8,)]


def test_the_sides_of_an_image_are_open_each_for_itself(
    convert_model: Convert, saved: Save
) -> None:
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8))
    artifact = convert_model(
        saved(Pooled()), {"image": images}, trusted=True, dynamic_axes={"image": (2, 3)}
    )
    assert artifact.road is Road.ONNX
    assert artifact.spec.inputs == (TensorSpec("image", DType.FP32, (3, -1, -1)),)
    session = onnxruntime.InferenceSession(artifact.files["model.onnx"])
    other = np.random.default_rng(1).normal(size=(5, 3, 11, 6)).astype(np.float32)
    expected = Pooled()(torch.from_numpy(other)).detach().numpy()
    assert session.run(None, {"image": other})[0] == pytest.approx(expected, abs=1e-5)


def test_an_axis_that_the_module_itself_fixes_is_named(convert_model: Convert, saved: Save) -> None:
    images = np.random.default_rng(0).normal(size=(4, 1, 6, 6))
    with pytest.raises(UnsupportedModelError, match="no other length than 6 of image:3") as caught:
        convert_model(
            saved(Flat()), {"image": images}, trusted=True, road=Road.PYTHON,
            dynamic_axes={"image": (3,)},
        )  # fmt: skip
    assert caught.value.hint == "leave out --dynamic-axis image:3"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"words": (1,)}, "no tensor 'words'"),
        ({"ids": (0,)}, r"'ids' has the shape \[\d+, 5\]"),
        ({"ids": (2,)}, r"'ids' has the shape \[\d+, 5\]"),
    ],
)
def test_an_open_axis_that_is_not_there_is_refused(
    convert_model: Convert, saved: Save, axes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert_model(
            saved(Encoder()), SEQUENCES, trusted=True, road=Road.TORCHSCRIPT, dynamic_axes=axes
        )


def test_an_output_without_rows_first_is_refused_by_name_on_every_road(
    convert_model: Convert, saved: Save
) -> None:
    steps = np.random.default_rng(0).normal(size=(6, 7, 4))
    with pytest.raises(UnsupportedModelError, match=r"'output_1' has the shape \[1, \d+, 5\]"):
        convert_model(saved(StepsFirst()), steps, trusted=True)


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
    saved: Save, rows: Array, tmp_path: Path
) -> None:
    options = ConversionOptions(name="m", sample=rows, trusted=True)
    source = loading.load(saved(Interrupted()), trusted=True)
    asked = samples.first_rows(source, options)
    answer = reference.ask(source, asked)
    question = Question(source, asked, answer, releases.find(options.release))
    with pytest.raises(KeyboardInterrupt):
        from_torch.to_onnx(question, options, tmp_path)


def test_a_module_that_mixes_the_rows_of_a_batch_takes_no_road(
    convert_model: Convert, saved: Save, rows: Array
) -> None:
    refusal = "requests cannot share a batch"
    each = rf"onnx.*{refusal}.*; torchscript.*{refusal}.*; python.*{refusal}"
    with pytest.raises(UnsupportedModelError, match=each):
        convert_model(saved(Centred()), rows, trusted=True)
