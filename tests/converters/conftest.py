"""Small data sets and one way to convert in every test."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy.typing as npt
import pytest
from sklearn import datasets

from converters import ConversionOptions, convert
from toolkit.artifact import Artifact

Array = npt.NDArray[Any]
Data = tuple[Array, Array]
Convert = Callable[..., Artifact]
Pickled = Callable[..., Path]


@pytest.fixture(scope="session")
def cancer() -> Data:
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return x, y


@pytest.fixture(scope="session")
def iris() -> Data:
    x, y = datasets.load_iris(return_X_y=True)
    return x, y


@pytest.fixture(scope="session")
def diabetes() -> Data:
    x, y = datasets.load_diabetes(return_X_y=True)
    return x, y


@pytest.fixture
def convert_model(tmp_path: Path) -> Convert:
    """Store a model with joblib (or take a path) and convert it."""

    def run(model: Any, sample: Any = None, /, **options: Any) -> Artifact:
        path = model
        if not isinstance(model, Path):
            path = tmp_path / "model.joblib"
            joblib.dump(model, path)
            options.setdefault("trusted", True)
        options.setdefault("name", "m")
        return convert(path, ConversionOptions(sample=sample, **options), tmp_path / "work")

    return run


@pytest.fixture
def pickled(tmp_path: Path) -> Pickled:
    def store(model: Any, name: str = "model.pkl") -> Path:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(model))
        return path

    return store
