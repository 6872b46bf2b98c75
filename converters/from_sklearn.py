"""scikit-learn estimators and pipelines to ONNX, with skl2onnx."""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np

from converters import anatomy, onnx_graph, tabular_onnx
from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Form, Rows
from converters.samples import MATRIX_INPUT
from converters.table import Converted, Question
from toolkit.errors import UnsupportedModelError

# skl2onnx 1.20 implements up to this opset; newer ones would be declared and not used.
_NEWEST_OPSET = 21


def to_onnx(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Convert with skl2onnx."""
    model = _searched(question.source.model)
    _refuse_endless(model)
    graph = _export(model, question)
    if question.rows.form is Form.MATRIX and len(graph.graph.input) > 1:
        onnx_graph.join_columns(graph, MATRIX_INPUT)
    onnx_graph.name_inputs(graph, list(question.rows.tensors))
    _follow_missing(graph, model)
    return tabular_onnx.finish(graph, question, options, workdir)


def _export(model: Any, question: Question) -> Any:
    with needed("sklearn"):
        from skl2onnx import convert_sklearn
    limits = question.release.limits
    _register_boosters()
    with quiet():
        try:
            return convert_sklearn(
                model,
                name="model",
                initial_types=_initial_types(model, question.rows),
                target_opset={
                    "": min(_NEWEST_OPSET, limits.opset),
                    "ai.onnx.ml": min(3, limits.ml_opset),
                },
                options=_step_options(model),
            )
        except Exception as error:  # skl2onnx and the converters it calls raise anything.
            reraise_interrupt(error)
            msg = f"skl2onnx cannot convert it: {onnx_graph.first_line(error)}"
            raise UnsupportedModelError(msg) from error


def _initial_types(model: Any, rows: Rows) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType

    if rows.form is Form.MATRIX:
        if rows.columns and anatomy.picks_by_name(model):
            return [(name, FloatTensorType([None, 1])) for name in rows.columns]
        width = rows.tensors[MATRIX_INPUT].shape[1]
        return [(MATRIX_INPUT, FloatTensorType([None, width]))]
    return [(name, _column_type(array)) for name, array in rows.tensors.items()]


def _column_type(array: Any) -> Any:
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    kinds = {"O": StringTensorType, "i": Int64TensorType, "b": BooleanTensorType}
    return kinds.get(array.dtype.kind, FloatTensorType)([None, 1])


def _steps(model: Any) -> list[Any]:
    """Return the steps of a pipeline, or the model itself."""
    return [step for _, step in getattr(model, "steps", [("", model)])]


def _searched(model: Any) -> Any:
    """Return the model with the best one in place of each search for it."""
    model = getattr(model, "best_estimator_", model)
    if not hasattr(model, "steps"):
        return model
    pipeline = copy.copy(model)
    pipeline.steps = [(name, _searched(step)) for name, step in model.steps]
    return pipeline


def _step_options(model: Any) -> dict[int, dict[str, Any]]:
    """Return, for each classifier, its options: no ZipMap where it has that option.

    A step must be listed even without options: skl2onnx 1.20 otherwise adds ``zipmap``
    to the last step of a pipeline and then refuses it for LinearSVC.
    """
    from skl2onnx._supported_operators import _get_sklearn_operator_name
    from skl2onnx.common._registration import _converter_pool
    from sklearn.base import is_classifier

    chosen: dict[int, dict[str, Any]] = {}
    for step in _steps(model):
        if not is_classifier(step):
            continue
        try:
            known = _converter_pool[_get_sklearn_operator_name(type(step))].get_allowed_options()
        except (KeyError, RuntimeError, ValueError):
            known = None
        chosen[id(step)] = {"zipmap": False} if known and "zipmap" in known else {}
    return chosen


def _register_boosters() -> None:
    """Teach skl2onnx the boosters that the model's pickle brought along, if any."""
    if "xgboost" not in sys.modules and "lightgbm" not in sys.modules:
        return
    try:
        from converters import sklearn_boosters
    except ModuleNotFoundError:
        return  # Without onnxmltools such a pipeline takes the Python road.
    sklearn_boosters.register()


def _trees(model: Any) -> list[Any]:
    """Return the fitted trees of the last step, in the order in which skl2onnx writes them."""
    last = _steps(model)[-1]
    members = getattr(last, "estimators_", [last])
    flat = np.asarray(members, dtype=object).ravel().tolist()
    return [member.tree_ for member in flat if hasattr(member, "tree_")]


def _refuse_endless(model: Any) -> None:
    # skl2onnx 1.20 looks for a float below such a threshold and never ends.
    if any(np.isinf(tree.threshold).any() for tree in _trees(model)):
        msg = "a tree was fitted with missing values, which skl2onnx cannot convert"
        raise UnsupportedModelError(msg)


def _follow_missing(graph: Any, model: Any) -> None:
    """Send missing values the way the trees do; skl2onnx 1.20 sends all of them right."""
    trees = _trees(model)
    nodes = [node for node in graph.graph.node if node.op_type.startswith("TreeEnsemble")]
    if len(nodes) != 1 or not trees:
        return
    attributes = {attribute.name: attribute for attribute in nodes[0].attribute}
    expected = [(i, node) for i, tree in enumerate(trees) for node in range(tree.node_count)]
    found = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    tracks = attributes.get("nodes_missing_value_tracks_true")
    if tracks is None or list(found) != expected:
        return  # Another order than the trees': leave it, the proof will tell.
    del tracks.ints[:]
    for tree in trees:
        tracks.ints.extend(int(left) for left in tree.missing_go_to_left)
