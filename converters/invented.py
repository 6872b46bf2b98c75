"""Rows made up from what a fitted model knows: its width, categories, vocabulary and scales."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from converters import anatomy
from converters.categories import fitted_categories
from converters.missing_texts import reached
from converters.rows import Array

ROWS = 32
_VECTORIZERS = {"CountVectorizer", "TfidfVectorizer", "HashingVectorizer"}
_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "Zürich", "2026", "don't", "e-mail")
_MOST_WORDS = 12
_MOST_KNOWN = 1000

Made = Array | dict[str, Array]


def samples(
    model: Any, width: int | None, columns: Sequence[str], *, apart: bool, seed: int
) -> Iterator[Made]:
    """Give samples for a model, the likelier first; none where it does not say its rows.

    ``columns`` are the names of its columns, as many as ``width``, made up where it has
    none. Where ``apart`` says so, or texts are among them, they are columns by name.
    """
    rng = np.random.default_rng(seed)
    listed = _listed(anatomy.first(model), rng)
    if listed is not None:
        yield listed
        return
    if width is None:
        return
    known = _known(model, columns, rng)
    texts = any(values.dtype == object for values in known.values())
    matrix = _numbers(model, columns, rng)
    # Some take numbers above zero only, some those up to one.
    for numbers in (matrix, np.abs(matrix), rng.random(matrix.shape)):
        table: dict[str, Array] = dict(zip(columns, numbers.T, strict=True)) | known
        yield table if apart or texts else np.column_stack(list(table.values()))


def _listed(first: Any, rng: np.random.Generator) -> Made | None:
    """Return rows for what takes something else than a matrix or columns."""
    kind = type(first).__name__
    if kind in _VECTORIZERS:
        return _texts(first, rng)
    if kind == "IsotonicRegression" and hasattr(first, "X_thresholds_"):
        low, high = first.X_thresholds_.min(), first.X_thresholds_.max()
        return np.asarray(rng.uniform(low, high, (ROWS, 1)))
    if kind in {"LabelEncoder", "LabelBinarizer", "MultiLabelBinarizer"}:
        classes = first.classes_.tolist()
        if kind == "MultiLabelBinarizer":
            lists = [classes[: rng.integers(0, len(classes) + 1)] for _ in range(ROWS)]
            return _objects([json.dumps(each) for each in lists])
        drawn = [classes[i] for i in rng.integers(0, len(classes), ROWS)]
        return _objects(drawn) if isinstance(drawn[0], str) else np.array(drawn).reshape(-1, 1)
    if kind == "DictVectorizer":
        return _named_values(first, rng)
    return None


def _named_values(vectorizer: Any, rng: np.random.Generator) -> Made:
    values: dict[str, list[str]] = {}
    for feature in vectorizer.feature_names_:
        name, parted, value = feature.partition(vectorizer.separator)
        values.setdefault(name, []).extend([value] if parted else [])
    return {
        name: _drawn(np.array(known, dtype=object), rng) if known else rng.normal(size=ROWS)
        for name, known in values.items()
    }


def _texts(vectorizer: Any, rng: np.random.Generator) -> Array:
    """Return texts made of the words, or pieces of words, that the vectorizer knows."""
    words = [str(word) for word in getattr(vectorizer, "vocabulary_", ())][:_MOST_KNOWN]
    known = np.array([*words, *_WORDS], dtype=object)
    counts = rng.integers(1, _MOST_WORDS, ROWS)
    return _objects([" ".join(rng.choice(known, count).tolist()) for count in counts])


def _known(model: Any, columns: Sequence[str], rng: np.random.Generator) -> dict[str, Array]:
    """Return the columns of which the model knows all values, drawn from those."""
    found: dict[str, Array] = {}
    for name, fitted in fitted_categories(model, columns).items():
        found[name] = _drawn(np.array(fitted.values, dtype=object), rng)
    for part, names in reached(model, columns):
        if type(part).__name__ in _VECTORIZERS and len(names) == 1:
            found.setdefault(names[0], _texts(part, rng))
        categories = getattr(part, "categories_", None)
        if not isinstance(categories, list) or len(categories) != len(names):
            continue
        for name, values in zip(names, categories, strict=True):
            there = _there(np.asarray(values))
            if len(there):
                found.setdefault(name, _drawn(there, rng))
    return found


def _there(values: Array) -> Array:
    """Leave out missing values, and what is no text where there are texts."""
    listed = [value for value in values.tolist() if value is not None and value == value]  # noqa: PLR0124 - NaN
    texts = [value for value in listed if isinstance(value, str)]
    return _objects(texts) if texts else np.array(listed)


def _drawn(values: Array, rng: np.random.Generator) -> Array:
    drawn: Array = values[rng.integers(0, len(values), ROWS)]
    return drawn


def _numbers(model: Any, columns: Sequence[str], rng: np.random.Generator) -> Array:
    """Return numbers of several sizes, about where the model's scalers saw its columns."""
    spread = 10.0 ** rng.uniform(-1, 3, (ROWS, 1))
    spread[ROWS // 2 :] = 1.0
    matrix: Array = rng.normal(size=(ROWS, len(columns))) * spread
    places = _places(model, columns)
    for i, name in enumerate(columns):
        middle, size = places.get(name, (0.0, 1.0))
        matrix[:, i] = middle + matrix[:, i] * size
    matrix[0] = 0.0
    return matrix


def _places(model: Any, columns: Sequence[str]) -> Mapping[str, tuple[float, float]]:
    """Return middle and spread of the columns that are scaled or imputed first."""
    found: dict[str, tuple[float, float]] = {}
    for part, names in reached(model, columns):
        for middles, sizes in (
            ("mean_", "scale_"),
            ("center_", "scale_"),
            ("data_min_", "data_range_"),
            ("statistics_", ""),
        ):
            middle = _learned(part, middles, len(names))
            if middle is None:
                continue
            size = _learned(part, sizes, len(names))
            size = np.ones(len(names)) if size is None else size
            for name, one, other in zip(names, middle, size, strict=True):
                if np.isfinite(one) and np.isfinite(other):
                    found[name] = (float(one), float(other))  # A scaler after an imputer is last.
    return found


def _learned(part: Any, name: str, count: int) -> Array | None:
    values = getattr(part, name, None)
    if not isinstance(values, np.ndarray) or values.shape != (count,) or values.dtype.kind != "f":
        return None
    return values


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
