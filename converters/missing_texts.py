"""In which text columns the empty text stands for a missing value.

The V2 protocol cannot send a missing text. Where a model was fitted with missing texts in a
column, or fills them in, the empty text is sent for them; elsewhere it is only a text.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from converters.categories import fitted_categories

Missing = dict[str, float | None]


def missing_texts(model: Any, columns: Sequence[str]) -> Missing:
    """Return those of ``columns`` whose empty text is missing, with ``None`` or NaN for it.

    Which of the two is what the model was fitted with: an encoder's categories hold it, an
    imputer's ``missing_values`` names it, and a pandas categorical knows NaN.
    """
    names = tuple(columns)
    fitted = fitted_categories(model, names)
    texts = (name for name, known in fitted.items() if isinstance(known.values[0], str))
    found: Missing = dict.fromkeys(texts, np.nan)
    for name, value in _of(model, names):
        found.setdefault(name, value)
    return {name: found[name] for name in names if name in found}


def reached(model: Any, columns: Sequence[str]) -> Iterator[tuple[Any, Sequence[str]]]:
    """Give the model and each of its parts that columns of the rows reach, and which ones."""
    if isinstance(model, str) or model is None:
        return
    for inner in _same_rows(model):
        yield from reached(inner, columns)
    for _, inner, chosen in getattr(model, "transformers_", None) or ():
        yield from reached(inner, _chosen(chosen, columns))
    yield model, columns


def _of(model: Any, columns: Sequence[str]) -> Iterable[tuple[str, float | None]]:
    """Give the columns that ``model``, called with ``columns``, takes missing texts in."""
    for part, names in reached(model, columns):
        categories = getattr(part, "categories_", None)
        if isinstance(categories, list) and len(categories) == len(names):
            for name, values in zip(names, categories, strict=True):
                value = _missing_in(values)
                if value is not _THERE:
                    yield name, value
        if type(part).__name__ == "SimpleImputer":
            marker = part.missing_values
            if marker is None or marker != marker or str(marker) == "<NA>":  # noqa: PLR0124 - NaN
                for name in names:
                    yield name, None if marker is None else np.nan


_THERE = object()


def _missing_in(values: Any) -> Any:
    """Return the missing value among an encoder's categories, or ``_THERE``."""
    array = np.asarray(values)
    if array.dtype != object:
        return _THERE
    for value in array.tolist()[-2:]:  # An encoder sorts them to the end.
        if value is None:
            return None
        if isinstance(value, float) and np.isnan(value):
            return np.nan
    return _THERE


def _same_rows(model: Any) -> list[Any]:
    """Return what a model hands all its columns to."""
    steps = getattr(model, "steps", None)
    if isinstance(steps, list) and steps and isinstance(steps[0], tuple):
        found = []
        for _, step in steps:
            if step is None or isinstance(step, str):
                continue
            found.append(step)
            if not _keeps_columns(step):
                break
        return found
    members = [
        getattr(model, name, None) for name in ("best_estimator_", "estimator_", "regressor_")
    ]
    if type(model).__name__ == "FrozenEstimator":
        members.append(model.estimator)
    several = getattr(model, "estimators_", None)
    if isinstance(several, list) and several and not hasattr(several[0], "tree_"):
        members += several
    union = getattr(model, "transformer_list", None)
    if isinstance(union, list):
        members += [member for _, member in union]
    members += [one.estimator for one in getattr(model, "calibrated_classifiers_", None) or ()]
    return [member for member in members if member is not None]


def _keeps_columns(step: Any) -> bool:
    """Say whether a step gives its columns on in their places, missing ones too."""
    return type(step).__name__ == "SimpleImputer" and not step.add_indicator


def _chosen(chosen: Any, columns: Sequence[str]) -> Sequence[str]:
    """Return the names of the columns that a ColumnTransformer gives to one transformer."""
    names = list(columns)
    if isinstance(chosen, slice):
        named = isinstance(chosen.start, str) or isinstance(chosen.stop, str)
        return _between(chosen, names) if named else names[chosen]
    if callable(chosen):
        return []  # Only in one that was never fitted.
    listed = [chosen] if isinstance(chosen, str | int | np.integer) else list(chosen)
    if listed and isinstance(listed[0], bool | np.bool_):
        return [name for name, taken in zip(names, listed, strict=True) if taken]
    return [one if isinstance(one, str) else names[int(one)] for one in listed]


def _between(chosen: slice, names: list[str]) -> Sequence[str]:
    start = names.index(chosen.start) if chosen.start in names else 0
    stop = names.index(chosen.stop) + 1 if chosen.stop in names else len(names)
    return names[start:stop]
