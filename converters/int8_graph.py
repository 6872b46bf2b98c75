"""int8 weights in an ONNX graph, so that the answer to a row depends on that row alone."""

import copy
from pathlib import Path
from typing import Any

import numpy as np

from converters import onnx_graph
from converters.interrupts import reraise_interrupt
from toolkit.errors import UnsupportedModelError

_OPSET_OF_AXES_INPUT = 18  # ReduceMax takes its axes as an input since then.
_ZERO, _STEPS = 128, 127.0


def nothing(kind: str, what: str) -> UnsupportedModelError:
    """Return the refusal of a graph that holds nothing to quantize."""
    msg = f"--quantize {kind} finds nothing to make smaller: {what}"
    return UnsupportedModelError(msg, hint="leave --quantize out")


def shrink(model: Any, workdir: Path) -> Any:
    """Return the model with int8 weights in its matrix products and convolutions.

    A matrix product runs in integers, each row scaled by its own largest number. ONNX
    Runtime's own ``DynamicQuantizeLinear`` takes one scale for the whole batch, by which a
    row with large numbers erases the answers of the rows beside it. A convolution runs in
    float: its integer kernel was several times slower on CPUs (ONNX Runtime 1.31).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    del model.graph.value_info[:]  # Gemm becomes MatMul, whose shapes are others.
    convolutions = _int8_convolutions(model)
    if not _products(model):
        if not convolutions:
            what = "the graph has no MatMul, Gemm or Conv with float32 weights (trees, float64)"
            raise nothing("dynamic", what)
        return model
    path = workdir / "quantized.onnx"
    try:
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            # With eight bits, CPUs without VNNI overflow 16-bit sums and answer otherwise.
            reduce_range=True,
        )
        smaller = onnx.load(str(path))
    except Exception as error:  # It raises anything on graphs it does not know.
        reraise_interrupt(error)
        msg = f"onnxruntime.quantization fails: {onnx_graph.first_line(error)}"
        raise UnsupportedModelError(msg) from error
    finally:
        path.unlink(missing_ok=True)
    _scale_rows(smaller)
    return smaller


def _products(model: Any) -> int:
    """Count the products with float32 weights."""
    import onnx

    wide = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    products = [node for node in model.graph.node if node.op_type in {"MatMul", "Gemm"}]
    return sum(node.input[1] in wide for node in products)


def _int8_convolutions(model: Any) -> int:
    """Store the weights of convolutions as int8 with one scale a channel; return how many.

    They are written as Cast and Mul, which ONNX Runtime computes once when it loads the
    model; a DequantizeLinear would be computed again in every run.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {value.name for value in graph.input}
    names = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    names = {name for name in names if name in stored and name not in inputs}
    wide = onnx.TensorProto.FLOAT
    nodes = []
    for name in sorted(name for name in names if stored[name].data_type == wide):
        weights = numpy_helper.to_array(stored[name])
        largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
        scale = np.where(largest > 0, largest / np.float32(_STEPS), 1).astype(np.float32)
        steps = np.clip(np.rint(weights / scale), -_STEPS, _STEPS).astype(np.int8)
        graph.initializer.remove(stored[name])
        graph.initializer.append(numpy_helper.from_array(steps, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        nodes.append(helper.make_node("Cast", [f"{name}_int8"], [f"{name}_steps"], to=wide))
        nodes.append(helper.make_node("Mul", [f"{name}_steps", f"{name}_scale"], [name]))
    rest = [copy.deepcopy(node) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    return len(nodes) // 2


def _scale_rows(model: Any) -> None:
    """Give every row of a quantized product a scale of its own, in place.

    Raises:
        UnsupportedModelError: the quantizer wrote something else than it is known to.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    opset = next(item.version for item in model.opset_import if item.domain in {"", "ai.onnx"})
    maker = {name: node for node in graph.node for name in node.output}
    scales = {n.output[1]: n for n in graph.node if n.op_type == "DynamicQuantizeLinear"}
    zeros = {node.output[2] for node in scales.values()}
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            nodes += _quantize_rows(node, opset)
            continue
        if node.op_type == "Mul" and node.input[0] in scales:
            continue  # The product of both scales, which is taken apart below.
        scaling = maker.get(node.input[1]) if node.op_type == "Mul" else None
        if scaling is not None and scaling.op_type == "Mul" and scaling.input[0] in scales:
            by_columns = f"{node.output[0]}_by_columns"
            # In one product of scales ONNX Runtime would fuse this, and take the first row's.
            nodes.append(helper.make_node("Mul", [node.input[0], scaling.input[1]], [by_columns]))
            nodes.append(helper.make_node("Mul", [by_columns, scaling.input[0]], node.output))
            continue
        if any(name in zeros for name in node.input) and node.op_type != "MatMulInteger":
            msg = f"onnxruntime.quantization wrote a {node.op_type}, which is not known here"
            raise UnsupportedModelError(msg)
        copied = copy.deepcopy(node)
        for i, name in enumerate(copied.input):
            copied.input[i] = "rows_zero" if name in zeros else name
        nodes.append(copied)
    if not scales:
        raise nothing("dynamic", "onnxruntime.quantization leaves its products as they are")
    constants = {"rows_zero": np.uint8(_ZERO), "rows_middle": np.float32(_ZERO)}
    constants |= {"rows_steps": np.float32(_STEPS), "rows_tiny": np.float32(1e-30)}
    constants |= {"rows_nothing": np.float32(0)}
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    if opset >= _OPSET_OF_AXES_INPUT:
        last = numpy_helper.from_array(np.array([-1], dtype=np.int64), "rows_axes")
        graph.initializer.append(last)
    del graph.node[:]
    graph.node.extend(nodes)


def _quantize_rows(node: Any, opset: int) -> list[Any]:
    """Return nodes that quantize as ``node`` does, with one scale for each row."""
    from onnx import TensorProto, helper

    (source,), (steps, scale, _) = node.input, node.output
    make = helper.make_node
    size = f"{steps}_size"
    axes = {} if opset >= _OPSET_OF_AXES_INPUT else {"axes": [-1]}
    read = [size] if axes else [size, "rows_axes"]
    return [
        make("Abs", [source], [size]),
        make("ReduceMax", read, [f"{steps}_top"], keepdims=1, **axes),
        make("Div", [f"{steps}_top", "rows_steps"], [f"{steps}_step"]),
        make("Max", [f"{steps}_step", "rows_tiny"], [f"{steps}_known"]),
        # ReduceMax passes over NaN, of which the answer must tell: a sum does not.
        make("ReduceL1", read, [f"{steps}_sum"], keepdims=1, **axes),
        make("Mul", [f"{steps}_sum", "rows_nothing"], [f"{steps}_missing"]),
        make("Add", [f"{steps}_known", f"{steps}_missing"], [scale]),
        make("Div", [source, scale], [f"{steps}_exact"]),
        make("Round", [f"{steps}_exact"], [f"{steps}_whole"]),
        make("Add", [f"{steps}_whole", "rows_middle"], [f"{steps}_moved"]),
        make("Cast", [f"{steps}_moved"], [steps], to=TensorProto.UINT8),
    ]
