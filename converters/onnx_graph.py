"""Edit ONNX graphs so that every road shows a caller the same inputs and outputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.releases import Limits
from converters.rows import Array
from toolkit.errors import ModelFileError, UnsupportedModelError
from toolkit.spec import DType, TensorSpec

_BATCH = "batch"
_SPLIT_TAKES_SIZES_AS_INPUT = 13  # The opset since which it does; an attribute before.
_DTYPES = {
    "tensor(bool)": DType.BOOL,
    "tensor(uint8)": DType.UINT8,
    "tensor(uint16)": DType.UINT16,
    "tensor(uint32)": DType.UINT32,
    "tensor(uint64)": DType.UINT64,
    "tensor(int8)": DType.INT8,
    "tensor(int16)": DType.INT16,
    "tensor(int32)": DType.INT32,
    "tensor(int64)": DType.INT64,
    "tensor(float16)": DType.FP16,
    "tensor(float)": DType.FP32,
    "tensor(double)": DType.FP64,
    "tensor(string)": DType.BYTES,
}


def session(model: bytes | Path, threads: int | None = None) -> Any:
    """Open an ONNX Runtime session on the CPU.

    Raises:
        ModelFileError: ONNX Runtime does not load the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # What goes wrong is raised; it need not be printed too.
    if threads is not None:
        options.intra_op_num_threads = threads
    if hasattr(ort, "disable_telemetry_events"):
        ort.disable_telemetry_events()  # Builds for Windows report sessions otherwise.
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common public base.
        what = "the model" if isinstance(model, bytes) else model.name
        msg = f"ONNX Runtime {ort.__version__} does not load {what}: {first_line(error)}"
        raise ModelFileError(msg) from error


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def signature(opened: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], bool]:
    """Return inputs, outputs and whether the first axis of all of them counts rows.

    That is so when every first dimension is dynamic, as Triton's ONNX Runtime backend
    has it; dims then leave it out.

    Raises:
        UnsupportedModelError: a tensor is no tensor Triton knows (sequence, map).
    """
    inputs, outputs = opened.get_inputs(), opened.get_outputs()
    batched = all(t.shape and not isinstance(t.shape[0], int) for t in (*inputs, *outputs))
    return (
        tuple(_spec(tensor, batched) for tensor in inputs),
        tuple(_spec(tensor, batched) for tensor in outputs),
        batched,
    )


def _spec(tensor: Any, batched: bool) -> TensorSpec:
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        msg = f"{tensor.name!r} is a {tensor.type}, which Triton has no data type for"
        raise UnsupportedModelError(
            msg, hint="export without ZipMap (skl2onnx: options={'zipmap': False})"
        )
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in tensor.shape)
    if not batched and not dims:
        msg = f"{tensor.name!r} is a scalar, which no Triton configuration can describe"
        raise UnsupportedModelError(msg)
    return TensorSpec(tensor.name, dtype, dims[1:] if batched else dims)


def present(model: Any, outputs: Sequence[TensorSpec], feeds: Mapping[str, Array]) -> None:
    """Rename, reshape and cast the outputs of a converted graph to ``outputs``, in place.

    What it gives now is found by running it on ``feeds``: converters declare shapes that
    their graphs do not keep. Further outputs are taken off.

    Raises:
        UnsupportedModelError: the graph does not run, or gives other sizes.
    """
    given = _run(model, feeds)
    if len(given) < len(outputs):
        msg = f"the converted graph gives {len(given)} outputs, the model {len(outputs)}"
        raise UnsupportedModelError(msg)
    names = [value.name for value in model.graph.output]
    del model.graph.output[:]
    for name, array, tensor in zip(names, given, outputs, strict=False):
        _present_one(model, name, array, tensor)


def _run(model: Any, feeds: Mapping[str, Array]) -> list[Array]:
    try:
        opened = session(model.SerializeToString())
        given = opened.run(None, dict(feeds))
    except ModelFileError as error:
        raise UnsupportedModelError(error.message) from error
    except Exception as error:  # ONNX Runtime's exceptions have no common public base.
        msg = f"the converted graph does not run: {first_line(error)}"
        raise UnsupportedModelError(msg) from error
    return [value if isinstance(value, np.ndarray) else np.array(value) for value in given]


def _present_one(model: Any, name: str, array: Array, tensor: TensorSpec) -> None:
    from onnx import helper, numpy_helper

    rows = array.shape[0] if array.ndim else 0
    wanted = (rows, *tensor.dims)
    if not rows or array.size != int(np.prod(wanted)):
        msg = f"the converted graph gives {tensor.name} {array.shape}, the model {wanted}"
        raise UnsupportedModelError(msg)
    if name == tensor.name and array.shape == wanted and _dtype(array) is tensor.dtype:
        model.graph.output.append(_declared(tensor))
        return
    inner = _free_name(model, name, tensor.name)
    if array.shape != wanted:
        shape = f"{tensor.name}_shape"
        model.graph.initializer.append(
            numpy_helper.from_array(np.array([-1, *tensor.dims], dtype=np.int64), shape)
        )
        reshaped = f"{tensor.name}_reshaped"
        model.graph.node.append(helper.make_node("Reshape", [inner, shape], [reshaped]))
        inner = reshaped
    if _dtype(array) is not tensor.dtype:
        to = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype.numpy_name))
        model.graph.node.append(helper.make_node("Cast", [inner], [tensor.name], to=to))
    else:
        model.graph.node.append(helper.make_node("Identity", [inner], [tensor.name]))
    model.graph.output.append(_declared(tensor))
    _need_default_domain(model)


def _need_default_domain(model: Any) -> None:
    """Declare the default opset in a graph that has had only ``ai.onnx.ml`` operators."""
    from onnx import helper

    if not any(opset.domain == "" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 15))


def _dtype(array: Array) -> DType:
    return DType.from_numpy(array.dtype)


def _free_name(model: Any, name: str, wanted: str) -> str:
    """Free the name ``wanted`` for an output; return what ``name`` is called now."""
    taken = {output for node in model.graph.node for output in node.output}
    if wanted not in taken:
        return name
    inner = f"{wanted}_converted"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, used in enumerate(names):
                if used == wanted:
                    names[i] = inner
    return inner if name == wanted else name


def _declared(tensor: TensorSpec) -> Any:
    from onnx import TensorProto, helper

    if tensor.dtype is DType.BYTES:
        kind = TensorProto.STRING
    else:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype.numpy_name))
    return helper.make_tensor_value_info(tensor.name, kind, [_BATCH, *tensor.dims])


def name_inputs(model: Any, names: Sequence[str]) -> None:
    """Give the inputs these names, in order: exporters replace spaces and the like.

    Raises:
        UnsupportedModelError: the graph has another number of inputs.
    """
    if len(model.graph.input) != len(names):
        msg = f"the converted graph has {len(model.graph.input)} inputs, the model {len(names)}"
        raise UnsupportedModelError(msg)
    renamed = {
        value.name: name
        for value, name in zip(model.graph.input, names, strict=True)
        if value.name != name
    }
    for value in model.graph.input:
        value.name = renamed.get(value.name, value.name)
    for node in model.graph.node:
        for i, used in enumerate(node.input):
            node.input[i] = renamed.get(used, used)


def join_columns(model: Any, name: str) -> None:
    """Replace the inputs, each one column of floats, by one matrix called ``name``."""
    from onnx import helper, numpy_helper

    columns = [value.name for value in model.graph.input]
    _need_default_domain(model)
    opset = next(o.version for o in model.opset_import if o.domain == "")
    if opset < _SPLIT_TAKES_SIZES_AS_INPUT:
        split = helper.make_node("Split", [name], columns, axis=1, split=[1] * len(columns))
    else:
        sizes = f"{name}_sizes"
        ones = np.ones(len(columns), dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(ones, sizes))
        split = helper.make_node("Split", [name, sizes], columns, axis=1)
    model.graph.node.insert(0, split)
    del model.graph.input[:]
    model.graph.input.append(_declared(TensorSpec(name, DType.FP32, (len(columns),))))


def finished(model: Any, name: str, limits: Limits) -> bytes:
    """Return the bytes of a converted graph: always the same for the same model.

    The IR version is capped, opsets are listed once, and what exporters note down of the
    machine they ran on is removed.

    Raises:
        UnsupportedModelError: the operators are too new, or it is above 2 GB.
    """
    from onnx import helper

    opsets: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else opset.domain
        opsets[domain] = max(opsets.get(domain, 1), opset.version)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in sorted(opsets.items()))
    # IR 8 is the first that may hold functions; older ones only lack fields.
    model.ir_version = min(max(model.ir_version, 8), limits.ir_version)
    if not limits.admits(opsets, model.ir_version):
        msg = f"the exporter writes opsets {opsets}, newer than the container reads"
        raise UnsupportedModelError(msg)
    model.graph.name = name
    model.doc_string = ""
    _strip(model)
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's EncodeError, or ValueError above 2 GB.
        msg = "the model is above 2 GB, the most that one ONNX file holds"
        raise UnsupportedModelError(msg) from error


def _strip(model: Any) -> None:
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for values in ("value_info", "input", "output", "initializer", "node"):
            for item in getattr(graph, values, ()):
                if hasattr(item, "metadata_props"):
                    item.doc_string = ""
                    del item.metadata_props[:]
        for node in graph.node:
            for attribute in node.attribute:
                attribute.doc_string = ""


def written(data: bytes, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Check that ONNX Runtime sees exactly these inputs and outputs, as Triton will.

    Raises:
        UnsupportedModelError: it does not load or sees others.
    """
    try:
        seen = signature(session(data))
    except ModelFileError as error:
        raise UnsupportedModelError(error.message) from error
    if seen != (tuple(inputs), tuple(outputs), True):
        msg = f"the converted graph declares {_words(seen)}, not {_words((inputs, outputs))}"
        raise UnsupportedModelError(msg)


def _words(tensors: Sequence[Any]) -> str:
    inputs, outputs = tensors[:2]
    return " -> ".join(
        ", ".join(f"{t.name} {t.dtype.value}{list(t.dims)}" for t in side)
        for side in (inputs, outputs)
    )
