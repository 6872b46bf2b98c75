"""XGBoost models to ONNX, with onnxmltools."""

import pickle
from pathlib import Path
from typing import Any

from converters import tabular_onnx
from converters.extras import needed
from converters.options import ConversionOptions
from converters.table import Converted, Question


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Convert with onnxmltools, feature names left out: it reads none but ``f0``, ``f1``."""
    with needed("xgboost"):
        from onnxmltools import convert_xgboost

    def convert(model: Any, **settings: Any) -> Any:
        return convert_xgboost(_nameless(model), **settings)

    graph = tabular_onnx.by_onnxmltools(convert, question.source.model, question, "XGBoost")
    return tabular_onnx.finish(graph, question, options, workdir)


def _nameless(model: Any) -> Any:
    """Return a copy of the estimator whose booster has no feature names."""
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes, just written
    booster = copy.get_booster()
    booster.feature_names = None
    booster.feature_types = None
    return copy
