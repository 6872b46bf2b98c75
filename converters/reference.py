"""The original's answer, in the shapes and types in which Triton will give it."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from converters import anatomy, answers, intake, onnx_graph
from converters.answers import Answer, Kind, Output
from converters.interrupts import reraise_interrupt
from converters.rows import Array, Rows
from converters.source import LoadedModel
from toolkit.errors import ConfigError, SampleError, UnsupportedModelError

_ALONE_ROWS = 4
_ROUNDING = 1e-5
# NMF stops when the whole batch has converged; PatchExtractor draws one number after another.
_MIX_ROWS = {"NMF", "MiniBatchNMF", "PatchExtractor"}


def ask(source: LoadedModel, rows: Rows, outputs: tuple[str, ...] = ()) -> Answer:
    """Ask the original for ``outputs`` by name; left out, for what its kind is asked.

    Raises:
        UnsupportedModelError: it answers with something that is no tensor.
        ConfigError: it has no output of such a name.
        SampleError: it refuses the rows.
    """
    return _told(source, lambda: _ask_predictor(source, rows, outputs), rows, outputs)


def accepts(source: LoadedModel, rows: Rows, outputs: tuple[str, ...] = ()) -> bool:
    """Say whether the original answers these rows at all, each alone where rows mix."""
    each = [rows.pick(np.array([row])) for row in range(rows.count)] if _mixes_rows(source) else []
    try:
        for block in (rows, *each):
            _told(source, partial(_answered, source, block, outputs), block, outputs)
    except SampleError:
        return False
    return True


def _mixes_rows(source: LoadedModel) -> bool:
    return any(type(part).__name__ in _MIX_ROWS for part in anatomy.parts(source.model))


def _told(
    source: LoadedModel, predictor: Callable[[], Answer], rows: Rows, outputs: tuple[str, ...]
) -> Answer:
    """Ask in silence, a predictor by ``predictor``; whatever it raises becomes ours."""
    with quiet():
        try:
            if source.framework in {"torch", "torchscript", "onnx"}:
                given = _ask_onnx if source.framework == "onnx" else _ask_torch
                return _chosen(source, given(source, rows), outputs)
            return predictor()
        except (UnsupportedModelError, ConfigError, SampleError, ModuleNotFoundError):
            raise
        except Exception as error:  # Whatever the user's model raises.
            reraise_interrupt(error)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            msg = f"{source.class_name} does not take these rows: {reason}"
            raise SampleError(msg, hint="give rows that it takes: --sample FILE") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of other libraries from the user: the proof is what counts."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def table(rows: Rows, model: Any = None) -> Any:
    """Return rows as ``model`` wants them: a fresh copy, since some models write to it."""
    return intake.table(rows, intake.of(model, rows))


def _ask_predictor(source: LoadedModel, rows: Rows, outputs: tuple[str, ...]) -> Answer:
    answer = _answered(source, rows, outputs)
    if rows.count == 1 or not _mixes_rows(source):
        return answer
    names = tuple(output.name for output in answer)
    few = [
        _answered(source, rows.pick(np.array([row])), names)
        for row in range(min(_ALONE_ROWS, rows.count))
    ]
    if all(_same(output, [one[i] for one in few]) for i, output in enumerate(answer)):
        return answer
    rest = range(len(few), rows.count)
    each = [*few, *(_answered(source, rows.pick(np.array([row])), names) for row in rest)]
    return tuple(
        replace(output, values=np.concatenate([one[i].values for one in each]), alone=True)
        for i, output in enumerate(answer)
    )


def _same(output: Output, alone: list[Output]) -> bool:
    """Say whether a row's answer is the same, but for rounding, when it is asked alone."""
    one = np.concatenate([answer.values for answer in alone])
    batch = output.values[: len(one)]
    if output.kind is Kind.LABEL or one.shape != batch.shape:
        return True  # A tie between labels or a fault: what the proof is for.
    size = np.maximum(np.abs(batch), 1.0)
    return bool(np.all((np.abs(one - batch) <= _ROUNDING * size) | ~np.isfinite(batch)))


def _answered(source: LoadedModel, rows: Rows, outputs: tuple[str, ...]) -> Answer:
    """Ask for ``outputs``; for those usual for such a model when there are none."""
    model = source.model
    if type(model).__name__ == "Booster" and hasattr(model, "model_to_string"):
        return _chosen(source, _ask_lightgbm_booster(model, rows), outputs)
    has = _methods(model)
    if not has:
        msg = f"a {source.class_name} has neither predict nor transform"
        raise UnsupportedModelError(msg, hint="it answers only for the rows it was fitted on")
    if outputs:
        return tuple(
            found for name in outputs for found in _outputs_called(source, has, name, rows)
        )
    first = next(iter(has))
    answer = _outputs_of(source, first, has[first], rows)
    for name in ("probabilities", "scores") if first == "label" else ():
        with contextlib.suppress(_Absent):
            if name in has:
                return (*answer, *_outputs_of(source, name, has[name], rows))
    return answer


class _Absent(Exception):  # noqa: N818 - it tells of no error, only that there is nothing
    """The model has the method and cannot be asked it, as some are after their fit."""


def _methods(model: Any) -> dict[str, str]:
    """Return how the model can be asked, by the output's name, the usual answer first."""
    predict = "label" if _gives_labels(model) else "prediction"
    known = {
        predict: "predict",
        "probabilities": "predict_proba",
        "scores": "decision_function",
        "transformed": "transform",
    }
    has = {name: method for name, method in known.items() if _callable(model, method)}
    if not has and _callable(model, "score_samples"):
        return {"scores": "score_samples"}  # KernelDensity.
    return has


def _callable(model: Any, method: str) -> bool:
    try:
        return callable(getattr(model, method, None))
    except Exception:  # noqa: BLE001 - a property of the user's own
        return False


def _outputs_called(
    source: LoadedModel, has: dict[str, str], name: str, rows: Rows
) -> tuple[Output, ...]:
    stem = name if name in has else name.rpartition("_")[0]
    if stem not in has:
        msg = f"a {source.class_name} has no output {name!r}"
        raise ConfigError(msg, hint=f"its outputs: {', '.join(has)}")
    try:
        found = _outputs_of(source, stem, has[stem], rows)
    except _Absent as error:
        raise _refused(source, has[stem], error.__cause__) from error
    chosen = tuple(output for output in found if name in {stem, output.name})
    if not chosen:
        msg = f"a {source.class_name} has no output {name!r}"
        raise ConfigError(msg, hint=f"its outputs: {', '.join(out.name for out in found)}")
    return chosen


def _refused(source: LoadedModel, method: str, cause: BaseException | None) -> SampleError:
    return SampleError(f"{source.class_name}.{method} does not take these rows: {cause}")


def _chosen(source: LoadedModel, answer: Answer, outputs: tuple[str, ...]) -> Answer:
    """Return the outputs of these names, in their order; all when there are none."""
    by_name = {output.name: output for output in answer}
    unknown = [name for name in outputs if name not in by_name]
    if unknown:
        msg = f"a {source.class_name} has no output {unknown[0]!r}"
        raise ConfigError(msg, hint=f"its outputs: {', '.join(by_name)}")
    return tuple(by_name[name] for name in outputs) or answer


def _outputs_of(source: LoadedModel, name: str, method: str, rows: Rows) -> tuple[Output, ...]:
    """Ask one method.

    Raises:
        _Absent: it raises, and is neither ``predict`` nor ``transform``.
        UnsupportedModelError: its answer is no tensor with rows first.
    """
    model = source.model
    try:
        given = getattr(model, method)(table(rows, model))
    except Exception as error:
        reraise_interrupt(error)
        if method in {"predict_proba", "decision_function"}:
            raise _Absent from error
        raise
    what = f"{source.class_name}.{method}"
    if isinstance(given, list) and method != "predict" and name != "transformed":
        return tuple(
            Output(f"{name}_{i}", _KINDS[name], answers.numbers(what, part, rows.count), method, i)
            for i, part in enumerate(given)
        )
    if name == "label":
        classes = getattr(model, "classes_", None)
        values = answers.labels(answers.rows_first(what, given, rows.count), classes)
        if values.shape[1:] == (1,) and not isinstance(classes, list):
            values = values.reshape(-1)  # CatBoost's, of more than two classes.
        return (Output(name, Kind.LABEL, values, method),)
    if name == "transformed" and (texts := answers.texts(what, given, rows.count)) is not None:
        return (Output(name, Kind.LABEL, texts, method),)
    return (Output(name, _KINDS[name], answers.numbers(what, given, rows.count), method),)


_KINDS = {
    "probabilities": Kind.PROBABILITY,
    "scores": Kind.VALUE,
    "prediction": Kind.VALUE,
    "transformed": Kind.VALUE,
}


def _gives_labels(model: Any) -> bool:
    """Say whether ``predict`` names a class, a cluster or an outlier."""
    try:
        from sklearn.base import is_classifier, is_clusterer, is_outlier_detector

        if is_classifier(model) or is_clusterer(model) or is_outlier_detector(model):
            return True
    except (ModuleNotFoundError, AttributeError, TypeError):
        pass  # Not a scikit-learn object, or scikit-learn is not installed.
    # CatBoost's regressors have classes_ too, empty ones.
    classes = getattr(model, "classes_", None)
    return hasattr(model, "predict_proba") or (classes is not None and len(classes) > 0)


def _ask_lightgbm_booster(booster: Any, rows: Rows) -> Answer:
    """Give a bare booster the outputs of the classifier or regressor it came from."""
    given = np.asarray(booster.predict(table(rows, booster)))
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
    return tuple(
        replace(_tensor_output(str(name), value.numpy(force=True)), part=part)
        for part, (name, value) in enumerate(named)
    )


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
