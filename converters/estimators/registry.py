"""Which function writes which estimator, and how one is asked to.

A writer is ``def write_it(graph, model, x) -> Answers``: it adds the nodes for every
method of the estimator that it can, under the method's name; what nobody uses is left
out of the model in the end.

=====================  ==============================================================
``transform``          a ``Table`` or ``Tensor`` of shape (rows, n)
``predict``            (rows,) of labels or (rows, outputs) of numbers, as the library
``index``              int64 (rows,): the position in ``classes_`` of what is predicted
``predict_proba``      float64 (rows, classes); a list of them for several outputs
``decision_function``  float64 (rows,) or (rows, classes)
=====================  ==============================================================
"""

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import numpy as np

from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

Answer = Tensor | Table | list[Tensor]
Answers = Mapping[str, Answer]
Writer = Callable[[Graph, Any, Table], Answers]

# Imported on first use, so that each can look at the library it belongs to.
_FAMILIES: tuple[str, ...] = (
    "bagging",
    "bins",
    "boosting",
    "calibration",
    "catboost_models",
    "clusters",
    "compose",
    "cross_decomposition",
    "decomposition",
    "discriminant",
    "dummy",
    "encoders",
    "forests",
    "functions",
    "gaussian_process",
    "hashed_text",
    "hist_gradient_boosting",
    "imputers",
    "isotonic",
    "kernel_approximation",
    "kernel_models",
    "knn_imputer",
    "lightgbm_models",
    "linear",
    "manifold",
    "mixture",
    "multiclass",
    "multioutput",
    "naive_bayes",
    "named_values",
    "neighbors",
    "neural_network",
    "outliers",
    "projection",
    "quantiles",
    "radius",
    "scaling",
    "selection",
    "sparse_coding",
    "splines",
    "svm",
    "target",
    "text",
    "topics",
    "voting",
    "xgboost_models",
)

# What a subclass may define anew without changing an answer.
_HARMLESS = {
    "fit", "fit_transform", "partial_fit", "get_params", "set_params", "score", "fit_predict",
    "set_fit_request", "set_score_request", "set_partial_fit_request",
}  # fmt: skip

_writers: dict[tuple[str, str], Writer] = {}


def writes(*classes: str) -> Callable[[Writer], Writer]:
    """Register a writer for ``library:Class`` (``sklearn:Ridge``), one or several."""

    def register(writer: Writer) -> Writer:
        for name in classes:
            library, _, cls = name.partition(":")
            _writers[library, cls] = writer
        return writer

    return register


@functools.cache
def _load_families() -> None:
    for family in _FAMILIES:
        import_module(f"converters.estimators.{family}")


def known() -> tuple[tuple[str, str], ...]:
    """Return every (library, class) that can be written."""
    _load_families()
    return tuple(sorted(_writers))


def write(graph: Graph, model: Any, x: Table, step: str = "") -> Answers:
    """Write a fitted estimator; ``step`` is its place in the pipeline, for messages.

    The same estimator on the same columns is written once.

    Raises:
        UnsupportedModelError: names the class, the step and the reason.
    """
    key = (id(model), x.names, *(part.name for part in x.parts))
    if key in graph.written:
        return cast("Answers", graph.written[key][1])
    try:
        answers = _writer(type(model))(graph, model, x)
    except UnsupportedModelError as error:
        raise _named_error(error, model, step) from error
    graph.written[key] = (model, answers)
    return answers


class _NamedError(UnsupportedModelError):
    """One that names the class it is about."""


def _named_error(error: UnsupportedModelError, model: Any, step: str) -> UnsupportedModelError:
    message, name = error.message, type(model).__name__
    if not isinstance(error, _NamedError) and name not in message:
        message = f"{name}: {message}"
    if step:
        message = f"{step} > {message}" if " > " in message else f"{step}: {message}"
    return _NamedError(message, hint=error.hint)


def _writer(cls: type) -> Writer:
    _load_families()
    for base in cls.__mro__:
        writer = _writers.get((base.__module__.partition(".")[0], base.__name__))
        if writer is not None:
            return writer
        own = {
            name
            for name, value in vars(base).items()
            if not name.startswith("__") and (callable(value) or isinstance(value, property))
        }
        if changed := sorted(own - _HARMLESS):
            msg = f"{cls.__name__} is not written as exact ONNX"
            if base is not cls or base.__module__.partition(".")[0] != "sklearn":
                msg += f" ({base.__name__} defines {changed[0]} of its own)"
            raise UnsupportedModelError(msg)
    msg = f"{cls.__name__} is not written as exact ONNX"
    raise UnsupportedModelError(msg)


def tensor(answers: Answers, method: str, model: Any) -> Tensor:
    """Return one method's answer as a tensor.

    Raises:
        UnsupportedModelError: the estimator's writer gives none.
    """
    answer = answers.get(method)
    if isinstance(answer, Table):
        return answer.parts[0] if len(answer.parts) == 1 else answer.matrix()
    if not isinstance(answer, Tensor):
        msg = f"{type(model).__name__}.{method} is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    return answer


def transformed(answers: Answers, model: Any) -> Table:
    """Return what ``transform`` gives as a table, named where ``set_output`` asks for it.

    Raises:
        UnsupportedModelError: the estimator's writer gives none.
    """
    answer = answers.get("transform")
    if isinstance(answer, Table):
        return _named(answer, model)
    if not isinstance(answer, Tensor):
        msg = f"{type(model).__name__}.transform is not written as exact ONNX"
        raise UnsupportedModelError(msg)
    return _named(Table(answer.graph, (answer,)), model)


def _named(table: Table, model: Any) -> Table:
    last = model
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    if getattr(last, "_sklearn_output_config", {}).get("transform") not in {"pandas", "polars"}:
        return table
    return table.renamed(model.get_feature_names_out())


def final(method: str) -> str:
    """Return the name of an answer that is good enough for an output, and faster.

    Within 1e-6; what goes on to another step is exact, as a split may lie at any number.
    """
    return f"{method} at the end"


def labelled(graph: Graph, classes: Any, index: Tensor) -> dict[str, Answer]:
    """Return the ``index`` and ``predict`` answers of a classifier with these classes."""
    labels = class_labels(classes)
    counted = labels.dtype == np.int64 and np.array_equal(labels, np.arange(len(labels)))
    predicted = index if counted else index.lookup(graph.constant(labels))
    return {"index": index, "predict": predicted}


def class_labels(classes: Any) -> Any:
    """Return ``classes_`` as an array of int64, float64 or texts."""
    array = np.asarray(classes)
    if array.dtype.kind in "UO":
        return np.array([str(label) for label in array.tolist()], dtype=object)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        return array.astype(np.float64)
    return array.astype(np.int64)
