"""Linear models: one matrix product, and what each class makes of it."""

from typing import Any

import numpy as np

from converters.estimators.dense import dense
from converters.estimators.links import two_sided
from converters.estimators.registry import Answers, labelled, write, writes
from converters.estimators.special import expit
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_LOG_LINKS = {"LogLink"}
_IDENTITY_LINKS = {"IdentityLink"}


@writes(
    "sklearn:ARDRegression",
    "sklearn:BayesianRidge",
    "sklearn:ElasticNet",
    "sklearn:ElasticNetCV",
    "sklearn:HuberRegressor",
    "sklearn:Lars",
    "sklearn:LarsCV",
    "sklearn:Lasso",
    "sklearn:LassoCV",
    "sklearn:LassoLars",
    "sklearn:LassoLarsCV",
    "sklearn:LassoLarsIC",
    "sklearn:LinearRegression",
    "sklearn:LinearSVR",
    "sklearn:MultiTaskElasticNet",
    "sklearn:MultiTaskElasticNetCV",
    "sklearn:MultiTaskLasso",
    "sklearn:MultiTaskLassoCV",
    "sklearn:OrthogonalMatchingPursuit",
    "sklearn:OrthogonalMatchingPursuitCV",
    "sklearn:PassiveAggressiveRegressor",
    "sklearn:QuantileRegressor",
    "sklearn:Ridge",
    "sklearn:RidgeCV",
    "sklearn:SGDRegressor",
    "sklearn:TheilSenRegressor",
)
def write_linear_regressor(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the scores themselves; ``coef_`` of one axis means answers of one axis."""
    scores = linear_scores(x.matrix(), model)
    return {"predict": scores.reshape(-1) if np.ndim(model.coef_) == 1 else scores}


@writes("sklearn:GammaRegressor", "sklearn:PoissonRegressor", "sklearn:TweedieRegressor")
def write_generalized_linear(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the inverse of the link of the scores.

    Raises:
        UnsupportedModelError: a link that scikit-learn 1.9 does not have.
    """
    scores = linear_scores(x.matrix(), model).reshape(-1)
    link = type(model._base_loss.link).__name__  # noqa: SLF001
    if link in _LOG_LINKS:
        return {"predict": scores.apply("Exp")}
    if link in _IDENTITY_LINKS:
        return {"predict": scores}
    msg = f"{type(model).__name__}: its link {link} is not written as exact ONNX"
    raise UnsupportedModelError(msg)


@writes("sklearn:RANSACRegressor")
def write_ransac(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the estimator that was fitted on the inliers."""
    return {"predict": write(graph, model.estimator_, x, "estimator")["predict"]}


@writes("sklearn:LogisticRegression", "sklearn:LogisticRegressionCV")
def write_logistic_regression(graph: Graph, model: Any, x: Table) -> Answers:
    """Write softmax of the scores; with two classes there is one score."""
    scores = linear_scores(x.matrix(), model)
    answers = _linear_classifier(graph, model, scores)
    sides = two_sided(scores) if scores.width == 1 else scores
    return {**answers, "predict_proba": softmax(sides)}


@writes(
    "sklearn:LinearSVC",
    "sklearn:PassiveAggressiveClassifier",
    "sklearn:Perceptron",
)
def write_linear_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a classifier that has scores and no probabilities."""
    return _linear_classifier(graph, model, linear_scores(x.matrix(), model))


@writes("sklearn:SGDClassifier")
def write_sgd_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the scores; two of the losses give probabilities."""
    scores = linear_scores(x.matrix(), model)
    answers = _linear_classifier(graph, model, scores)
    if model.loss == "log_loss":
        return {**answers, "predict_proba": one_vs_rest(scores)}
    if model.loss == "modified_huber":
        clipped = (scores.clip(-1.0, 1.0) + 1.0) / 2.0
        return {**answers, "predict_proba": _shared(clipped)}
    return answers


@writes("sklearn:RidgeClassifier", "sklearn:RidgeClassifierCV")
def write_ridge_classifier(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the scores; a target of several labels is decided label by label."""
    scores = linear_scores(x.matrix(), model)
    if model._label_binarizer.y_type_.startswith("multilabel"):  # noqa: SLF001
        return {"decision_function": scores, "predict": (scores > 0.0).cast(np.int64)}
    return _linear_classifier(graph, model, scores)


def _linear_classifier(graph: Graph, model: Any, scores: Tensor) -> Answers:
    if scores.width == 1:
        index = two_sided(scores).argmax()
        scores = scores.reshape(-1)
    else:
        index = scores.argmax()
    return {"decision_function": scores, **labelled(graph, model.classes_, index)}


def linear_scores(x: Tensor, model: Any) -> Tensor:
    """Return ``x @ coef_.T + intercept_``, two-dimensional."""
    coef = np.atleast_2d(dense(model.coef_, model))
    return x @ np.ascontiguousarray(coef.T) + np.atleast_1d(
        np.asarray(model.intercept_, dtype=np.float64)
    )


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax over classes; ONNX Runtime's is stable for large scores."""
    return scores.apply("Softmax", axis=1)


def one_vs_rest(scores: Tensor) -> Tensor:
    """Return the sigmoid of each class's score, made to sum to one."""
    return _shared(expit(scores))


def _shared(each: Tensor) -> Tensor:
    """Turn one probability a class into probabilities that sum to one.

    Where all are zero, scikit-learn gives every class the same.
    """
    if each.width == 1:
        return each.graph.concat([1.0 - each, each])
    total = each.sum()
    none = total.eq(0.0)
    return each.graph.where(none, 1.0, each) / each.graph.where(none, float(each.width), total)
