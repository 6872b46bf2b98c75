"""XGBoost: float32 throughout, the sums in the order of the library."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.categories import fitted_categories
from converters.estimators import xgboost_trees
from converters.estimators.category_codes import coded_matrix
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.table import Table
from converters.estimators.trees import Mode, Tree, constant_tree, reached_leaves, tree_ensemble
from converters.estimators.xgboost_trees import XGBoostModel, XGBoostTree
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_FLOAT32 = np.dtype(np.float32)
_LOGISTIC = {"binary:logistic", "reg:logistic"}
_EXPONENTIAL = {"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"}
_AS_IT_IS = {
    "binary:logitraw",
    "reg:squarederror",
    "reg:linear",
    "reg:absoluteerror",
    "reg:quantileerror",
    "reg:pseudohubererror",
    "reg:squaredlogerror",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
}
# exp(88.7) is the largest that XGBoost lets a sigmoid take.
_LARGEST_EXPONENT = 88.7


@writes("xgboost:XGBRegressor", "xgboost:XGBRFRegressor", "xgboost:XGBRanker")
def write_regressor(graph: Graph, model: Any, x: Table) -> Answers:
    """Write what a regressor or a ranker predicts."""
    read = xgboost_trees.read(model.get_booster())
    answer = _linked(_margin(graph, read, _matrix(graph, model, x)), read)
    return {"predict": _vector(answer)}


@writes("xgboost:XGBClassifier", "xgboost:XGBRFClassifier")
def write_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write labels and probabilities; with several labels a row, of each."""
    read = xgboost_trees.read(model.get_booster())
    margin = _margin(graph, read, _matrix(graph, model, x))
    answer = _linked(margin, read)
    classes = int(model.n_classes_)
    if answer.width == 1:
        # Above a half is what is larger than the rest to one: that is exact in float32.
        answer = graph.concat([1.0 - answer, answer])
    elif classes == 2:  # noqa: PLR2004 - several labels; XGBoost takes two classes for such
        return {"predict_proba": answer, "predict": (answer > 0.5).cast(np.int64)}  # noqa: PLR2004
    return {"predict_proba": answer, **labelled(graph, range(classes), answer.argmax())}


def _vector(answer: Tensor) -> Tensor:
    return answer.reshape(-1) if answer.width == 1 else answer


def _matrix(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return the features as float32, what is missing as NaN."""
    if len(x.parts) == 1 and x.parts[0].dtype == _FLOAT32:
        matrix = x.parts[0]
    else:
        matrix = coded_matrix(graph, model, x).cast(_FLOAT32)
    missing = np.float32(np.nan if model.missing is None else model.missing)
    if np.isnan(missing):
        return matrix
    if x.names and fitted_categories(model, x.names):
        msg = f"{type(model).__name__}: missing={missing:g} beside categories of texts"
        raise UnsupportedModelError(msg)
    return graph.where(matrix.eq(float(missing)), graph.constant(np.nan, _FLOAT32), matrix)


def _margin(graph: Graph, model: XGBoostModel, x: Tensor) -> Tensor:
    """Return the scores before the link, shape (rows, outputs); negated for a logistic one."""
    sign = np.float32(-1 if model.objective in _LOGISTIC else 1)
    base = _base_margin(model) * sign
    if model.linear is not None:
        return _linear(graph, model.linear * sign, base, x)
    x, categorical = _floored(graph, model, x)
    trees = [_as_tree(tree, categorical, sign) for tree in model.trees]
    if any(tree.value.ndim > 1 for tree in model.trees):
        leaves = reached_leaves(x, trees)
        table = np.concatenate([tree.value[tree.leaves] for tree in trees])
        start = (leaves.take([0]) * 0 + len(table)).cast(np.int64)
        vectors = graph.concat([start, leaves]).lookup(
            graph.constant(np.vstack([table, base[None, :]]), _FLOAT32)
        )
        return vectors.sum_in_order()
    summed = [
        constant_tree(float(number), i) for i, number in enumerate(base) if number or not trees
    ]
    for i, tree in enumerate(trees):
        target = model.target[i]
        value = tree.value
        if model.weight is not None:
            # Dart adds a tree's weighted difference from the base score.
            value = (base[target] + value - base[target]) * model.weight[i]
        summed.append(dataclasses.replace(tree, target=target, value=value))
    return tree_ensemble(x, summed, model.outputs)


def _base_margin(model: XGBoostModel) -> npt.NDArray[np.float32]:
    """Return ``base_score`` as it stands before the link."""
    base = model.base_score.astype(np.float32)
    if model.objective in _LOGISTIC:
        base = -np.log(np.float32(1) / base - np.float32(1))
    elif model.objective in _EXPONENTIAL:
        base = np.log(base)
    return base


def _linear(
    graph: Graph, weights: npt.NDArray[np.float32], base: npt.NDArray[np.float32], x: Tensor
) -> Tensor:
    """Return the linear model's scores, added up feature by feature; missing ones are left out."""
    known = graph.where(x.is_nan(), graph.constant(0.0, _FLOAT32), x)
    scores = []
    for output in range(weights.shape[1]):
        # Of several base scores XGBoost 3.2 takes the first for all outputs.
        start = graph.constant(weights[-1, output] + base[0], _FLOAT32)
        first = graph.where(known.take([0]).is_nan(), start, start)
        terms = graph.concat([first, known * weights[None, :-1, output]])
        scores.append(terms.sum_in_order().reshape(-1, 1))
    return graph.concat(scores)


def _floored(graph: Graph, model: XGBoostModel, x: Tensor) -> tuple[Tensor, set[int]]:
    """Cut categories to integers, and return which features are categories.

    Raises:
        UnsupportedModelError: a feature is a number in one tree and a category in another.
    """
    categorical: set[int] = set()
    numeric: set[int] = set()
    for tree in model.trees:
        nodes = list(tree.members)
        categorical.update(tree.feature[nodes].tolist())
        inner = tree.left >= 0
        inner[nodes] = False
        numeric.update(tree.feature[inner].tolist())
    if both := sorted(categorical & numeric):
        msg = f"XGBoost: feature {both[0]} is split as a number and as a category"
        raise UnsupportedModelError(msg)
    if not categorical:
        return x, categorical
    chosen = np.isin(np.arange(x.width), list(categorical)).reshape(1, -1)
    return graph.where(graph.constant(chosen, np.bool_), x.apply("Floor"), x), categorical


def _as_tree(tree: XGBoostTree, categorical: set[int], sign: np.float32) -> Tree:
    """Swap the children where a set of categories goes right."""
    swap = np.zeros(len(tree.left), dtype=bool)
    swap[list(tree.members)] = bool(categorical)
    return Tree(
        feature=tree.feature,
        split=tree.split,
        left=np.where(swap, tree.right, tree.left),
        right=np.where(swap, tree.left, tree.right),
        value=tree.value * sign,
        missing_left=tree.default_left ^ swap,
        mode=Mode.LT,
        members=tree.members,
    )


def _linked(margin: Tensor, model: XGBoostModel) -> Tensor:
    """Return what the objective makes of the scores; ``_margin`` gives a logistic's negated."""
    objective = model.objective
    if objective in _LOGISTIC:
        if model.linear is not None or _largest(model) > _LARGEST_EXPONENT:
            margin = margin.clip(None, _LARGEST_EXPONENT)
        return 1.0 / (margin.apply("Exp") + 1.0)
    if objective.startswith("multi:"):
        return margin.apply("Softmax", axis=1)
    if objective in _EXPONENTIAL:
        return margin.apply("Exp")
    if objective == "binary:hinge":
        return (margin > 0.0).cast(_FLOAT32)
    if objective in _AS_IT_IS:
        return margin
    msg = f"XGBoost: the link of objective {objective} is not known"
    raise UnsupportedModelError(msg)


def _largest(model: XGBoostModel) -> float:
    """Return what no score of the trees is larger than."""
    leaves = sum(float(np.abs(tree.value).max()) for tree in model.trees)
    return leaves + float(np.abs(_base_margin(model)).max())
