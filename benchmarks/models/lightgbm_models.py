"""LightGBM: boosting types, objectives with their links, categories and native files."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.models import data
from benchmarks.models.case import Array, Case, Fitted, Sample

_SMALL: dict[str, Any] = {
    "n_estimators": 25,
    "num_leaves": 15,
    "random_state": 0,
    "n_jobs": 1,
    "verbose": -1,
}
_RF: dict[str, Any] = {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1}


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, fit in _CASES.items():
        yield Case("lightgbm", name, fit, ".txt" if name.startswith("native") else ".joblib")


def _fitted(kind: str, pair: tuple[Array, Array], *, fit: Any = None, **settings: Any) -> Fitted:
    import lightgbm

    x, y = pair
    return getattr(lightgbm, kind)(**_SMALL | settings).fit(x, y, **fit or {}), x


def _classifier(classes: int = 2, **settings: Any) -> Fitted:
    return _fitted("LGBMClassifier", data.numbers(classes), **settings)


def _regressor(**settings: Any) -> Fitted:
    return _fitted("LGBMRegressor", data.values(), **settings)


def _positive(**settings: Any) -> Fitted:
    return _fitted("LGBMRegressor", data.positive_values(), **settings)


def _coded(kind: str = "LGBMClassifier", classes: int = 2, **settings: Any) -> Fitted:
    fit = {"categorical_feature": [0, 1]}
    return _fitted(kind, data.coded(classes), fit=fit, min_data_per_group=5, **settings)


def _shares() -> tuple[Array, Array]:
    x, y = data.values()
    return x, 1 / (1 + np.exp(-y / 5))


def _tiny() -> tuple[Array, Array]:
    """Return a matrix with zeros and numbers that LightGBM takes for zero."""
    x, y = data.numbers(2)
    x[::3, 0] = 1e-36
    x[1::3, 0] = 0.0
    return x, y


def _ranker(objective: str) -> Fitted:
    import lightgbm

    x, y = data.values()
    grades = np.clip(np.rint(y / 4) + 3, 0, 6).astype(np.int64)
    model = lightgbm.LGBMRanker(**_SMALL, objective=objective)
    return model.fit(x, grades, group=[20] * (len(x) // 20)), x


def _stopped() -> Fitted:
    import lightgbm

    x, y = data.numbers(2)
    model = lightgbm.LGBMClassifier(**_SMALL | {"n_estimators": 300, "learning_rate": 0.5})
    stop = lightgbm.early_stopping(3, verbose=False)
    return model.fit(x[:250], y[:250], eval_set=[(x[250:], y[250:])], callbacks=[stop]), x


def _named() -> Fitted:
    import lightgbm

    columns = data.people()
    numbers: Sample = {name: columns[name] for name in ("age", "income", "children")}
    target = data.people_score(columns)
    return lightgbm.LGBMRegressor(**_SMALL).fit(data.frame(dict(numbers)), target), numbers


def _people_categories() -> Fitted:
    import lightgbm

    columns = data.people()
    frame = data.frame(columns).astype(dict.fromkeys(("city", "contract", "grade"), "category"))
    labels = data.people_labels(columns, 3)
    return lightgbm.LGBMClassifier(**_SMALL).fit(frame, labels), columns


def _texts_as_labels() -> Fitted:
    x, y = data.numbers(3)
    return _fitted("LGBMClassifier", (x, np.array(["low", "middle", "high"])[y]))


def _native(fitted: Fitted) -> Fitted:
    model, x = fitted
    return model.booster_, x


def _p(function: Callable[..., Fitted], *given: Any, **settings: Any) -> Callable[[], Fitted]:
    return functools.partial(function, *given, **settings)


_CASES: dict[str, Callable[[], Fitted]] = {
    "binary": _classifier,
    "multiclass": _p(_classifier, 3),
    "multiclassova": _p(_classifier, 3, objective="multiclassova"),
    "string labels": _texts_as_labels,
    "binary with NaN": lambda: _fitted("LGBMClassifier", data.missing(2)),
    "zero as missing": lambda: _fitted("LGBMClassifier", data.counts(2), zero_as_missing=True),
    "use_missing=false": lambda: _fitted("LGBMClassifier", data.missing(2), use_missing=False),
    "tiny numbers": lambda: _fitted("LGBMClassifier", _tiny()),
    "binary sigmoid": _p(_classifier, sigmoid=0.4),
    "binary unbalanced": _p(_classifier, is_unbalance=True),
    "cross entropy": lambda: _fitted("LGBMRegressor", _shares(), objective="cross_entropy"),
    "cross entropy lambda": lambda: _fitted(
        "LGBMRegressor", _shares(), objective="cross_entropy_lambda"
    ),
    "rf": _p(_classifier, **_RF),
    "rf multiclass": _p(_classifier, 3, **_RF),
    "rf regressor": _p(_regressor, **_RF),
    "dart": _p(_classifier, boosting_type="dart"),
    "dart regressor": _p(_regressor, boosting_type="dart"),
    "goss": _p(_classifier, data_sample_strategy="goss"),
    "linear tree": _p(_regressor, linear_tree=True),
    "linear tree binary": _p(_classifier, linear_tree=True),
    "linear tree with NaN": lambda: _fitted("LGBMRegressor", data.missing(3), linear_tree=True),
    "extra trees": _p(_classifier, extra_trees=True),
    "regressor": _regressor,
    "regressor l1": _p(_regressor, objective="regression_l1"),
    "regressor sqrt": _p(_regressor, objective="regression", reg_sqrt=True),
    "huber": _p(_regressor, objective="huber"),
    "fair": _p(_regressor, objective="fair"),
    "mape": _p(_regressor, objective="mape"),
    "quantile": _p(_regressor, objective="quantile", alpha=0.8),
    "poisson": _p(_positive, objective="poisson"),
    "gamma": _p(_positive, objective="gamma"),
    "tweedie": _p(_positive, objective="tweedie"),
    "lambdarank": _p(_ranker, "lambdarank"),
    "rank xendcg": _p(_ranker, "rank_xendcg"),
    "early stopping": _stopped,
    "categorical": _coded,
    "categorical multiclass": _p(_coded, classes=3),
    "categorical one-hot": _p(_coded, max_cat_to_onehot=20),
    "categorical regressor": _p(_coded, "LGBMRegressor", 3),
    "pandas categories": _people_categories,
    "feature names": _named,
    "native binary": lambda: _native(_classifier()),
    "native multiclass": lambda: _native(_classifier(3)),
    "native regressor": lambda: _native(_regressor()),
    "native poisson": lambda: _native(_positive(objective="poisson")),
    "native rf": lambda: _native(_classifier(**_RF)),
    "native categorical": lambda: _native(_coded()),
    "booster": lambda: _native(_classifier(3)),
}
