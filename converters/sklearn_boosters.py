"""Teach skl2onnx to convert XGBoost and LightGBM estimators inside pipelines."""

import sys
from typing import Any

from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

_ESTIMATORS = (
    ("xgboost", "XGBClassifier", convert_xgboost),
    ("xgboost", "XGBRegressor", convert_xgboost),
    ("lightgbm", "LGBMClassifier", convert_lightgbm),
    ("lightgbm", "LGBMRegressor", convert_lightgbm),
)


def register() -> None:
    """Register the estimators of the libraries that are imported already."""
    for library, name, converter in _ESTIMATORS:
        if library in sys.modules:
            _register(getattr(sys.modules[library], name), converter)


def _register(estimator: type, converter: Any) -> None:
    classifies = estimator.__name__.endswith("Classifier")
    update_registered_converter(
        estimator,
        estimator.__name__,
        calculate_linear_classifier_output_shapes
        if classifies
        else calculate_linear_regressor_output_shapes,
        converter,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]}
        if classifies
        else {"split": None},
    )
