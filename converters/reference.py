"""The original's answer, in the shapes and types in which Triton will give it."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from converters import onnx_graph
from converters.interrupts import reraise_interrupt
from converters.rows import Array, Form, Rows
from converters.source import LoadedModel
from toolkit.errors import SampleError, UnsupportedModelError


class Kind(StrEnum):
    """What an output means, which decides how differences are judged."""

    LABEL = "label"
    PROBABILITY = "probability"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the original: ``values`` with rows first.

    ``method`` is how the original was asked: the name of one of its methods, or for a
    bare LightGBM booster what is made of its ``predict``.
    """

    name: str
    kind: Kind
    values: Array
    method: str = ""

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape of one row's answer."""
        return tuple(self.values.shape[1:])


Answer = tuple[Output, ...]


def ask(source: LoadedModel, rows: Rows) -> Answer:
    """Ask the original.

    Raises:
        UnsupportedModelError: it answers with something that is no tensor.
        SampleError: it refuses the rows.
    """
    askers: dict[str, Callable[[LoadedModel, Rows], Answer]] = {
        "torch": _ask_torch,
        "torchscript": _ask_torch,
        "onnx": _ask_onnx,
    }
    with quiet():
        try:
            return askers.get(source.framework, _ask_predictor)(source, rows)
        except (UnsupportedModelError, ModuleNotFoundError):
            raise
        except Exception as error:  # Whatever the user's model raises.
            reraise_interrupt(error)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            msg = f"{source.class_name} does not take these rows: {reason}"
            raise SampleError(msg, hint="give rows that it takes: --sample FILE") from error


def accepts(source: LoadedModel, rows: Rows) -> bool:
    """Say whether the original answers these rows at all."""
    try:
        ask(source, rows)
    except SampleError:
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of other libraries from the user: the proof is what counts."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def table(rows: Rows) -> Any:
    """Return rows as the original wants them: a fresh copy, since some models write to it."""
    first = next(iter(rows.tensors.values()))
    if rows.form is Form.TEXTS:
        return first.copy()
    if rows.form is Form.COLUMNS:
        import pandas as pd

        return pd.DataFrame({name: array.copy() for name, array in rows.tensors.items()})
    if rows.columns:
        import pandas as pd

        return pd.DataFrame(first.copy(), columns=list(rows.columns))
    return first.copy()


def _ask_predictor(source: LoadedModel, rows: Rows) -> Answer:
    model = source.model
    if type(model).__name__ == "Booster":
        return _ask_lightgbm_booster(model, rows)
    predicted = np.asarray(model.predict(table(rows)))
    if predicted.dtype.kind not in "biufUO" or predicted.shape[:1] != (rows.count,):
        msg = f"{source.class_name}.predict gives no array with one entry a row"
        raise UnsupportedModelError(msg)
    if not _gives_labels(model):
        values = predicted.astype(np.float64)
        values = values.reshape(-1, 1) if values.ndim == 1 else values
        return (Output("prediction", Kind.VALUE, values, "predict"),)
    label = Output("label", Kind.LABEL, _labels(predicted), "predict")
    for name, kind, method in (
        ("probabilities", Kind.PROBABILITY, "predict_proba"),
        ("scores", Kind.VALUE, "decision_function"),
    ):
        given = _scores(model, method, rows)
        if given is not None:
            return (label, Output(name, kind, given, method))
    return (label,)


def _gives_labels(model: Any) -> bool:
    """Say whether ``predict`` names a class, a cluster or an outlier."""
    try:
        from sklearn.base import is_classifier, is_clusterer, is_outlier_detector

        if is_classifier(model) or is_clusterer(model) or is_outlier_detector(model):
            return True
    except (ModuleNotFoundError, AttributeError, TypeError):
        pass  # Not a scikit-learn object, or scikit-learn is not installed.
    return hasattr(model, "predict_proba") or hasattr(model, "classes_")


def _labels(predicted: Array) -> Array:
    """Return labels as int64 or as texts."""
    if predicted.dtype.kind in "UO":
        texts = [str(label) for label in predicted.ravel().tolist()]
        return np.array(texts, dtype=object).reshape(predicted.shape)
    if predicted.dtype.kind == "f" and not np.array_equal(predicted, np.rint(predicted)):
        return predicted.astype(np.float64)
    return predicted.astype(np.int64)


def _scores(model: Any, method: str, rows: Rows) -> Array | None:
    """Return a matrix with one row a row, or ``None`` when the model has none to give."""
    if not hasattr(model, method):
        return None
    given = getattr(model, method)(table(rows))
    if isinstance(given, list):  # One array an output: no tensor of its own.
        return None
    matrix = np.asarray(given, dtype=np.float64)
    return matrix.reshape(-1, 1) if matrix.ndim == 1 else matrix


def _ask_lightgbm_booster(booster: Any, rows: Rows) -> Answer:
    """Give a bare booster the outputs of the classifier or regressor it came from."""
    given = np.asarray(booster.predict(next(iter(rows.tensors.values())).copy()))
    objective = str(booster.model_to_string(num_iteration=1)).partition("objective=")[2]
    objective = objective.partition("\n")[0].partition(" ")[0]
    if objective in {"binary", "cross_entropy"}:
        given = np.column_stack([1.0 - given, given])
    elif not objective.startswith("multiclass"):
        given = given.reshape(-1, 1) if given.ndim == 1 else given
        return (Output("prediction", Kind.VALUE, given, "predict"),)
    labels = given.argmax(axis=1).astype(np.int64)
    return (
        Output("label", Kind.LABEL, labels, "booster_label"),
        Output("probabilities", Kind.PROBABILITY, given, "booster_probabilities"),
    )


def _ask_torch(source: LoadedModel, rows: Rows) -> Answer:
    import torch

    inputs = [torch.from_numpy(array.copy()) for array in rows.tensors.values()]
    with torch.no_grad():
        given = source.model(*inputs)
    if isinstance(given, dict):
        named = list(given.items())
    elif isinstance(given, tuple | list):
        named = [(f"output_{i}", value) for i, value in enumerate(given)]
    else:
        named = [("output", given)]
    if not named or not all(isinstance(value, torch.Tensor) for _, value in named):
        msg = f"{source.class_name} gives something else than tensors"
        raise UnsupportedModelError(msg, hint="wrap it in a module whose forward gives tensors")
    return tuple(_tensor_output(str(name), value.numpy(force=True)) for name, value in named)


def _ask_onnx(source: LoadedModel, rows: Rows) -> Answer:
    session = onnx_graph.session(source.path)
    names = [tensor.name for tensor in session.get_outputs()]
    if onnx_graph.signature(session)[2]:
        given = session.run(None, dict(rows.tensors))
    else:
        each = [
            session.run(None, {name: array[row] for name, array in rows.tensors.items()})
            for row in range(rows.count)
        ]
        given = [np.stack(values) for values in zip(*each, strict=True)]
    return tuple(_tensor_output(n, v) for n, v in zip(names, given, strict=True))


def _tensor_output(name: str, values: Array) -> Output:
    return Output(name, Kind.VALUE if values.dtype.kind == "f" else Kind.LABEL, values)
