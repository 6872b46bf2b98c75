"""A quantized model is smaller, says what that cost, and is never called exact."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from converters import (
    ConversionOptions,
    from_onnx,
    from_torch,
    loading,
    onnx_graph,
    proof,
    quantize,
    reference,
    releases,
    samples,
)
from converters.quantize import Quantization
from converters.table import Question
from tests.converters.conftest import Array
from tests.converters.torch_models import Pooled
from toolkit.errors import ConfigError, ParityError, UnsupportedModelError
from toolkit.spec import Road

Result = tuple[proof.Proof, Quantization]
Quantize = Callable[..., Result]


@pytest.fixture
def quantize_file(tmp_path: Path) -> Quantize:
    """Convert, prove and quantize a file as ``convert`` does."""

    def run(path: Path, kind: str, sample: Array | None = None, **given: Any) -> Result:
        tolerance = quantize.TOLERANCES[kind]
        settings = {"atol": tolerance, "rtol": tolerance} | given
        options = ConversionOptions(
            name="m", sample=sample, quantize=kind, trusted=True, **settings
        )
        source = loading.load(path, trusted=True)
        asked = samples.first_rows(source, options)
        answer = reference.ask(source, asked)
        question = Question(source, asked, answer, releases.find(options.release))
        convert = from_torch.to_onnx if source.framework == "torch" else from_onnx.to_onnx
        before, after = tmp_path / "before", tmp_path / "after"
        for folder in (before, after):
            folder.mkdir(exist_ok=True)
        converted = convert(question, options, before)
        exact = proof.prove(question, converted, quantize.exactly(options))
        return quantize.quantized(exact, options, after)

    return run


def layers(
    widths: tuple[int, ...], operator: str = "Gemm", kind: Any = np.float32, scale: float = 1.0
) -> Any:
    """Return a perceptron; the class of the largest output beside its numbers."""
    rng = np.random.default_rng(0)
    nodes, stored, last = [], [], "x"
    for i, (width, wider) in enumerate(pairwise(widths)):
        weights = rng.normal(size=(width, wider)) / np.sqrt(width) * scale
        stored.append(numpy_helper.from_array(weights.astype(kind), f"w{i}"))
        if operator == "Gemm":
            stored.append(numpy_helper.from_array(rng.normal(size=wider).astype(kind), f"b{i}"))
            nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"h{i}"]))
        else:
            nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"h{i}"]))
        last = f"h{i}" if i == len(widths) - 2 else f"r{i}"
        if last == f"r{i}":
            nodes.append(helper.make_node("Relu", [f"h{i}"], [last]))
    nodes.append(helper.make_node("ArgMax", [last], ["label"], axis=1, keepdims=0))
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", element, ["n", widths[0]])],
        [
            helper.make_tensor_value_info(last, element, ["n", widths[-1]]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        ],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def perceptron(tmp_path: Path) -> Path:
    path = tmp_path / "perceptron.onnx"
    onnx.save(layers((32, 128, 64, 3)), path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.pt"
    torch.save(Pooled(width=32), path)
    return path


@pytest.fixture
def many() -> Array:
    """Rows of several sizes, and one of zeros."""
    rng = np.random.default_rng(0)
    sizes = rng.choice([0.1, 1.0, 10.0], (100, 1))
    sizes[0] = 0.0
    made: Array = (rng.normal(size=(100, 32)) * sizes).astype(np.float32)
    return made


def session(found: proof.Proof) -> Any:
    return onnx_graph.session(found.converted.files["model.onnx"], 1)


@pytest.mark.parametrize(("kind", "share"), [("dynamic", 0.4), ("fp16", 0.6)])
def test_an_onnx_file_becomes_smaller_and_says_what_it_cost(
    quantize_file: Quantize, perceptron: Path, many: Array, kind: str, share: float
) -> None:
    found, cost = quantize_file(perceptron, kind, many)
    data = found.converted.files["model.onnx"].read_bytes()
    assert cost.bytes_before == perceptron.stat().st_size
    assert cost.bytes_after == len(data) < share * cost.bytes_before
    assert cost.worst_absolute_before == 0.0 < cost.worst_absolute_after
    assert found.report.worst_absolute == cost.worst_absolute_after
    assert cost.label_agreement is not None
    assert 0.98 < cost.label_agreement <= 1
    line = quantize.sentence(cost, found.report.rows)
    assert line.startswith(f"quantized ({kind}): {cost.bytes_before:,} -> ")
    assert f"of {found.report.rows} rows" in line


@pytest.mark.parametrize("kind", ["dynamic", "fp16"])
def test_inputs_and_outputs_stay_and_the_bytes_are_the_same_every_time(
    quantize_file: Quantize, perceptron: Path, kind: str
) -> None:
    first = quantize_file(perceptron, kind)[0].converted
    data = first.files["model.onnx"].read_bytes()
    again = quantize_file(perceptron, kind)[0].converted
    assert again.files["model.onnx"].read_bytes() == data
    assert onnx_graph.signature(onnx_graph.session(data)) == (
        first.spec.inputs,
        first.spec.outputs,
        True,
    )


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
def test_a_row_with_large_numbers_leaves_the_rows_beside_it_alone(
    quantize_file: Quantize, tmp_path: Path, operator: str
) -> None:
    path = tmp_path / "given.onnx"
    onnx.save(layers((32, 64, 3), operator), path)
    found, _ = quantize_file(path, "dynamic")
    opened = session(found)
    batch = np.random.default_rng(1).normal(size=(8, 32)).astype(np.float32)
    calm = opened.run(None, {"x": batch})[0]
    batch[0] *= 1e6
    assert np.array_equal(opened.run(None, {"x": batch})[0][1:], calm[1:])


def test_products_run_in_integers(quantize_file: Quantize, perceptron: Path) -> None:
    found, _ = quantize_file(perceptron, "dynamic")
    model = onnx.load(found.converted.files["model.onnx"])
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("MatMulInteger") == 3
    assert "DynamicQuantizeLinear" not in operators


def test_rows_of_zeros_and_missing_values_stay_what_they_were(
    quantize_file: Quantize, perceptron: Path
) -> None:
    opened = session(quantize_file(perceptron, "dynamic")[0])
    batch = np.zeros((2, 32), dtype=np.float32)
    expected = onnx_graph.session(perceptron).run(None, {"x": batch})[0]
    assert opened.run(None, {"x": batch})[0] == pytest.approx(expected, rel=0.05, abs=0.05)
    batch[1, 3] = np.nan
    assert np.isnan(opened.run(None, {"x": batch})[0][1]).all()


def test_a_convolutional_module_becomes_smaller(quantize_file: Quantize, network: Path) -> None:
    images = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    found, cost = quantize_file(network, "dynamic", images)
    assert cost.bytes_after < 0.5 * cost.bytes_before
    assert 0 < cost.worst_absolute_after < 0.05
    assert found.converted.spec.inputs[0].dims == (3, 8, 8)
    exported = network.with_suffix(".onnx")
    exported.write_bytes((network.parent / "before" / "model.onnx").read_bytes())
    _, half = quantize_file(exported, "fp16", images)
    assert half.bytes_after < 0.7 * half.bytes_before
    assert half.worst_absolute_after < cost.worst_absolute_after


@pytest.mark.parametrize("kind", ["dynamic", "fp16"])
def test_a_graph_in_float64_has_nothing_to_quantize(
    quantize_file: Quantize, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "wide.onnx"
    onnx.save(layers((4, 8, 3), kind=np.float64), path)
    with pytest.raises(UnsupportedModelError, match="nothing to make smaller") as caught:
        quantize_file(path, kind)
    assert caught.value.hint == "leave --quantize out"


def test_trees_have_nothing_to_quantize(quantize_file: Quantize, tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.tree import DecisionTreeRegressor

    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    path = tmp_path / "tree.onnx"
    path.write_bytes(to_onnx(DecisionTreeRegressor().fit(x, x[:, 0]), x[:1]).SerializeToString())
    for kind in ("dynamic", "fp16"):
        with pytest.raises(UnsupportedModelError, match="nothing to make smaller"):
            quantize_file(path, kind)


def test_a_model_over_the_tolerance_is_refused_with_its_cost(
    quantize_file: Quantize, perceptron: Path, many: Array
) -> None:
    with pytest.raises(ParityError, match=r"quantized \(dynamic\): .*rows are over") as caught:
        quantize_file(perceptron, "dynamic", many, atol=1e-4, rtol=1e-4)
    assert "--rtol" in str(caught.value.hint)


def test_numbers_too_large_for_half_precision_are_refused(
    quantize_file: Quantize, tmp_path: Path
) -> None:
    path = tmp_path / "large.onnx"
    onnx.save(layers((4, 8, 3), scale=300.0), path)
    sample = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32) * 100
    with pytest.raises(UnsupportedModelError, match=r"reaches .*, and half precision ends"):
        quantize_file(path, "fp16", sample)


def test_too_many_other_labels_are_refused_whatever_the_tolerance(
    quantize_file: Quantize, tmp_path: Path, many: Array
) -> None:
    model = layers((32, 64, 3))
    for tensor in model.graph.initializer:
        if tensor.name in {"w1", "b1"}:  # Classes that differ by less than int8 can tell.
            near = numpy_helper.to_array(tensor) * np.float32(1e-3) + np.float32(1)
            tensor.CopyFrom(numpy_helper.from_array(near, tensor.name))
    path = tmp_path / "near.onnx"
    onnx.save(model, path)
    with pytest.raises(ParityError, match=r"labels agree on \d+ of \d+ rows, and 99% must"):
        quantize_file(path, "dynamic", many, atol=1e6, rtol=1e6)


def test_only_an_onnx_model_can_be_quantized() -> None:
    with pytest.raises(ConfigError, match="the road is python"):
        ConversionOptions(name="m", quantize="fp16", road=Road.PYTHON)
    with pytest.raises(ConfigError, match="unknown quantization 'int4'"):
        ConversionOptions(name="m", quantize="int4")


def test_the_cost_can_be_written_down(quantize_file: Quantize, perceptron: Path) -> None:
    found, cost = quantize_file(perceptron, "fp16")
    written = dataclasses.asdict(cost)
    assert written["kind"] == "fp16"
    assert set(written) == {field.name for field in dataclasses.fields(Quantization)}
    assert found.report.passed
    assert found.report.rtol == quantize.TOLERANCES["fp16"]
