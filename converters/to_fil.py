"""Tree ensembles to an entry for Triton's FIL backend, with treelite.

FIL takes one matrix of float32 and gives one of float32: probabilities or values, never
labels. On the CPU it compares with thresholds as they stand in the file, on a GPU it first
rounds them to float32. So the files written here hold thresholds that are float32 numbers,
rounded down: for every float32 row, ``x <= t`` stays what it was, on both.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters import offline, reference
from converters.answers import Kind, Output
from converters.interrupts import reraise_interrupt
from converters.onnx_graph import first_line
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Array, Form, sent
from converters.samples import MATRIX_INPUT
from converters.table import Converted, Question
from toolkit.errors import ParityError, UnsupportedModelError
from toolkit.spec import DType, ModelSpec, TensorSpec

_FORESTS = (
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
)
_MOST_NAMED = 20


def to_fil(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
    """Write the model in the form FIL reads, and ask for no more than FIL gives.

    Rows are asked as float32 where the sample is: that is what its callers then hold.

    Raises:
        UnsupportedModelError: FIL or treelite cannot take the model, or gives other outputs.
        ParityError: the class of the largest probability is not the label.
    """
    output = _given(question, options)
    question = _in_float32(question, options)
    labels = [each for each in question.answer if each.kind is Kind.LABEL]
    kept = next(each for each in question.answer if each.name == output.name)
    model_type = _written(question, workdir)
    spec = _spec(question, kept, model_type, options)
    asked = replace(question, answer=(kept,))
    _check(asked, labels, spec, options, workdir)
    path = workdir / spec.model_file
    notes = tuple(_notes(asked, spec, rounded=_holds_float32(options.sample)))
    return Converted(spec, {path.name: path}, question=asked, notes=notes)


def _given(question: Question, options: ConversionOptions) -> Output:
    """Return the one output of the original that FIL can give."""
    what = question.source.class_name
    if question.rows.form is not Form.MATRIX:
        msg = f"FIL takes one matrix of numbers, and {what} takes {question.rows.form.value}"
        raise UnsupportedModelError(msg, hint="--road onnx gives each column its input")
    given = [out for out in question.answer if out.name in {"probabilities", "prediction"}]
    other = [out.name for out in question.answer if out not in given and out.kind is not Kind.LABEL]
    asked = [name for name in options.outputs if name not in {"probabilities", "prediction"}]
    if len(given) != 1 or other or asked:
        wanted = ", ".join([*asked, *other]) or "several outputs"
        msg = f"FIL gives probabilities or a prediction, and {what} is asked for {wanted}"
        raise UnsupportedModelError(msg)
    values = given[0].values
    if given[0].name == "prediction" and values.size != len(values):
        msg = f"FIL serves no multi-output model, and {what} gives {values.shape[1:]} values a row"
        raise UnsupportedModelError(msg)
    return given[0]


def _in_float32(question: Question, options: ConversionOptions) -> Question:
    """Ask anew with the rows as FIL gets them, if the sample holds float32 and no more."""
    if not _holds_float32(options.sample):
        return question
    with np.errstate(over="ignore"):
        rounded = {
            name: array.astype(np.float32).astype(np.float64)
            for name, array in question.rows.tensors.items()
        }
    rows = replace(question.rows, tensors=rounded)
    names = tuple(out.name for out in question.answer)
    answer = reference.ask(question.source, rows, names)
    return replace(question, rows=rows, answer=answer)


def _holds_float32(sample: Array | Mapping[str, Array] | None) -> bool:
    if sample is None:
        return False
    arrays = sample.values() if isinstance(sample, Mapping) else (sample,)
    return all(np.can_cast(np.asarray(array).dtype, np.float32, "safe") for array in arrays)


def _written(question: Question, workdir: Path) -> str:
    """Write the model's file; return FIL's name for its kind."""
    writers = {"sklearn": _write_sklearn, "xgboost": _write_xgboost, "lightgbm": _write_lightgbm}
    return writers[question.source.framework](question.source.model, workdir)


def _write_sklearn(model: Any, workdir: Path) -> str:
    name = type(model).__name__
    if name not in _FORESTS:
        msg = f"FIL serves tree ensembles alone, and {name} is none that it gives the answer of"
        raise UnsupportedModelError(msg, hint=f"it serves {', '.join(_FORESTS)}")
    if getattr(model, "loss", "") == "exponential":
        msg = f"treelite takes this {name} for one of log loss, and its loss is exponential"
        raise UnsupportedModelError(msg)
    import treelite.sklearn

    try:
        with quiet():
            forest = treelite.sklearn.import_model(model)
        for number in range(forest.num_tree):
            tree = forest.get_tree_accessor(number)
            tree.set_field("threshold", rounded_down(tree.get_field("threshold")))
        forest.serialize(workdir / "checkpoint.tl")
    except Exception as error:  # treelite raises its own, AssertionError, AttributeError ...
        reraise_interrupt(error)
        msg = f"treelite cannot take this {name}: {_reason(error)}"
        raise UnsupportedModelError(msg) from error
    return "treelite_checkpoint"


def rounded_down(thresholds: Array) -> Array:
    """Return the largest float32 numbers not above these, as float64."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    above = near > thresholds
    near[above] = np.nextafter(near[above], np.float32(-np.inf))
    return near.astype(np.float64)


def _write_xgboost(model: Any, workdir: Path) -> str:
    missing = getattr(model, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        msg = f"FIL takes NaN alone for a missing number, and this model takes {missing} for one"
        raise UnsupportedModelError(msg)
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    # Without early stopping there is no such attribute; with it, fewer trees answer.
    with contextlib.suppress(AttributeError):
        booster = booster[: model.best_iteration + 1]
    document = json.loads(bytes(booster.save_raw("json")))
    if document["learner"]["gradient_booster"]["name"] == "gblinear":
        msg = f"FIL serves trees, and this {type(model).__name__} is linear (gblinear)"
        raise UnsupportedModelError(msg)
    _as_before_3_1(document["learner"], type(model).__name__)
    path = workdir / "xgboost.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return "xgboost_json"


def _as_before_3_1(learner: dict[str, Any], name: str) -> None:
    """Write what XGBoost 3.1 changed as before: FIL's treelite knows it from 4.6.1 on only.

    treelite 4.3 (24.09) and 4.4 refuse the list of intercepts and the key ``cats``.
    """
    parameters = learner["learner_model_param"]
    if str(parameters["base_score"]).startswith("["):
        scores = json.loads(parameters["base_score"])
        if len(set(scores)) > 1:
            msg = f"{name} has an intercept for each class, which FIL does not read everywhere"
            raise UnsupportedModelError(msg, hint="fit it with base_score=0.5")
        parameters["base_score"] = repr(float(scores[0]))
    trees = learner["gradient_booster"]
    for part in (trees, trees.get("gbtree", {})):
        cats = part.get("model", {}).pop("cats", None)
        if cats and any(cats.values()):
            msg = f"{name} holds the texts of its categories, and FIL takes numbers alone"
            raise UnsupportedModelError(msg, hint="fit it on the categories' codes")


def _write_lightgbm(model: Any, workdir: Path) -> str:
    text = getattr(model, "booster_", model).model_to_string()
    if re.search(r"(?m)^objective=multiclassova\b", text):
        msg = "FIL puts softmax on every model of several classes, and multiclassova has none"
        raise UnsupportedModelError(msg)
    # The sizes count the bytes of each tree, for LightGBM's own reader; it does without.
    text = re.sub(r"(?m)^tree_sizes=.*\n", "", text)
    text = re.sub(r"(?m)^threshold=(.*)$", _rounded_line, text)
    (workdir / "model.txt").write_text(text, encoding="utf-8")
    return "lightgbm"


def _rounded_line(line: re.Match[str]) -> str:
    numbers = np.array([float(number) for number in line[1].split()])
    return "threshold=" + " ".join(repr(number) for number in rounded_down(numbers).tolist())


def _spec(
    question: Question, output: Output, model_type: str, options: ConversionOptions
) -> ModelSpec:
    classifier = output.kind is Kind.PROBABILITY
    flag = "true" if classifier else "false"
    parameters = {
        "is_classifier": flag,
        "model_type": model_type,
        "output_class": flag,  # The same, for containers before 25.09.
        "predict_proba": flag,
        "threshold": "0.5",
    }
    width = question.rows.tensors[MATRIX_INPUT].shape[1]
    wide = output.values.shape[1] if classifier else 1
    return ModelSpec(
        options.name,
        "fil",
        (TensorSpec("input__0", DType.FP32, (width,)),),
        (TensorSpec("output__0", DType.FP32, (wide,)),),
        parameters=tuple(sorted(parameters.items())),
    )


def _check(
    question: Question,
    labels: list[Output],
    spec: ModelSpec,
    options: ConversionOptions,
    workdir: Path,
) -> None:
    """Read the file as FIL does; compare the class of the largest probability with the label.

    That class is all that a caller has. Rows whose probabilities differ are for the proof.
    """
    name = question.source.class_name
    try:
        given = offline.open_runner(spec, workdir, 1)(sent(question.rows, spec.inputs))
    except ModuleNotFoundError:
        raise  # treelite itself, which the extra installs
    except Exception as error:  # treelite's own errors
        reraise_interrupt(error)
        msg = f"treelite cannot read this {name}: {_reason(error)}"
        raise UnsupportedModelError(msg) from error
    (found,), expected = given.values(), question.answer[0].values
    if not labels or found.shape != expected.shape:
        return
    close = (np.abs(found - expected) <= options.atol).all(axis=1)
    classes = _classes(question, found.shape[1])
    wrong = int((close & (classes[found.argmax(axis=1)] != labels[0].values)).sum())
    if wrong:
        msg = (
            "the class of FIL's largest probability is another than the label for"
            f" {wrong} of {question.rows.count} rows"
        )
        raise ParityError(msg, hint="leave --road fil out")


def _classes(question: Question, count: int) -> Array:
    known = getattr(question.source.model, "classes_", None)
    return np.arange(count) if known is None else np.asarray(known)


def _notes(question: Question, spec: ModelSpec, *, rounded: bool) -> Iterator[str]:
    if question.answer[0].kind is Kind.PROBABILITY:
        names = [str(name) for name in _classes(question, spec.outputs[0].dims[0]).tolist()]
        listed = ", ".join([*names[:_MOST_NAMED], *(["..."] if names[_MOST_NAMED:] else [])])
        yield f"FIL gives no labels: output__0 holds the probabilities of {listed}"
    if rounded:
        yield "proven for float32 rows, as the sample holds; FIL takes no others"


def _reason(error: Exception) -> str:
    """Return treelite's words without its time and place in its source."""
    line = first_line(error)
    return re.sub(r"^\[[\d:]+\] \S+: ", "", line) or type(error).__name__
