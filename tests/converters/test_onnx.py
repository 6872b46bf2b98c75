"""ONNX files are taken as they are, if the container can read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from converters import releases
from tests.converters.conftest import Convert, Data
from toolkit.errors import ConfigError, ModelFileError, SampleError, UnsupportedModelError
from toolkit.spec import DType, Road, TensorSpec

Store = Callable[..., Path]


def doubling(shape: list[int | str], opset: int = 17, ir_version: int = 8) -> Any:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    graph = helper.make_graph([node], "double me", inputs, outputs)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


@pytest.fixture
def stored(tmp_path: Path) -> Store:
    def store(model: Any) -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return store


def test_a_file_with_a_dynamic_first_axis_is_batched_and_copied(
    convert_model: Convert, stored: Store
) -> None:
    path = stored(doubling(["n", 3]))
    artifact = convert_model(path)
    assert (artifact.framework, artifact.road) == ("onnx", Road.ONNX)
    assert artifact.spec.batched
    assert artifact.spec.inputs == (TensorSpec("x", DType.FP32, (3,)),)
    assert artifact.files["model.onnx"].read_bytes() == path.read_bytes()


def test_a_file_with_a_fixed_first_axis_is_not_batched(
    convert_model: Convert, stored: Store
) -> None:
    artifact = convert_model(stored(doubling([2, 3])), np.ones((2, 3), dtype=np.float32))
    assert not artifact.spec.batched
    assert artifact.spec.inputs == (TensorSpec("x", DType.FP32, (2, 3)),)
    assert artifact.warmup["x"].dims == (2, 3)
    assert artifact.parity.passed


def test_open_dimensions_need_a_sample(convert_model: Convert, stored: Store) -> None:
    path = stored(doubling(["n", "length"]))
    with pytest.raises(SampleError, match="open dimensions"):
        convert_model(path)
    artifact = convert_model(path, np.ones((4, 5), dtype=np.float32))
    assert artifact.spec.inputs == (TensorSpec("x", DType.FP32, (-1,)),)


def test_a_sample_of_another_width_is_refused(convert_model: Convert, stored: Store) -> None:
    with pytest.raises(SampleError, match=r"takes rows of \[3\], not of \[4\]"):
        convert_model(stored(doubling(["n", 3])), np.ones((5, 4)))


def test_weights_in_another_file_are_drawn_in(convert_model: Convert, tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph([node], "g", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    artifact = convert_model(path)
    loaded = onnx.load(artifact.files["model.onnx"], load_external_data=False)
    assert loaded.graph.initializer[0].data_location == TensorProto.DEFAULT


@pytest.mark.parametrize(
    ("model", "reader"),
    [
        (doubling(["n", 3], opset=23, ir_version=10), "25.08"),
        (doubling(["n", 3], opset=17, ir_version=11), "25.08"),
        (doubling(["n", 3], opset=25, ir_version=13), "26.02"),
    ],
)
def test_a_file_too_new_for_the_container_names_the_release_that_reads_it(
    convert_model: Convert, stored: Store, model: Any, reader: str
) -> None:
    path = stored(model)
    with pytest.raises(UnsupportedModelError, match="too new") as caught:
        convert_model(path, release="24.10")
    assert str(caught.value.hint).endswith(f"model.onnx --release {reader}")
    assert convert_model(path, release=reader).parity.passed


@pytest.mark.parametrize("release", list(releases.RELEASES))
def test_what_is_exported_stays_below_what_the_release_reads(
    convert_model: Convert, iris: Data, release: str
) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = iris
    model = LogisticRegression(max_iter=1000).fit(x, y)
    artifact = convert_model(model, x[:5], release=release, generated_rows=0)
    exported = onnx.load(artifact.files["model.onnx"])
    opsets = {opset.domain: opset.version for opset in exported.opset_import}
    assert releases.find(release).limits.admits(opsets, exported.ir_version)


def test_an_unknown_release_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown container release '23\.01'") as caught:
        releases.find("23.01")
    assert "25.11" in str(caught.value.hint)


def test_a_damaged_file_is_refused(convert_model: Convert, tmp_path: Path, stored: Store) -> None:
    path = stored(doubling(["n", 3]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        convert_model(path)
    path.write_bytes(b"\x08\x08not a model at all")
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        convert_model(path)


def test_a_map_output_is_refused(convert_model: Convert, tmp_path: Path, iris: Data) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    x, y = iris
    model = to_onnx(LogisticRegression(max_iter=1000).fit(x, y), x[:1].astype(np.float32))
    path = tmp_path / "zipmap.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModelError, match="seq"):
        convert_model(path)


def test_a_graph_that_mixes_the_rows_of_a_batch_is_refused(
    convert_model: Convert, stored: Store
) -> None:
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0)
    centred = helper.make_node("Sub", ["x", "mean"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph([mean, centred], "centred", inputs, outputs)
    opsets = [helper.make_opsetid("", 17)]
    path = stored(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    with pytest.raises(UnsupportedModelError, match="requests cannot share a batch") as caught:
        convert_model(path)
    assert "max_batch_size: 0" in str(caught.value.hint)


def test_no_session_reports_to_its_maker(
    convert_model: Convert, stored: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as ort

    silenced: list[bool] = []
    monkeypatch.setattr(ort, "disable_telemetry_events", lambda: silenced.append(True))
    convert_model(stored(doubling(["n", 3])))
    assert silenced
