"""What a fitted model is made of: its steps, and the estimators it holds."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

_DEEPEST = 50


def parts(model: Any) -> Iterator[Any]:
    """Give the model and every estimator that it holds (told by ``get_params``), each once.

    What stands inside a tree is left out.
    """
    waiting: list[Any] = [model]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting += _worth(part.values())
        elif isinstance(part, list | tuple):
            waiting += _worth(part)
        elif isinstance(part, np.ndarray):
            waiting += _worth(part.ravel().tolist())
        else:
            yield part
            if not hasattr(part, "tree_"):
                waiting += _worth(getattr(part, "__dict__", {}).values())


def _worth(values: Iterable[Any]) -> list[Any]:
    """Return those that are an estimator or may hold one."""
    return [
        value
        for value in values
        if (isinstance(value, dict | list | tuple) and value)
        or (isinstance(value, np.ndarray) and value.dtype == object)
        or (hasattr(value, "get_params") and not isinstance(value, type))
    ]


def first(model: Any) -> Any:
    """Return what the rows reach first: the first step, inside searches and wrappers too."""
    for _ in range(_DEEPEST):
        inner = _inner(model)
        if inner is None:
            break
        model = inner
    return model


def _inner(model: Any) -> Any:
    """Return what a model hands its rows to as they are, or ``None``."""
    steps = getattr(model, "steps", None)
    if isinstance(steps, list) and steps and isinstance(steps[0], tuple):
        real = (step for _, step in steps if not (step is None or isinstance(step, str)))
        return next(real, None)
    # An ensemble's estimator_ is only what its members were cloned from.
    single = () if hasattr(model, "estimators_") else ("estimator_",)
    for name in ("best_estimator_", *single, "regressor_"):
        if hasattr(model, name):
            return getattr(model, name)
    if type(model).__name__ == "FrozenEstimator":
        return model.estimator
    members = getattr(model, "estimators_", None)
    if isinstance(members, list) and members and hasattr(members[0], "steps"):
        return members[0]  # Voting, stacking and one-versus-rest give each all columns.
    calibrated = getattr(model, "calibrated_classifiers_", None)
    if calibrated:
        return calibrated[0].estimator
    return None


def picks_by_name(model: Any) -> bool:
    """Say whether a ColumnTransformer in the model looks its columns up by name."""
    for part in parts(model):
        for _, _, columns in getattr(part, "transformers_", None) or ():
            if isinstance(columns, str):
                return True
            several = isinstance(columns, list | tuple | np.ndarray) and len(columns)
            if several and isinstance(columns[0], str):
                return True
    return False


def class_names(model: Any) -> tuple[str, ...]:
    """Return what a classifier's classes are called, in their order; nothing for others."""
    try:
        classes = model.classes_
    except Exception:  # noqa: BLE001 - a property may raise anything, and then there are none.
        return ()
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return ()
    return tuple(str(name) for name in classes.tolist())
