"""What a model of the set is: a name, and a function that fits it."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

Sample = Array | dict[str, Array]
"""A matrix, a tensor, texts (one axis, ``object``), or columns by name (one axis each)."""

Fitted = tuple[Any, Sample]
"""A fitted model, and rows that it takes."""

GROUPS: dict[str, tuple[str, ...]] = {
    "sklearn": ("estimators",),
    "variants": ("variants",),
    "pipelines": ("numeric_pipelines", "composed_pipelines", "column_pipelines", "text_pipelines"),
    "xgboost": ("xgboost_models",),
    "lightgbm": ("lightgbm_models",),
    "catboost": ("catboost_models",),
}
"""The modules beside this one that hold the cases of each group."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model that is fitted when it is asked for.

    ``suffix`` tells how it is stored: ``.joblib``, or the suffix of a native file, which
    the model's ``save_model`` writes.
    """

    group: str
    name: str
    fit: Callable[[], Fitted]
    suffix: str = ".joblib"


def cases(group: str) -> Iterator[Case]:
    """Yield the cases of ``group``; their libraries are imported when they are fitted."""
    for module in GROUPS[group]:
        yield from import_module(f"benchmarks.models.{module}").cases()


def find(group: str, name: str) -> Case:
    """Return one case; raise ``KeyError`` when there is none of that name."""
    return {case.name: case for case in cases(group)}[name]


def own_steps() -> Any:
    """Import ``own_steps`` as a script beside its own module does: by its bare name."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module("own_steps")


def objects(values: Any) -> Array:
    """Return values as a one-axis array of objects."""
    return np.array(list(values), dtype=object)
