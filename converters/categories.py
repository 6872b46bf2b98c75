"""The pandas categories that a model was fitted with, by the column's name."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from converters import anatomy
from toolkit.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Categories:
    """The categories of one column, in the order of their codes.

    ``dtype`` is pandas' name for their type, where a library compares it.
    """

    values: tuple[str | int | float | bool, ...]
    dtype: str | None = None
    ordered: bool = False


# Of boosters that do not tell all: the texts of each column of the sample, sorted.
_sampled: MutableMapping[Any, Mapping[str, tuple[str, ...]]] = WeakKeyDictionary()


def learn(model: Any, sample: Mapping[str, Any]) -> None:
    """Remember a sample's texts for the boosters in ``model`` that keep too little of theirs.

    LightGBM does not keep where ordered categories stand, and XGBoost 3.2 damages texts
    that are not ASCII.
    """
    texts: dict[str, tuple[str, ...]] = {}
    for name, column in sample.items():
        known = {cell for cell in np.asarray(column, dtype=object).flat if isinstance(cell, str)}
        if known:
            texts[name] = tuple(sorted(known))
    for part in anatomy.parts(model):
        booster = getattr(part, "_Booster", part)
        if type(booster).__name__ == "Booster":
            _sampled[booster] = texts


def fitted_categories(model: Any, columns: Sequence[str]) -> dict[str, Categories]:
    """Return the categories of those of ``columns`` that a model in it was fitted with.

    Known of LightGBM, XGBoost and HistGradientBoosting; CatBoost takes texts as they are.

    Raises:
        UnsupportedModelError: categories that are neither texts nor numbers.
    """
    found: dict[str, Categories] = {}
    for part in anatomy.parts(model):
        for name, categories in _of(part, tuple(columns)):
            if name in columns:
                found.setdefault(name, categories)
    return {name: found[name] for name in columns if name in found}


def _of(part: Any, columns: tuple[str, ...]) -> Iterable[tuple[str, Categories]]:
    module = type(part).__module__.partition(".")[0]
    roots = {cls.__module__.partition(".")[0] for cls in type(part).__mro__} | {module}
    if "lightgbm" in roots:
        return _lightgbm(part)
    if "xgboost" in roots:
        return _xgboost(part)
    if hasattr(part, "is_categorical_") and hasattr(part, "_preprocessor"):
        return _hist_gradient_boosting(part, columns)
    return ()


def _lightgbm(part: Any) -> Iterable[tuple[str, Categories]]:
    booster = getattr(part, "_Booster", part)
    values = getattr(booster, "pandas_categorical", None)
    if not values:
        return
    names = booster.feature_name()
    places = _lightgbm_places(booster)
    if len(places) != len(values):
        places = _with_ordered(booster, values, places)
    for place, categories in zip(places, values, strict=True):
        yield names[place], Categories(_plain(categories))


def _with_ordered(booster: Any, values: Sequence[Any], places: Sequence[int]) -> list[int]:
    """Return the places of all columns of categories, which are those of texts in the sample.

    LightGBM splits ordered categories as numbers, but keeps them beside the others, in the
    order of the columns.

    Raises:
        UnsupportedModelError: the sample does not tell them either.
    """
    texts = _sampled.get(booster, {})
    found = [
        i for i, name in enumerate(booster.feature_name()) if i in set(places) or name in texts
    ]
    if len(found) != len(values):
        msg = "LightGBM does not say which columns its pandas categories belong to"
        raise UnsupportedModelError(
            msg, hint="give a sample with texts in these columns and in no other"
        )
    return found


def _lightgbm_places(booster: Any) -> list[int]:
    """Return the places of the categorical columns, from the model's text."""
    text = booster.model_to_string(num_iteration=1)
    found = text.partition("[categorical_feature: ")[2].partition("]")[0]
    return [int(place) for place in found.split(",") if place.strip()]


def _xgboost(part: Any) -> Iterable[tuple[str, Categories]]:
    if type(part).__name__ != "Booster":
        if not hasattr(part, "_Booster"):
            return
        part = part.get_booster()
    if not hasattr(part, "get_categories") or "c" not in (part.feature_types or ()):
        return
    texts = _sampled.get(part, {})
    for name, values in part.get_categories(export_to_arrow=True).to_arrow() or ():
        if values is not None:
            listed = _xgboost_values(name, values, texts.get(name, ()))
            yield name, Categories(listed, None if isinstance(listed[0], str) else str(values.type))


def _xgboost_values(
    name: str, values: Any, texts: Sequence[str]
) -> tuple[str | int | float | bool, ...]:
    try:
        listed = _plain(values.to_pylist())
    except UnicodeDecodeError:
        listed = ("\ufffd",)
    if all(str(value).isascii() for value in listed):
        return listed
    # XGBoost 3.2 counts characters where it cuts bytes: "Zürich" comes back as "Züric", and
    # the rest goes to the next one. What is left tells whether the sample's are the same.
    _, offsets, kept = values.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[1 : len(values) + 1].tolist()
    whole = "".join(texts).encode()
    if ends == list(accumulate(map(len, texts))) and whole[: ends[-1]] == bytes(kept)[: ends[-1]]:
        return tuple(texts)
    msg = f"XGBoost keeps the categories of {name!r} damaged, because not all are ASCII"
    hint = "give a sample with each of them, or give them ASCII names before the fit"
    raise UnsupportedModelError(msg, hint=hint)


def _hist_gradient_boosting(
    part: Any, columns: tuple[str, ...]
) -> Iterable[tuple[str, Categories]]:
    if part.is_categorical_ is None or part._preprocessor is None:  # noqa: SLF001 - nothing public tells it
        return
    names = getattr(part, "feature_names_in_", columns)
    encoder = part._preprocessor.named_transformers_.get("encoder")  # noqa: SLF001 - as above
    places = np.flatnonzero(part.is_categorical_)
    # HistGradientBoosting puts the categorical columns first, in their own order.
    if part.categorical_features != "from_dtype" or encoder is None:
        return
    for place, values in zip(places, encoder.categories_, strict=True):
        known = [value for value in values.tolist() if value == value and value is not None]  # noqa: PLR0124
        yield str(names[place]), Categories(_plain(known))


def _plain(values: Iterable[Any]) -> tuple[str | int | float | bool, ...]:
    plain = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    odd = [value for value in plain if not isinstance(value, str | int | float | bool)]
    if odd:
        msg = f"a category is a {type(odd[0]).__name__}, and Triton takes texts and numbers"
        raise UnsupportedModelError(msg, hint="make the categories texts before the fit")
    return plain
