"""What the original wants its rows to be: an array, a data frame, dicts, lists of tokens.

The host does the same with what the server receives: ``python_backend/predictor/model.py``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from converters import anatomy
from converters.categories import Categories, fitted_categories
from converters.missing_texts import missing_texts
from converters.rows import Array, Form, Rows

# They take one value a row, in one axis.
_VECTOR_TAKERS = {"LabelEncoder", "LabelBinarizer", "IsotonicRegression"}


class Shape(StrEnum):
    """The kind of object that a model's methods are called with."""

    MATRIX = "matrix"
    """One array as it is, of any number of axes."""
    FRAME = "frame"
    """A data frame."""
    VECTOR = "vector"
    """One array of one axis."""
    TEXTS = "texts"
    """One array of texts, of one axis."""
    TOKENS = "tokens"
    """A list of lists: each row is the text of a JSON list."""
    DICTS = "dicts"
    """A list of dicts, a key for each column."""
    PAIRS = "pairs"
    """A list of lists of column name and value."""


@dataclass(frozen=True, slots=True)
class Intake:
    """How to make of rows what a model takes.

    ``missing`` are the text columns whose empty text stands for ``None`` or NaN;
    ``categories``, the columns that become pandas categoricals.
    """

    shape: Shape
    columns: tuple[str, ...] = ()
    missing: Mapping[str, float | None] = field(default_factory=dict)
    categories: Mapping[str, Categories] = field(default_factory=dict)


def of(model: Any, rows: Rows) -> Intake:
    """Return how ``model`` takes these rows."""
    columns = tuple(rows.tensors) if rows.form is Form.COLUMNS else rows.columns
    missing = missing_texts(model, columns) if rows.form is Form.COLUMNS else {}
    if rows.form is Form.COLUMNS and (shape := names_values(model)):
        return Intake(shape, columns)
    if rows.form is Form.TEXTS:
        return Intake(Shape.TOKENS if takes_tokens(model) else Shape.TEXTS)
    if rows.form is Form.TENSORS:
        return Intake(Shape.MATRIX)
    if type(anatomy.first(model)).__name__ in _VECTOR_TAKERS:
        return Intake(Shape.VECTOR)
    if not columns:
        return Intake(Shape.MATRIX)
    return Intake(Shape.FRAME, columns, missing, fitted_categories(model, columns))


def names_values(model: Any) -> Shape | None:
    """Return the shape of a model that takes named values a row, as a DictVectorizer does."""
    first = anatomy.first(model)
    kind = type(first).__name__
    if kind == "DictVectorizer" or (kind == "FeatureHasher" and first.input_type == "dict"):
        return Shape.DICTS
    return Shape.PAIRS if kind == "FeatureHasher" and first.input_type == "pair" else None


def takes_tokens(model: Any) -> bool:
    """Say whether a row is a list of tokens, sent as the text of a JSON list."""
    first = anatomy.first(model)
    kind = type(first).__name__
    return kind == "MultiLabelBinarizer" or (
        kind == "FeatureHasher" and first.input_type == "string"
    )


def table(rows: Rows, intake: Intake) -> Any:
    """Return what the model is called with: a fresh copy, since some write to it."""
    arrays = list(rows.tensors.values())
    first = arrays[0]
    if intake.shape is Shape.MATRIX:
        return first.copy()
    if intake.shape in {Shape.VECTOR, Shape.TEXTS}:
        return first.reshape(-1).copy()
    if intake.shape is Shape.TOKENS:
        return [_tokens(text) for text in first.ravel().tolist()]
    if intake.shape is Shape.FRAME:
        return _frame(arrays, intake)
    named = [array.ravel().tolist() for array in arrays]
    each = [list(zip(intake.columns, row, strict=True)) for row in zip(*named, strict=True)]
    return each if intake.shape is Shape.PAIRS else [dict(row) for row in each]


def _tokens(text: str) -> list[Any]:
    tokens = json.loads(text)
    if not isinstance(tokens, list):
        msg = f"{text!r} is not the text of a JSON list of tokens"
        raise ValueError(msg)  # noqa: TRY004 - the text has a wrong value
    return tokens


def _frame(arrays: list[Array], intake: Intake) -> Any:
    import pandas as pd

    joined = len(arrays) == 1 and arrays[0].ndim == 2 and arrays[0].shape[1] == len(intake.columns)  # noqa: PLR2004
    if joined and not intake.categories:
        return pd.DataFrame(arrays[0].copy(), columns=list(intake.columns))
    if joined:
        arrays = list(arrays[0].T)
    return pd.DataFrame(
        {
            name: _column(name, array.reshape(-1).copy(), intake)
            for name, array in zip(intake.columns, arrays, strict=True)
        }
    )


def _column(name: str, array: Array, intake: Intake) -> Any:
    import pandas as pd

    if name in intake.missing and array.dtype == object:
        array[array == ""] = intake.missing[name]
        if name not in intake.categories:
            # Told the type, pandas 3 does not make NaN of None.
            return pd.Series(array, dtype=object)
    if name in intake.categories:
        fitted = intake.categories[name]
        known = pd.Index(list(fitted.values), dtype=fitted.dtype)
        # What is in none of the categories becomes missing, as an unknown code does.
        codes = known.get_indexer(pd.Index(array))
        return pd.Categorical.from_codes(codes, categories=known, ordered=fitted.ordered)
    return array


def as_settings(intake: Intake) -> dict[str, Any]:
    """Return the intake as plain data, as ``predictor.json`` holds it."""
    missing = {name: None if value is None else "nan" for name, value in intake.missing.items()}
    categories = {
        name: {"values": list(fitted.values), "dtype": fitted.dtype, "ordered": fitted.ordered}
        for name, fitted in intake.categories.items()
    }
    return {
        "form": intake.shape.value,
        "columns": list(intake.columns),
        "missing": missing,
        "categories": categories,
    }
