"""CatBoost models to ONNX, with CatBoost's own export."""

from pathlib import Path
from typing import Any

from converters import onnx_graph, tabular_onnx
from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Convert with CatBoost's own export."""
    import onnx

    with needed("catboost"):
        import catboost  # noqa: F401
    exported = workdir / "exported.onnx"
    try:
        question.source.model.save_model(str(exported), format="onnx")
        graph = onnx.load(exported)
    except Exception as error:  # CatBoostError and whatever onnx raises.
        reraise_interrupt(error)
        msg = f"CatBoost does not export it: {onnx_graph.first_line(error)}"
        raise UnsupportedModelError(msg) from error
    finally:
        exported.unlink(missing_ok=True)
    _give_probabilities_as_numbers(graph)
    onnx_graph.name_inputs(graph, list(question.rows.tensors))
    return tabular_onnx.finish(graph, question, options, workdir)


def _give_probabilities_as_numbers(model: Any) -> None:
    """Take out the ZipMap: CatBoost 1.2 writes one for each classifier, and has no option."""
    from onnx import TensorProto, helper

    for node in [node for node in model.graph.node if node.op_type == "ZipMap"]:
        for value in model.graph.output:
            if value.name == node.output[0]:
                inner = helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None)
                value.CopyFrom(inner)
        model.graph.node.remove(node)
