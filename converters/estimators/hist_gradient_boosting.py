"""scikit-learn's histogram gradient boosting, with its native categories."""

from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators.links import from_raw_scores, predicted, two_sided
from converters.estimators.registry import Answers, labelled, transformed, write, writes
from converters.estimators.table import Table
from converters.estimators.trees import Tree, constant_tree, tree_ensemble
from converters.onnx_writer import Graph, Tensor

Array = npt.NDArray[Any]


@writes("sklearn:HistGradientBoostingClassifier")
def write_hist_gradient_boosting_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the raw scores and their link; 0 is the first of two classes."""
    raw = _raw_scores(graph, model, x)
    index = (two_sided(raw) if raw.width == 1 else raw).argmax()
    return {
        "decision_function": raw.reshape(-1) if raw.width == 1 else raw,
        "predict_proba": from_raw_scores(graph, model._loss, raw),  # noqa: SLF001
        **labelled(graph, model.classes_, index),
    }


@writes("sklearn:HistGradientBoostingRegressor")
def write_hist_gradient_boosting_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the raw scores and their link."""
    loss = model._loss  # noqa: SLF001
    return {"predict": predicted(loss, _raw_scores(graph, model, x))}


def _raw_scores(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return baseline and trees, shape (rows, trees of an iteration); compared in float64."""
    known, place = model._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001
    baseline = np.ravel(model._baseline_prediction)  # noqa: SLF001
    trees = [constant_tree(value, target) for target, value in enumerate(baseline)]
    for iteration in model._predictors:  # noqa: SLF001
        for target, predictor in enumerate(iteration):
            trees.append(_tree(predictor, target, known, place))
    return tree_ensemble(_numbers(graph, model, x), trees, len(baseline))


def _numbers(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return the columns as the trees count them: categories, as codes, come first.

    A code is NaN for a category that was not seen in training.
    """
    preprocessor = model._preprocessor  # noqa: SLF001
    if preprocessor is None:
        return x.matrix()
    is_category = np.asarray(model.is_categorical_, dtype=np.bool_)
    encoder = preprocessor.named_transformers_["encoder"]
    codes = write(graph, encoder, x.take(np.flatnonzero(is_category).tolist()), "categories")
    parts = [transformed(codes, encoder).matrix()]
    if not is_category.all():
        parts.append(x.take(np.flatnonzero(~is_category).tolist()).matrix())
    return graph.concat(parts)


def _tree(predictor: Any, target: int, known: Array, place: Array) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(np.bool_)
    members = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(np.bool_) & ~leaf).tolist():
        record = nodes[node]
        codes = _bits(predictor.raw_left_cat_bitsets[record["bitset_idx"]])
        if record["missing_go_to_left"]:
            seen = _bits(known[place[record["feature_idx"]]])
            codes = np.union1d(codes, np.setdiff1d(np.arange(256), seen))
        members[node] = codes
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        split=nodes["num_threshold"],
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        value=nodes["value"],
        missing_left=nodes["missing_go_to_left"],
        members=members,
        target=target,
    )


def _bits(words: Array) -> Array:
    """Return the numbers in a set of 256 bits, given as eight 32-bit words."""
    bytes_ = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    return np.flatnonzero(np.unpackbits(bytes_, bitorder="little"))
