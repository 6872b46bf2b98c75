"""LightGBM models to ONNX, with onnxmltools."""

from pathlib import Path

from converters import tabular_onnx
from converters.extras import needed
from converters.options import ConversionOptions
from converters.table import Converted, Question


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Convert with onnxmltools, without ZipMap."""
    with needed("lightgbm"):
        from onnxmltools import convert_lightgbm
    graph = tabular_onnx.by_onnxmltools(
        convert_lightgbm, question.source.model, question, "LightGBM", zipmap=False
    )
    return tabular_onnx.finish(graph, question, options, workdir)
