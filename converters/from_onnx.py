"""ONNX files, taken as they are."""

import shutil
from pathlib import Path
from typing import Any

from converters import onnx_graph, releases
from converters.options import ConversionOptions
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError
from toolkit.spec import ModelSpec


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Copy the file, weights in other files drawn in, if the container reads its version."""
    model = question.source.model
    opsets = {
        "" if opset.domain == "ai.onnx" else opset.domain: opset.version
        for opset in model.opset_import
    }
    if not question.release.limits.admits(opsets, model.ir_version):
        raise _too_new(question, opsets, model.ir_version)
    path = workdir / "model.onnx"
    if _has_external_data(question.source.path):
        path.write_bytes(_one_file(model))
    else:
        shutil.copyfile(question.source.path, path)
    inputs, outputs, batched = onnx_graph.signature(onnx_graph.session(path))
    spec = ModelSpec(options.name, "onnxruntime", inputs, outputs, batched=batched)
    return Converted(spec, {"model.onnx": path})


def _too_new(question: Question, opsets: dict[str, int], ir_version: int) -> UnsupportedModelError:
    release = question.release
    reader = releases.first_that_reads(opsets, ir_version)
    hint = (
        f"toolkit convert {question.source.path} --release {reader.name}"
        if reader
        else "export it with an older opset"
    )
    return UnsupportedModelError(
        f"{question.source.path.name} (opset {opsets.get('', 1)}, IR {ir_version}) is too new"
        f" for the ONNX Runtime {release.onnxruntime} of release {release.name}",
        hint=hint,
    )


def _has_external_data(path: Path) -> bool:
    import onnx

    bare = onnx.load(str(path), load_external_data=False)
    external = onnx.TensorProto.EXTERNAL
    return any(tensor.data_location == external for tensor in bare.graph.initializer)


def _one_file(model: Any) -> bytes:
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's EncodeError, or ValueError above 2 GB.
        msg = "the model and its weights are above 2 GB, the most that one ONNX file holds"
        raise UnsupportedModelError(msg) from error
