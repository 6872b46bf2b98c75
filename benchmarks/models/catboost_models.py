"""CatBoost: losses with their links, growing policies, categories and native files."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.models import data
from benchmarks.models.case import Array, Case, Fitted

_SMALL: dict[str, Any] = {
    "iterations": 25,
    "depth": 4,
    "random_seed": 0,
    "thread_count": 1,
    "verbose": False,
    "allow_writing_files": False,
}


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, fit in _CASES.items():
        yield Case("catboost", name, fit, ".cbm" if name.startswith("native") else ".joblib")


def _fitted(kind: str, pair: tuple[Array, Array], *, fit: Any = None, **settings: Any) -> Fitted:
    import catboost

    x, y = pair
    return getattr(catboost, kind)(**_SMALL | settings).fit(x, y, **fit or {}), x


def _classifier(classes: int = 2, **settings: Any) -> Fitted:
    return _fitted("CatBoostClassifier", data.numbers(classes), **settings)


def _regressor(**settings: Any) -> Fitted:
    return _fitted("CatBoostRegressor", data.values(), **settings)


def _positive(loss: str) -> Fitted:
    return _fitted("CatBoostRegressor", data.positive_values(), loss_function=loss)


def _people(kind: str, classes: int = 2, **settings: Any) -> Fitted:
    import catboost

    columns = data.people()
    named = ["city", "contract", "grade"]
    scores = data.people_score(columns)
    target = scores if kind == "CatBoostRegressor" else data.people_labels(columns, classes)
    model = getattr(catboost, kind)(**_SMALL | settings)
    return model.fit(data.frame(columns), target, cat_features=named), columns


def _texts_as_labels() -> Fitted:
    x, y = data.numbers(3)
    return _fitted("CatBoostClassifier", (x, np.array(["low", "middle", "high"])[y]))


def _stopped() -> Fitted:
    import catboost

    x, y = data.numbers(2)
    model = catboost.CatBoostClassifier(**_SMALL | {"iterations": 300, "learning_rate": 0.5})
    model.fit(x[:250], y[:250], eval_set=(x[250:], y[250:]), early_stopping_rounds=3)
    return model, x


def _ranker() -> Fitted:
    import catboost

    x, y = data.values()
    groups = np.arange(len(x)) // 20
    model = catboost.CatBoostRanker(**_SMALL, loss_function="YetiRank")
    return model.fit(x, np.clip(np.rint(y / 4) + 3, 0, 6), group_id=groups), x


def _in_pipeline() -> Fitted:
    import catboost
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = data.numbers(3)
    return make_pipeline(StandardScaler(), catboost.CatBoostClassifier(**_SMALL)).fit(x, y), x


def _p(function: Callable[..., Fitted], *given: Any, **settings: Any) -> Callable[[], Fitted]:
    return functools.partial(function, *given, **settings)


_CASES: dict[str, Callable[[], Fitted]] = {
    "binary": _classifier,
    "multiclass": _p(_classifier, 3),
    "multiclass one-vs-all": _p(_classifier, 3, loss_function="MultiClassOneVsAll"),
    "string labels": _texts_as_labels,
    "cross entropy": _p(_classifier, loss_function="CrossEntropy"),
    "regressor": _regressor,
    "regressor with NaN": lambda: _fitted("CatBoostRegressor", data.missing(3)),
    "NaN as largest": lambda: _fitted("CatBoostClassifier", data.missing(2), nan_mode="Max"),
    "mae": _p(_regressor, loss_function="MAE"),
    "quantile": _p(_regressor, loss_function="Quantile:alpha=0.8"),
    "poisson": _p(_positive, "Poisson"),
    "tweedie": _p(_positive, "Tweedie:variance_power=1.3"),
    "multi rmse": lambda: _fitted("CatBoostRegressor", data.values(3), loss_function="MultiRMSE"),
    "multi logloss": lambda: _fitted(
        "CatBoostClassifier", data.many_labels(), loss_function="MultiLogloss"
    ),
    "depthwise": _p(_classifier, grow_policy="Depthwise"),
    "lossguide": _p(_classifier, grow_policy="Lossguide"),
    "early stopping": _stopped,
    "ranker": _ranker,
    "categorical": _p(_people, "CatBoostClassifier"),
    "categorical multiclass": _p(_people, "CatBoostClassifier", 3),
    "categorical regressor": _p(_people, "CatBoostRegressor"),
    "categorical one-hot": _p(_people, "CatBoostClassifier", one_hot_max_size=20),
    "in a pipeline": _in_pipeline,
    "native binary": _classifier,
    "native multiclass": _p(_classifier, 3),
    "native regressor": _regressor,
    "native categorical": _p(_people, "CatBoostClassifier"),
}
