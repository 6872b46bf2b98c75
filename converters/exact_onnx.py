"""Tabular models to ONNX, written by us in each library's own arithmetic."""

from pathlib import Path

import numpy as np

from converters import onnx_graph, tabular_onnx
from converters.answers import Output
from converters.estimators import registry
from converters.estimators.table import Table
from converters.interrupts import reraise_interrupt
from converters.onnx_writer import Graph, Tensor
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Form
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError
from toolkit.spec import DType, ModelSpec, TensorSpec

_FLOAT32_LIBRARIES = {"xgboost", "catboost"}


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Write the estimator; numbers stay float64 except for libraries that round to float32."""
    floats = DType.FP32 if question.source.framework in _FLOAT32_LIBRARIES else DType.FP64
    inputs = tabular_onnx.inputs_of(question.rows, floats)
    outputs = tuple(tabular_onnx.output_spec(out, DType.FP64) for out in question.answer)
    graph = Graph(question.release.limits)
    try:
        with quiet():
            answers = registry.write(graph, question.source.model, _table(graph, inputs, question))
            given = {
                tensor.name: _shaped(_answer(answers, output, question), tensor)
                for output, tensor in zip(question.answer, outputs, strict=True)
            }
    except UnsupportedModelError:
        raise
    except Exception as error:  # Other releases of the libraries keep other attributes.
        reraise_interrupt(error)
        msg = (
            f"{question.source.class_name}: writing it failed, which is a fault of this tool"
            f" ({type(error).__name__}: {onnx_graph.first_line(error)})"
        )
        raise UnsupportedModelError(msg) from error
    model = graph.model(options.name, given)
    data = onnx_graph.finished(model, options.name, question.release.limits)
    onnx_graph.written(data, inputs, outputs)
    path = workdir / "model.onnx"
    path.write_bytes(data)
    return Converted(ModelSpec(options.name, "onnxruntime", inputs, outputs), {path.name: path})


def _table(graph: Graph, inputs: tuple[TensorSpec, ...], question: Question) -> Table:
    """Declare the inputs and put them side by side as the first step sees them."""
    parts = tuple(
        graph.input(tensor.name, np.dtype(tensor.dtype.numpy_name), tensor.dims[0])
        for tensor in inputs
    )
    rows = question.rows
    names = tuple(rows.tensors) if rows.form is Form.COLUMNS else rows.columns
    examples = {
        name: tuple(np.unique(array).tolist())
        for name, array in rows.tensors.items()
        if rows.form is Form.COLUMNS and array.dtype.kind in "Oi"
    }
    return Table(graph, parts, names, examples)


def _answer(answers: registry.Answers, output: Output, question: Question) -> Tensor:
    """Return the answer of the output's method, or its part where that gives several."""
    if isinstance(answer := answers.get(registry.final(output.method)), Tensor):
        return answer
    answer = answers.get(output.method)
    if isinstance(answer, list):
        if output.part is None:
            msg = f"{question.source.class_name}.{output.method} gives several tensors"
            raise UnsupportedModelError(msg)
        return answer[output.part]
    return registry.tensor(answers, output.method, question.source.model)


def _shaped(answer: Tensor, tensor: TensorSpec) -> Tensor:
    """Give an answer the shape and type it is declared with."""
    shape = (None, *tensor.dims)
    if answer.shape != shape:
        if int(np.prod([dim or 1 for dim in answer.shape])) != int(np.prod([*tensor.dims, 1])):
            msg = f"its {tensor.name} was written as {answer.shape}, the original gives {shape}"
            raise UnsupportedModelError(msg)
        answer = answer.reshape(-1, *tensor.dims)
    return answer.cast(np.dtype(tensor.dtype.numpy_name))
