"""Judge a converted model by rows of this module's own, not by the project's own proof.

**Right** is what the goals of the project mean by it: all labels equal, probabilities
within 1e-4, values within 1e-4 relative (absolute near zero), NaN where the original
says NaN.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.models.case import Array, Sample, objects

ROWS = 2000
TOLERANCE = 1e-4

Asked = dict[str, Array]
"""What is sent, by the name of the input; one matrix or one list of texts is ``input``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: ``worst`` is the largest difference as a multiple of what is allowed."""

    rows: int
    wrong: int
    labels: int
    worst: float
    where: str
    kinds: Mapping[str, int]
    """How many wrong rows of each kind of row."""

    @property
    def right(self) -> bool:
        """Whether no row is wrong."""
        return not self.wrong


def compare(native: Mapping[str, Array], given: Mapping[str, Array], kinds: Array) -> Verdict:
    """Compare outputs by name; ``kinds`` names the kind of each row."""
    count = len(kinds)
    wrong = np.zeros(count, dtype=bool)
    labels, worst, where = 0, 0.0, ""
    for name, expected in native.items():
        found = given[name].reshape(count, -1)
        flat = expected.reshape(count, -1)
        if found.shape != flat.shape:
            shape = f"{name} has {found.shape[1]} values a row, the original gives {flat.shape[1]}"
            return Verdict(count, count, 0, float("inf"), shape, {})
        excess = _excess(name, flat, found)
        over = (excess > 1).any(axis=1)
        wrong |= over
        labels += int(over.sum()) if name.startswith("label") else 0
        if excess.size and excess.max() > worst:
            row, column = np.unravel_index(int(excess.argmax()), excess.shape)
            worst = float(excess.max())
            where = f"{name}: {flat[row, column]} became {found[row, column]} ({kinds[row]})"
    names, numbers = np.unique(kinds[wrong].astype(str), return_counts=True)
    counted = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    return Verdict(count, int(wrong.sum()), labels, worst, where, counted)


def _excess(name: str, expected: Array, found: Array) -> Array:
    """Return each difference as a multiple of what is allowed; another label is infinite."""
    if _is_text(expected) or _is_text(found):
        same = expected.astype(str) == found.astype(str)
        return np.where(same, 0.0, np.inf)
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    if name.startswith("label"):
        return np.where(same, 0.0, np.inf)
    with np.errstate(all="ignore"):
        share = 0.0 if name.startswith("probabilities") else np.abs(expected)
        allowed = TOLERANCE * np.maximum(1.0, np.where(np.isfinite(share), share, 1.0))
        excess = np.abs(expected - found) / allowed
    return np.where(same, 0.0, np.where(np.isnan(excess), np.inf, excess))


def _is_text(values: Array) -> bool:
    return values.dtype.kind in "OUS"


METHODS = {
    "label": ("predict",),
    "probabilities": ("predict_proba",),
    "scores": ("decision_function", "score_samples"),
    "prediction": ("predict",),
    "transformed": ("transform",),
}
"""The method of the original that an output is compared with."""


def ask(model: Any, sample: Sample, names: tuple[str, ...]) -> dict[str, Array]:
    """Ask the original for these outputs, in a table of its own for each.

    Raises:
        LookupError: it has no method for an output.
    """
    count = rows_of(sample)
    answers = {}
    for name in names:
        answers[name] = _dense(_method(model, name)(table(model, sample)), count)
    return answers


def _method(model: Any, name: str) -> Callable[[Any], Any]:
    booster = _BOOSTERS.get((type(model).__module__.partition(".")[0], type(model).__name__))
    if booster is not None:
        return lambda rows: booster(model, rows, name)
    base, _, number = name.rpartition("_")
    if number.isdigit() and base in METHODS:  # One output of several.
        whole = _method(model, base)
        return lambda rows: _part(whole(rows), int(number))
    for method in METHODS.get(name, (name,)):
        if hasattr(model, method):
            found: Callable[[Any], Any] = getattr(model, method)
            return found
    msg = f"{type(model).__name__} has no method for the output {name!r}"
    raise LookupError(msg)


def _part(answer: Any, number: int) -> Array:
    return np.asarray(answer[number]) if isinstance(answer, list) else np.asarray(answer)[:, number]


def _dense(answer: Any, count: int) -> Array:
    """Return an answer as an array, rows first."""
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    if isinstance(answer, tuple):  # PLSSVD and the like answer for the targets too.
        answer = answer[0]
    if isinstance(answer, list):  # One matrix an output, of a multi-output classifier.
        widest = max(np.shape(part)[1] for part in answer)
        answer = np.stack(
            [np.pad(part, ((0, 0), (0, widest - part.shape[1]))) for part in answer], axis=1
        )
    array = np.asarray(answer)
    if _is_text(array) and array.dtype.kind != "U":
        flat = [str(cell) for cell in array.ravel()]
        array = objects(flat).reshape(array.shape)
    return array.reshape(count, -1)


def _ask_lightgbm(booster: Any, rows: Any, name: str) -> Array:
    given = np.asarray(booster.predict(rows))
    return _of_scores(given, name)


def _ask_xgboost(booster: Any, rows: Any, name: str) -> Array:
    import xgboost

    names = booster.feature_names
    matrix = xgboost.DMatrix(rows, feature_names=names, feature_types=booster.feature_types)
    return _of_scores(np.asarray(booster.predict(matrix)), name)


def _of_scores(given: Array, name: str) -> Array:
    if name == "prediction":
        return given
    both = np.column_stack([1.0 - given, given]) if given.ndim == 1 else given
    return both.argmax(axis=1) if name == "label" else both


_BOOSTERS = {("lightgbm", "Booster"): _ask_lightgbm, ("xgboost", "Booster"): _ask_xgboost}


def table(model: Any, sample: Sample) -> Any:
    """Return rows as the original wants them, copied."""
    if not isinstance(sample, dict):
        return sample.copy()
    frame = _frame(sample)
    first = model.steps[0][1] if hasattr(model, "steps") else model
    if type(first).__name__ in {"DictVectorizer", "FeatureHasher"}:
        return frame.to_dict("records")
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if first is last and _wants_categories(last):
        texts = [name for name, array in sample.items() if array.dtype == object]
        return frame.astype(dict.fromkeys(texts, "category"))
    return frame


def _frame(columns: Mapping[str, Array]) -> Any:
    import pandas as pd

    return pd.DataFrame({name: array.copy() for name, array in columns.items()})


def _wants_categories(model: Any) -> bool:
    root = type(model).__module__.partition(".")[0]
    return root in {"lightgbm", "xgboost"} or type(model).__name__.startswith("HistGradient")


def rows_of(sample: Sample) -> int:
    """Return how many rows there are."""
    return len(next(iter(sample.values())) if isinstance(sample, dict) else sample)


def missing(texts: Array) -> Array:
    """Say which cells of a column of texts are ``None`` or NaN."""
    return np.array([not isinstance(cell, str) for cell in texts], dtype=bool)
