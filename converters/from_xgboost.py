"""XGBoost models to ONNX, with onnxmltools."""

import pickle
from pathlib import Path
from typing import Any

from converters import onnx_graph, tabular_onnx
from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Form
from converters.samples import MATRIX_INPUT
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError

# onnxmltools 1.16 knows no newer opset.
_NEWEST_OPSET = 15


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Convert with onnxmltools, feature names left out: it reads none but ``f0``, ``f1``."""
    with needed("xgboost"):
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType
    if question.rows.form is not Form.MATRIX:
        msg = "onnxmltools converts XGBoost models of numeric columns only"
        raise UnsupportedModelError(msg)
    width = question.rows.tensors[MATRIX_INPUT].shape[1]
    with quiet():
        try:
            graph = convert_xgboost(
                _nameless(question.source.model),
                name="model",
                initial_types=[(MATRIX_INPUT, FloatTensorType([None, width]))],
                target_opset=min(_NEWEST_OPSET, question.release.limits.opset),
            )
        except Exception as error:  # onnxmltools raises anything.
            reraise_interrupt(error)
            msg = f"onnxmltools cannot convert it: {onnx_graph.first_line(error)}"
            raise UnsupportedModelError(msg) from error
    return tabular_onnx.finish(graph, question, options, workdir)


def _nameless(model: Any) -> Any:
    """Return a copy of the estimator whose booster has no feature names."""
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes, just written
    booster = copy.get_booster()
    booster.feature_names = None
    booster.feature_types = None
    return copy
