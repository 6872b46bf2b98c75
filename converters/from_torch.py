"""torch modules to ONNX (the exporter built on torch.export) and to TorchScript."""

import contextlib
import copy
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters import onnx_graph, torchscript
from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.table import Converted, Question
from toolkit.errors import ModelFileError, UnsupportedModelError
from toolkit.spec import ModelSpec

# The exporter of torch 2.13 writes this one itself and converts to others.
_NEWEST_OPSET = 18
# With an example of one row the exporter fixes the batch of LSTM, GRU and Transformer to 1.
_EXAMPLE_ROWS = 3


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Export with a dynamic first axis, from an example of several rows."""
    with needed("torch"):
        import onnxscript  # noqa: F401 - the exporter imports it late and says less
        import torch
    batch = torch.export.Dim("batch")
    names = list(question.rows.tensors)
    with _silent(), torch.no_grad():
        try:
            program = torch.onnx.export(
                # A copy, because the exporter writes to modules with flattened weights.
                copy.deepcopy(question.source.model),
                _example(question),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=[output.name for output in question.answer],
                dynamic_shapes=[{0: batch} for _ in names],
                opset_version=min(_NEWEST_OPSET, question.release.limits.opset),
            )
        except Exception as error:  # The exporter raises anything the module makes it raise.
            reraise_interrupt(error)
            msg = f"torch.onnx.export cannot convert it: {onnx_graph.first_line(error)}"
            raise UnsupportedModelError(msg) from error
    data = onnx_graph.finished(program.model_proto, options.name, question.release.limits)
    path = workdir / "model.onnx"
    path.write_bytes(data)
    try:
        inputs, outputs, batched = onnx_graph.signature(onnx_graph.session(data))
    except ModelFileError as error:
        raise UnsupportedModelError(error.message) from error
    if not batched:
        msg = "the exporter fixed the batch: the graph takes one number of rows only"
        raise UnsupportedModelError(msg)
    return Converted(ModelSpec(options.name, "onnxruntime", inputs, outputs), {"model.onnx": path})


def to_torchscript(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Script the module, which keeps its branches; trace it where it cannot be scripted."""
    import torch

    module = copy.deepcopy(question.source.model).eval()
    with _silent(), torch.no_grad():
        try:
            scripted = torch.jit.script(module)
        except Exception as why:  # noqa: BLE001 - whatever Python the module holds
            reraise_interrupt(why)
            try:
                scripted = torch.jit.trace(module, _example(question), check_trace=False)
            except Exception as error:
                reraise_interrupt(error)
                msg = f"torch.jit can neither script it ({onnx_graph.first_line(why)})"
                msg += f" nor trace it ({onnx_graph.first_line(error)})"
                raise UnsupportedModelError(msg) from error
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
    path = workdir / "model.pt"
    path.write_bytes(buffer.getvalue())
    return Converted(torchscript.spec(question, options.name), {"model.pt": path})


def _example(question: Question) -> tuple[Any, ...]:
    import numpy as np
    import torch

    return tuple(
        torch.from_numpy(np.resize(array, (_EXAMPLE_ROWS, *array.shape[1:])))
        for array in question.rows.tensors.values()
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the exporter logs and warns of (missing torchvision) from the terminal."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet():
            yield
    finally:
        logger.setLevel(level)
