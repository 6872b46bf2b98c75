"""torch modules to ONNX (the exporter built on torch.export), TorchScript and themselves."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters import from_predictor, offline, onnx_graph, reference, sizes, torchscript
from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Array
from converters.table import Converted, Question
from toolkit.errors import ModelFileError, UnsupportedModelError
from toolkit.spec import ModelSpec, TensorSpec

# The exporter of torch 2.13 writes this one itself and converts to others.
_NEWEST_OPSET = 18
# With an example of one row the exporter fixes the batch of LSTM, GRU and Transformer to 1;
# the same goes for other open axes.
_EXAMPLE_SIZE = 3


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Export with open axes, from an example of several rows; ask the graph at other sizes."""
    with needed("torch"):
        import onnxscript  # noqa: F401 - the exporter imports it late and says less
    outputs = sizes.outputs(question, options)
    model = _exported(question, options)
    _keep(model, [tensor.name for tensor in outputs])
    for tensor in sizes.squeezed(question, options, outputs):
        _unsqueeze(model, tensor)
    data = onnx_graph.finished(model, options.name, question.release.limits)
    path = workdir / "model.onnx"
    path.write_bytes(data)
    try:
        found = onnx_graph.signature(onnx_graph.session(data))
    except ModelFileError as error:
        raise UnsupportedModelError(error.message) from error
    _check_axes(question, options, found)
    _check_axes_of_outputs(outputs, found[1])
    spec = ModelSpec(options.name, "onnxruntime", found[0], found[1])
    sizes.check(question, options, offline.open_runner(spec, workdir, None))
    return Converted(spec, {"model.onnx": path})


def _exported(question: Question, options: ConversionOptions) -> Any:
    import torch

    every = reference.ask(question.source, question.rows.take(2))
    inputs, outputs = list(question.rows.tensors), [output.name for output in every]
    _check_names(inputs, outputs)
    batch, opened = torch.export.Dim("batch"), sizes.open_axes(question, options)
    with _silent(), torch.no_grad():
        try:
            program = torch.onnx.export(
                # A copy, because the exporter writes to modules with flattened weights.
                copy.deepcopy(question.source.model),
                _example(question, opened),
                dynamo=True,
                verbose=False,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=[
                    {0: batch} | dict.fromkeys(opened[name], torch.export.Dim.DYNAMIC)
                    for name in inputs
                ],
                opset_version=min(_NEWEST_OPSET, question.release.limits.opset),
            )
        except Exception as error:  # The exporter raises anything the module makes it raise.
            reraise_interrupt(error)
            msg = f"torch.onnx.export cannot convert it: {_cause(error)}"
            raise UnsupportedModelError(msg) from error
    return program.model_proto


def _cause(error: BaseException) -> str:
    """Return what went wrong first: the exporter wraps it in words on what to do next."""
    while error.__cause__ is not None:
        error = error.__cause__
    return onnx_graph.first_line(error)


def _check_names(inputs: list[str], outputs: list[str]) -> None:
    """Refuse names that one graph cannot hold twice."""
    both = [*inputs, *outputs]
    twice = sorted({name for name in both if both.count(name) > 1})
    if twice:
        msg = f"{twice[0]!r} names both an input and an output, which an ONNX graph cannot hold"
        raise UnsupportedModelError(msg, hint="rename the key that forward gives")


def _keep(model: Any, names: list[str]) -> None:
    """Leave the graph only the outputs that are served, in their order."""
    given = {value.name: value for value in model.graph.output}
    missing = [name for name in names if name not in given]
    if missing:
        msg = f"the exported graph has no output {missing[0]!r}, only {', '.join(given)}"
        raise UnsupportedModelError(msg)
    kept = [copy.deepcopy(given[name]) for name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _unsqueeze(model: Any, tensor: TensorSpec) -> None:
    """Give the rows' axis back to an output that loses it in a batch of one."""
    from onnx import helper, numpy_helper

    shape, inner = f"{tensor.name}_rows_first", f"{tensor.name}_squeezed"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = inner if name == tensor.name else name
    dims = np.array([-1, *tensor.dims], dtype=np.int64)
    model.graph.initializer.append(numpy_helper.from_array(dims, shape))
    model.graph.node.append(helper.make_node("Reshape", [inner, shape], [tensor.name]))
    value = next(value for value in model.graph.output if value.name == tensor.name)
    kind = value.type.tensor_type.elem_type
    value.CopyFrom(helper.make_tensor_value_info(tensor.name, kind, ["batch", *tensor.dims]))


def _check_axes(
    question: Question,
    options: ConversionOptions,
    found: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], bool],
) -> None:
    """Refuse a graph without an open batch, without an input, or with a frozen length."""
    inputs, _, batched = found
    if not batched:
        msg = "the exporter fixed the batch: the graph takes one number of rows only"
        raise UnsupportedModelError(msg)
    wanted = sizes.inputs(question, options)
    if [tensor.name for tensor in inputs] != [tensor.name for tensor in wanted]:
        given = ", ".join(tensor.name for tensor in inputs)
        msg = f"the exported graph takes {given}: the module does not use its other inputs"
        raise UnsupportedModelError(msg)
    for tensor, other in zip(wanted, inputs, strict=True):
        for axis, (size, left) in enumerate(zip(tensor.dims, other.dims, strict=True), start=1):
            if size != left:
                msg = f"the exporter fixed {tensor.name}:{axis} at {left}, and it is to be open"
                raise UnsupportedModelError(msg)


def _check_axes_of_outputs(wanted: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...]) -> None:
    for tensor, other in zip(wanted, found, strict=True):
        if len(tensor.dims) != len(other.dims) or any(
            size == -1 != left for size, left in zip(tensor.dims, other.dims, strict=True)
        ):
            msg = f"the exporter declares {tensor.name!r} as {list(other.dims)}"
            raise UnsupportedModelError(f"{msg}, and the module gives {list(tensor.dims)}")


def to_torchscript(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Script the module, which keeps its branches; trace it where it cannot be scripted.

    A trace is taken only when torch saw no value turn into a number of Python, which it
    would write down as a constant.
    """
    import torch

    spec = torchscript.spec(question, options)
    module = copy.deepcopy(question.source.model).eval()
    with _silent(), torch.no_grad():
        try:
            scripted = torchscript.plain(torch.jit.script(module), question, options)
        except Exception as why:  # noqa: BLE001 - whatever Python the module holds
            reraise_interrupt(why)
            try:
                scripted = _traced(module, question, options)
            except Exception as error:
                reraise_interrupt(error)
                msg = f"torch.jit can neither script it ({onnx_graph.first_line(why).rstrip(':')})"
                msg += f" nor trace it ({onnx_graph.first_line(error)})"
                raise UnsupportedModelError(msg) from error
        data = torchscript.stored(scripted)
    path = workdir / "model.pt"
    path.write_bytes(data)
    run = offline.open_runner(spec, workdir, None)
    names = [tensor.name for tensor in spec.inputs]
    sizes.check(question, options, lambda tensors: run(_renamed(tensors, names)))
    return Converted(spec, {"model.pt": path})


def _traced(module: Any, question: Question, options: ConversionOptions) -> Any:
    import torch

    for parameter in module.parameters():
        # With gradients a TransformerEncoder takes another path in the check than in the trace.
        parameter.requires_grad_(requires_grad=False)
    example = _example(question, sizes.open_axes(question, options))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(
            torchscript.tupled(module, question, options), example, check_trace=False
        )
    frozen = [w.message for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    if frozen:
        msg = f"a trace would freeze what depends on the data: {_sentence(frozen[0])}"
        raise UnsupportedModelError(msg)
    return traced


def _sentence(warning: Warning | str) -> str:
    return str(warning).partition(". ")[0].partition("\n")[0]


def to_python(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Lay the module beside the host, which calls it as it is, numpy and all."""
    inputs, outputs = sizes.inputs(question, options), sizes.outputs(question, options)
    spec = ModelSpec(options.name, "python", inputs, outputs)
    converted = from_predictor.lay_out(question, spec, workdir, {"form": "tensors"})
    sizes.check(question, options, offline.open_runner(spec, workdir, None))
    return converted


def _example(question: Question, opened: Mapping[str, tuple[int, ...]]) -> tuple[Any, ...]:
    import torch

    return tuple(
        torch.from_numpy(_resized(array, opened[name]))
        for name, array in question.rows.tensors.items()
    )


def _resized(array: Array, opened: tuple[int, ...]) -> Array:
    """Return an example: some rows of the sample, no open axis shorter than their number."""
    example = array.take(np.arange(_EXAMPLE_SIZE) % len(array), axis=0)
    for axis in opened:
        size = example.shape[axis]
        example = example.take(np.arange(max(size, _EXAMPLE_SIZE)) % size, axis=axis)
    return example


def _renamed(tensors: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    return dict(zip(names, tensors.values(), strict=True))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what torch logs, warns of and prints (graphs it could not export) from the user."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
