"""The steps that many pipelines share, and how one is fitted."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import ensemble, linear_model, naive_bayes, preprocessing
from sklearn import impute as imputers
from sklearn import tree as trees

from benchmarks.models import data
from benchmarks.models.case import Array, Fitted

TREES: dict[str, Any] = {"n_estimators": 20, "random_state": 0}
Data = Callable[[], tuple[Array, Any]]


def scale() -> Any:
    """Return a scaler to mean zero and variance one."""
    return preprocessing.StandardScaler()


def logistic() -> Any:
    """Return a logistic regression."""
    return linear_model.LogisticRegression(max_iter=500)


def forest() -> Any:
    """Return a small forest."""
    return ensemble.RandomForestClassifier(**TREES)


def regression_forest() -> Any:
    """Return a small forest for real targets."""
    return ensemble.RandomForestRegressor(**TREES)


def tree() -> Any:
    """Return a shallow tree."""
    return trees.DecisionTreeClassifier(max_depth=4, random_state=0)


def impute(**settings: Any) -> Any:
    """Return an imputer, of means if not told otherwise."""
    return imputers.SimpleImputer(**settings)


def bayes() -> Any:
    """Return naive Bayes with normal densities."""
    return naive_bayes.GaussianNB()


def lightgbm_model() -> Any:
    """Return a small LightGBM classifier."""
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=20, num_leaves=15, n_jobs=1, verbose=-1)


def xgboost_model(kind: str = "XGBClassifier") -> Any:
    """Return a small XGBoost classifier or regressor."""
    import xgboost

    return getattr(xgboost, kind)(n_estimators=20, max_depth=4, n_jobs=1)


def fitting(make: Callable[[], Any], pair: Data) -> Callable[[], Fitted]:
    """Return a function that fits what ``make`` makes on what ``pair`` gives."""

    def fit() -> Fitted:
        x, y = pair()
        return make().fit(x, y), x

    return fit


def binary() -> tuple[Array, Array]:
    """Return a matrix and labels of two classes."""
    return data.numbers(2)


def many_values() -> tuple[Array, Array]:
    """Return a matrix and three real targets a row."""
    return data.values(3)


def named_labels() -> tuple[Array, Array]:
    """Return a matrix and labels as texts."""
    x, y = data.numbers()
    return x, np.array(["low", "middle", "high"])[y]


def missing_values() -> tuple[Array, Array]:
    """Return a matrix with missing cells and real targets."""
    return data.missing()[0], data.values()[1]
