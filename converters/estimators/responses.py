"""What a composite estimator asks of those it holds, by scikit-learn's own rules."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.estimators.registry import Answers, tensor, write
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


def matrix(answer: Tensor) -> Tensor:
    """Return an answer as (rows, n): one value a row becomes a column."""
    return answer.reshape(-1, 1) if len(answer.shape) == 1 else answer


def numbers(answer: Tensor, model: Any) -> Tensor:
    """Return an answer as float64 columns.

    Raises:
        UnsupportedModelError: it gives texts, of which no numbers are made.
    """
    if answer.is_text:
        msg = f"{type(model).__name__} hands on labels that are texts"
        raise UnsupportedModelError(msg)
    return matrix(answer).cast(np.float64)


def method_of(model: Any, methods: str | Sequence[str]) -> str:
    """Return the first of the methods that the estimator has.

    Raises:
        UnsupportedModelError: it has none of them.
    """
    wanted = [methods] if isinstance(methods, str) else list(methods)
    for method in wanted:
        if hasattr(model, method):
            return method
    msg = f"{type(model).__name__} has no {' or '.join(wanted)}"
    raise UnsupportedModelError(msg)


def response(
    graph: Graph, model: Any, x: Table, methods: str | Sequence[str]
) -> tuple[Tensor, str]:
    """Return the scores of a classifier and the method that gave them.

    As ``_get_response_values`` has it: with two classes one value a row, for the second
    class; otherwise one a class.
    """
    method = method_of(model, methods)
    answer = tensor(write(graph, model, x), method, model)
    classes = getattr(model, "classes_", ())
    if method == "predict_proba" and len(classes) == 2 and len(answer.shape) == 2:  # noqa: PLR2004
        answer = answer.take([1]).reshape(-1)
    return answer, method


def binary_score(graph: Graph, model: Any, x: Table) -> Tensor:
    """Return (rows,): how sure a binary estimator is of the second class."""
    answers = write(graph, model, x)
    if hasattr(model, "decision_function"):
        return tensor(answers, "decision_function", model).reshape(-1)
    if hasattr(model, "predict_proba"):
        return tensor(answers, "predict_proba", model).take([1]).reshape(-1)
    return tensor(answers, "predict", model).reshape(-1)


def prediction(answers: Answers, model: Any) -> Tensor:
    """Return what ``predict`` gives as float64 columns."""
    return numbers(tensor(answers, "predict", model), model)
