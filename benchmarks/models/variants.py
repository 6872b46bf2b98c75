"""Other settings of the estimators of the set: two classes, text labels, many outputs."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.models import data, estimators
from benchmarks.models.case import Array, Case, Fitted, objects

_TREES: dict[str, Any] = {"n_estimators": 20, "random_state": 0}


def cases() -> Iterator[Case]:
    """Yield the cases: the classifiers again with two classes of texts, and special ones."""
    from sklearn.base import is_classifier, is_regressor

    known = estimators.classes()
    for name in known:
        model = estimators.build(name)
        if is_classifier(model) and name not in _NOT_BINARY:
            yield Case("variants", f"{name} binary", functools.partial(_binary, name))
        if is_regressor(model) and name in _SEVERAL_OUTPUTS:
            yield Case("variants", f"{name} outputs", functools.partial(_outputs, name))
    for name, fit in _CASES.items():
        yield Case("variants", name, fit)


_NOT_BINARY = {
    "ClassifierChain",
    "FixedThresholdClassifier",
    "FrozenEstimator",
    "LabelPropagation",
    "LabelSpreading",
    "MultiOutputClassifier",
    "SelfTrainingClassifier",
    "TunedThresholdClassifierCV",
}
_COUNTS = {"CategoricalNB", "ComplementNB", "MultinomialNB"}
_SEVERAL_OUTPUTS = {
    "DecisionTreeRegressor",
    "ExtraTreesRegressor",
    "GaussianProcessRegressor",
    "KNeighborsRegressor",
    "KernelRidge",
    "LinearRegression",
    "MLPRegressor",
    "RandomForestRegressor",
    "Ridge",
}


def _binary(name: str) -> Fitted:
    x, y = data.counts(2) if name in _COUNTS else data.numbers(2)
    model = estimators.build(name)
    given = y if name == "RadiusNeighborsClassifier" else objects(np.array(["no", "yes"])[y])
    return model.fit(x, given), x


def _outputs(name: str) -> Fitted:
    x, y = data.values(3)
    return estimators.build(name).fit(x, y), x


def _fitted(module: str, kind: str, pair: tuple[Array, Any], **settings: Any) -> Fitted:
    from importlib import import_module

    x, y = pair
    return getattr(import_module(f"sklearn.{module}"), kind)(**settings).fit(x, y), x


def _categorical_hist(kind: str, **settings: Any) -> Fitted:
    return _fitted(
        "ensemble", kind, data.coded(), categorical_features=[0, 1], max_iter=20, **settings
    )


def _frame_hist() -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier

    columns = data.people()
    frame = data.frame(columns).astype(dict.fromkeys(("city", "contract", "grade"), "category"))
    model = HistGradientBoostingClassifier(max_iter=20)
    return model.fit(frame, data.people_labels(columns)), columns


def _ties() -> Fitted:
    """Return a forest of which many rows get as many votes for one class as the other."""
    x, y = data.numbers(2)
    return _fitted("ensemble", "RandomForestClassifier", (np.round(x), y), **_TREES)


def _sgd(loss: str) -> Fitted:
    return _fitted("linear_model", "SGDClassifier", data.numbers(), loss=loss, random_state=0)


def _calibrated(method: str, classes: int = 3) -> Fitted:
    pair = data.numbers(classes)
    return _fitted("calibration", "CalibratedClassifierCV", pair, method=method, cv=3)


def _neighbors(**settings: Any) -> Fitted:
    return _fitted("neighbors", "KNeighborsClassifier", data.numbers(), **settings)


def _svc(**settings: Any) -> Fitted:
    return _fitted("svm", "SVC", data.numbers(), **settings)


def _p(function: Callable[..., Fitted], *given: Any, **settings: Any) -> Callable[[], Fitted]:
    return functools.partial(function, *given, **settings)


def _e(module: str, kind: str, make: Callable[[], Any], **settings: Any) -> Callable[[], Fitted]:
    return lambda: _fitted(module, kind, make(), **settings)


def _gaps_values() -> tuple[Array, Array]:
    x, _ = data.missing()
    return x, data.values()[1]


def _chain() -> Fitted:
    from sklearn.multioutput import ClassifierChain
    from sklearn.tree import DecisionTreeClassifier

    x, y = data.many_labels()
    tree = DecisionTreeClassifier(max_depth=4)
    return ClassifierChain(tree, order=[2, 0, 1], random_state=0).fit(x, y), x


def _multi_output() -> Fitted:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.multioutput import MultiOutputClassifier

    x, y = data.many_classes()
    return MultiOutputClassifier(RandomForestClassifier(**_TREES)).fit(x, y), x


def _one_vs_rest() -> Fitted:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    x, y = data.many_labels()
    return OneVsRestClassifier(LogisticRegression()).fit(x, y), x


_CASES: dict[str, Callable[[], Fitted]] = {
    "forest of ties": _ties,
    "forest fitted with NaN": _e("ensemble", "RandomForestClassifier", data.missing, **_TREES),
    "forest of many outputs": _e("ensemble", "RandomForestClassifier", data.many_classes, **_TREES),
    "tree of many labels": _e("tree", "DecisionTreeClassifier", data.many_labels, max_depth=5),
    "tree fitted with NaN": _e("tree", "DecisionTreeClassifier", data.missing, max_depth=6),
    "tree regressor with NaN": _e("tree", "DecisionTreeRegressor", _gaps_values, max_depth=6),
    "extra trees with NaN": _e("ensemble", "ExtraTreesRegressor", _gaps_values, **_TREES),
    "bagging of features": _e(
        "ensemble", "BaggingClassifier", data.numbers, max_features=0.5, random_state=0
    ),
    "gradient boosting exponential": lambda: _fitted(
        "ensemble", "GradientBoostingClassifier", data.numbers(2), loss="exponential", **_TREES
    ),
    "gradient boosting quantile": _e(
        "ensemble", "GradientBoostingRegressor", data.values, loss="quantile", **_TREES
    ),
    "gradient boosting on zeros": _e(
        "ensemble", "GradientBoostingRegressor", data.values, init="zero", **_TREES
    ),
    "hist categorical": _p(_categorical_hist, "HistGradientBoostingClassifier"),
    "hist categorical regressor": _p(_categorical_hist, "HistGradientBoostingRegressor"),
    "hist pandas categories": _frame_hist,
    "hist with NaN": _e("ensemble", "HistGradientBoostingClassifier", data.missing, max_iter=20),
    "hist poisson": _e(
        "ensemble", "HistGradientBoostingRegressor", data.positive_values, loss="poisson"
    ),
    "hist gamma": _e(
        "ensemble", "HistGradientBoostingRegressor", data.positive_values, loss="gamma"
    ),
    "hist quantile": _e(
        "ensemble", "HistGradientBoostingRegressor", data.values, loss="quantile", quantile=0.8
    ),
    "adaboost of stumps": lambda: _fitted(
        "ensemble", "AdaBoostClassifier", data.numbers(2), n_estimators=50, random_state=0
    ),
    "sgd log": _p(_sgd, "log_loss"),
    "sgd modified huber": _p(_sgd, "modified_huber"),
    "calibrated sigmoid": _p(_calibrated, "sigmoid"),
    "calibrated isotonic": _p(_calibrated, "isotonic"),
    "calibrated isotonic binary": _p(_calibrated, "isotonic", 2),
    "calibrated temperature": _p(_calibrated, "temperature"),
    "neighbors manhattan distance": _p(_neighbors, metric="manhattan", weights="distance"),
    "neighbors cosine": _p(_neighbors, metric="cosine", algorithm="brute"),
    "neighbors minkowski 3": _p(_neighbors, p=3, weights="distance"),
    "svc linear": _p(_svc, kernel="linear"),
    "svc poly": _p(_svc, kernel="poly", degree=2, coef0=1.0),
    "svc sigmoid": _p(_svc, kernel="sigmoid"),
    "svc one-vs-one": _p(_svc, decision_function_shape="ovo"),
    "mlp tanh": _e("neural_network", "MLPClassifier", data.numbers, activation="tanh", max_iter=30),
    "mlp of many labels": _e(
        "neural_network", "MLPClassifier", data.many_labels, activation="logistic", max_iter=30
    ),
    "neighbors of many outputs": _e("neighbors", "KNeighborsClassifier", data.many_classes),
    "chain of trees": _chain,
    "multi output forests": _multi_output,
    "mixture diagonal": _e(
        "mixture", "GaussianMixture", data.numbers, n_components=3, covariance_type="diag"
    ),
    "one-vs-rest of many labels": _one_vs_rest,
}
