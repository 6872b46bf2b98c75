"""What the converters of tabular models share once there is an ONNX graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters import onnx_graph
from converters.answers import Kind, Output
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Form, Rows, sent
from converters.samples import MATRIX_INPUT
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError
from toolkit.spec import DType, ModelSpec, TensorSpec

# onnxmltools 1.16 knows no newer opset.
_NEWEST_ONNXMLTOOLS_OPSET = 15


def by_onnxmltools(
    convert: Callable[..., Any], model: Any, question: Question, library: str, **settings: Any
) -> Any:
    """Return the graph that one of onnxmltools' converters makes of a booster.

    Raises:
        UnsupportedModelError: the columns are not all numbers, or it cannot convert it.
    """
    from onnxmltools.convert.common.data_types import FloatTensorType

    if question.rows.form is not Form.MATRIX:
        msg = f"onnxmltools converts {library} models of numeric columns only"
        raise UnsupportedModelError(msg)
    width = question.rows.tensors[MATRIX_INPUT].shape[1]
    with quiet():
        try:
            return convert(
                model,
                name="model",
                initial_types=[(MATRIX_INPUT, FloatTensorType([None, width]))],
                target_opset=min(_NEWEST_ONNXMLTOOLS_OPSET, question.release.limits.opset),
                **settings,
            )
        except Exception as error:  # onnxmltools raises anything.
            reraise_interrupt(error)
            msg = f"onnxmltools cannot convert it: {onnx_graph.first_line(error)}"
            raise UnsupportedModelError(msg) from error


def finish(graph: Any, question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Give the graph the names, shapes and types every road has, and write ``model.onnx``.

    Raises:
        UnsupportedModelError: the graph does not load, or its outputs cannot be brought
            to those of the original.
    """
    inputs = inputs_of(question.rows)
    outputs = tuple(output_spec(output) for output in question.answer)
    onnx_graph.present(graph, outputs, sent(question.rows.take(2), inputs))
    data = onnx_graph.finished(graph, options.name, question.release.limits)
    onnx_graph.written(data, inputs, outputs)
    path = workdir / "model.onnx"
    path.write_bytes(data)
    return Converted(ModelSpec(options.name, "onnxruntime", inputs, outputs), {"model.onnx": path})


def inputs_of(rows: Rows, floats: DType = DType.FP32) -> tuple[TensorSpec, ...]:
    """Return the inputs for these rows, numbers with a fraction as ``floats``."""
    if rows.form is Form.MATRIX:
        return (TensorSpec(MATRIX_INPUT, floats, (rows.tensors[MATRIX_INPUT].shape[1],)),)
    kinds = {"O": DType.BYTES, "i": DType.INT64, "b": DType.BOOL, "f": floats}
    return tuple(
        TensorSpec(name, kinds[array.dtype.kind], (1,)) for name, array in rows.tensors.items()
    )


def output_spec(output: Output, floats: DType = DType.FP32) -> TensorSpec:
    """Return the output as Triton gives it: labels INT64 or text, numbers as ``floats``."""
    dtype = DType.from_numpy(output.values.dtype)
    if output.kind is not Kind.LABEL:
        dtype = floats
    return TensorSpec(output.name, dtype, output.dims)
