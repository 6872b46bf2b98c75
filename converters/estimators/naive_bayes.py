"""Naive Bayes: a joint log likelihood a class, and its softmax."""

from typing import Any

import numpy as np

from converters.estimators.categories import unknown_in
from converters.estimators.registry import Answers, labelled, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor


@writes("sklearn:GaussianNB")
def write_gaussian_nb(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the log density of a normal distribution a feature."""
    rows = x.matrix()
    joint = []
    for prior, mean, variance in zip(model.class_prior_, model.theta_, model.var_, strict=True):
        constant = np.log(prior) - 0.5 * np.sum(np.log(2.0 * np.pi * variance))
        off = rows - mean
        joint.append(constant - 0.5 * (off * off / variance).sum())
    return _classified(graph, model, graph.concat(joint))


@writes("sklearn:MultinomialNB", "sklearn:ComplementNB")
def write_multinomial_nb(graph: Graph, model: Any, x: Table) -> Answers:
    """Write counts times log probabilities; only the former adds the classes' priors."""
    joint = x.matrix() @ np.asarray(model.feature_log_prob_.T, dtype=np.float64)
    if _named(model, "MultinomialNB") or len(model.classes_) == 1:
        joint = joint + model.class_log_prior_
    return _classified(graph, model, joint)


@writes("sklearn:BernoulliNB")
def write_bernoulli_nb(graph: Graph, model: Any, x: Table) -> Answers:
    """Write log probabilities of the features that are there and of those that are not."""
    rows = x.matrix()
    if model.binarize is not None:
        rows = (rows > float(model.binarize)).cast(np.float64)
    there = np.asarray(model.feature_log_prob_, dtype=np.float64)
    absent = np.log(1 - np.exp(there))
    constant = model.class_log_prior_ + absent.sum(axis=1)
    return _classified(graph, model, rows @ (there - absent).T + constant)


@writes("sklearn:CategoricalNB")
def write_categorical_nb(graph: Graph, model: Any, x: Table) -> Answers:
    """Write a lookup a feature.

    A category out of range fails the request, in ONNX Runtime as in scikit-learn; a
    negative one counts from the end in ONNX and is moved out of range.
    """
    codes = x.matrix().cast(np.int64)
    codes = graph.where(codes < 0, np.iinfo(np.int32).max, codes)
    joint: Tensor | None = None
    for i, table in enumerate(model.feature_log_prob_):
        found = codes.take([i]).reshape(-1).lookup(np.ascontiguousarray(table.T), unknown_in(x, i))
        joint = found if joint is None else joint + found
    assert joint is not None
    return _classified(graph, model, joint + model.class_log_prior_)


def _named(model: Any, name: str) -> bool:
    return any(base.__name__ == name for base in type(model).__mro__)


def _classified(graph: Graph, model: Any, joint: Tensor) -> Answers:
    return {
        "predict_proba": (joint - log_sum_exp(joint)).apply("Exp"),
        "predict_joint_log_proba": joint,
        **labelled(graph, model.classes_, joint.argmax()),
    }


def log_sum_exp(values: Tensor) -> Tensor:
    """Return log(sum(exp(values))) of each row, shape (rows, 1), without overflow."""
    largest = values.reduce("ReduceMax")
    shifted = (values - largest).apply("Exp").sum()
    return shifted.apply("Log") + largest
