"""XGBoost: boosters, objectives, links, categories, names and native files."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.models import data
from benchmarks.models.case import Array, Case, Fitted, Sample

_SMALL: dict[str, Any] = {"n_estimators": 25, "max_depth": 4, "random_state": 0, "n_jobs": 1}


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, fit in _CASES.items():
        yield Case("xgboost", name, fit, _SUFFIXES.get(name, ".joblib"))


def _fitted(kind: str, pair: tuple[Array, Array], **settings: Any) -> Fitted:
    import xgboost

    x, y = pair
    return getattr(xgboost, kind)(**_SMALL | settings).fit(x, y), x


def _classifier(classes: int = 2, **settings: Any) -> Fitted:
    return _fitted("XGBClassifier", data.numbers(classes), **settings)


def _regressor(**settings: Any) -> Fitted:
    return _fitted("XGBRegressor", data.values(), **settings)


def _positive(objective: str, **settings: Any) -> Fitted:
    return _fitted("XGBRegressor", data.positive_values(), objective=objective, **settings)


def _shares() -> tuple[Array, Array]:
    x, y = data.values()
    return x, 1 / (1 + np.exp(-y / 5))


def _grouped(x: Array, y: Array) -> tuple[Array, Array, Array]:
    return x, np.clip(np.rint(y / 4) + 3, 0, 6), np.arange(len(x)) // 20


def _ranker(objective: str) -> Fitted:
    import xgboost

    x, y, groups = _grouped(*data.values())
    return xgboost.XGBRanker(**_SMALL, objective=objective).fit(x, y, qid=groups), x


def _stopped(kind: str, pair: tuple[Array, Array]) -> Fitted:
    import xgboost

    x, y = pair
    settings = _SMALL | {"n_estimators": 300, "early_stopping_rounds": 3, "learning_rate": 0.5}
    model = getattr(xgboost, kind)(**settings)
    model.fit(x[:250], y[:250], eval_set=[(x[250:], y[250:])], verbose=False)
    return model, x


def _coded(kind: str, pair: tuple[Array, Array], **settings: Any) -> Fitted:
    types = ["c", "c", *"q" * (data.WIDTH - 2)]
    return _fitted(
        kind, pair, enable_categorical=True, tree_method="hist", feature_types=types, **settings
    )


def _coded_values() -> tuple[Array, Array]:
    x, y = data.coded()
    return x, y + x[:, 3]


def _named(kind: str) -> Fitted:
    import xgboost

    columns = data.people()
    numbers: Sample = {name: columns[name] for name in ("age", "income", "children")}
    target = data.people_score(columns)
    if kind == "XGBClassifier":
        target = (target > np.median(target)).astype(np.int64)
    return getattr(xgboost, kind)(**_SMALL).fit(data.frame(dict(numbers)), target), numbers


def _people_categories() -> Fitted:
    import xgboost

    columns = data.people()
    del columns["city"]  # XGBoost 3.2 damages categories that are not ASCII.
    frame = data.frame(columns).astype(dict.fromkeys(("contract", "grade"), "category"))
    model = xgboost.XGBRegressor(**_SMALL, enable_categorical=True, tree_method="hist")
    return model.fit(frame, data.people_score(data.people())), columns


def _texts_as_labels() -> Fitted:
    """Return a classifier inside scikit-learn's own pipeline of no other step."""
    from sklearn.pipeline import make_pipeline

    model, x = _classifier(3)
    return make_pipeline(model), x


def _booster(objective: str, pair: tuple[Array, Array], **settings: Any) -> Fitted:
    import xgboost

    x, y = pair
    given = {"objective": objective, "max_depth": 4, "nthread": 1, "seed": 0} | settings
    return xgboost.train(given, xgboost.DMatrix(x, y), num_boost_round=25), x


def _p(function: Callable[..., Fitted], *given: Any, **settings: Any) -> Callable[[], Fitted]:
    return functools.partial(function, *given, **settings)


def _lazily(kind: str, pair: Callable[[], tuple[Array, Array]], **settings: Any) -> Fitted:
    return _fitted(kind, pair(), **settings)


def _lazy_booster(objective: str, pair: Callable[[], Any], **settings: Any) -> Fitted:
    return _booster(objective, pair(), **settings)


_CASES: dict[str, Callable[[], Fitted]] = {
    "binary": _classifier,
    "multiclass": _p(_classifier, 3),
    "multiclass softmax": _p(_classifier, 3, objective="multi:softmax"),
    "binary hinge": _p(_classifier, objective="binary:hinge"),
    "binary logitraw": _p(_classifier, objective="binary:logitraw"),
    "binary with NaN": lambda: _fitted("XGBClassifier", data.missing(2)),
    "missing=0": lambda: _fitted("XGBClassifier", data.counts(2), missing=0.0),
    "missing=-1 regressor": lambda: _fitted(
        "XGBRegressor", (np.floor(data.values()[0]), data.values()[1]), missing=-1.0
    ),
    "binary base_score": _p(_classifier, base_score=0.2),
    "binary scale_pos_weight": _p(_classifier, scale_pos_weight=4.0),
    "dart": _p(_classifier, booster="dart", rate_drop=0.3),
    "dart regressor": _p(_regressor, booster="dart", rate_drop=0.3),
    "dart multiclass": _p(_classifier, 3, booster="dart", rate_drop=0.3, one_drop=1),
    "gblinear": _p(_regressor, booster="gblinear", max_depth=None),
    "gblinear binary": _p(_classifier, booster="gblinear", max_depth=None),
    "gblinear multiclass": _p(_classifier, 3, booster="gblinear", max_depth=None),
    "ranker pairwise": _p(_ranker, "rank:pairwise"),
    "ranker ndcg": _p(_ranker, "rank:ndcg"),
    "regressor": _regressor,
    "regressor base_score": _p(_regressor, base_score=10.0),
    "regressor absolute error": _p(_regressor, objective="reg:absoluteerror"),
    "regressor pseudohuber": _p(_regressor, objective="reg:pseudohubererror"),
    "regressor quantile": _p(_regressor, objective="reg:quantileerror", quantile_alpha=0.8),
    "regressor quantiles": _p(
        _regressor, objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9]
    ),
    "poisson": _p(_positive, "count:poisson"),
    "gamma": _p(_positive, "reg:gamma"),
    "tweedie": _p(_positive, "reg:tweedie", tweedie_variance_power=1.3),
    "squaredlogerror": _p(_positive, "reg:squaredlogerror"),
    "survival cox": _p(_positive, "survival:cox"),
    "regressor logistic": lambda: _fitted("XGBRegressor", _shares(), objective="reg:logistic"),
    "leaf per target": lambda: _fitted("XGBRegressor", data.values(3)),
    "multi output tree": lambda: _fitted(
        "XGBRegressor", data.values(3), multi_strategy="multi_output_tree", tree_method="hist"
    ),
    "multi label": lambda: _fitted("XGBClassifier", data.many_labels()),
    "early stopping": lambda: _stopped("XGBClassifier", data.numbers(2)),
    "early stopping multiclass": lambda: _stopped("XGBClassifier", data.numbers(3)),
    "early stopping regressor": lambda: _stopped("XGBRegressor", data.values()),
    "random forest": _p(_lazily, "XGBRFClassifier", data.numbers),
    "random forest regressor": _p(_lazily, "XGBRFRegressor", data.values),
    "parallel trees": _p(_classifier, num_parallel_tree=4),
    "approx lossguide": _p(_classifier, tree_method="hist", grow_policy="lossguide", max_leaves=9),
    "exact": _p(_classifier, tree_method="exact"),
    "constraints": _p(_regressor, monotone_constraints=(1, -1, *[0] * (data.WIDTH - 2))),
    "categorical codes": lambda: _coded("XGBClassifier", data.coded(2)),
    "categorical codes regressor": lambda: _coded(
        "XGBRegressor", _coded_values(), max_cat_to_onehot=1
    ),
    "categorical one-hot": lambda: _coded("XGBClassifier", data.coded(3), max_cat_to_onehot=20),
    "pandas categories": _people_categories,
    "feature names": _p(_named, "XGBClassifier"),
    "feature names regressor": _p(_named, "XGBRegressor"),
    "in a pipeline": _texts_as_labels,
    "native json": _p(_classifier, 3),
    "native ubj": _classifier,
    "native ubj regressor": _regressor,
    "native ubj dart": _p(_regressor, booster="dart", rate_drop=0.3),
    "native json categorical": lambda: _coded("XGBClassifier", data.coded(2)),
    "native ubj stopped": lambda: _stopped("XGBClassifier", data.numbers(2)),
    "booster softprob": _p(_lazy_booster, "multi:softprob", data.numbers, num_class=3),
    "booster logistic": lambda: _booster("binary:logistic", data.numbers(2)),
    "booster poisson ubj": _p(_lazy_booster, "count:poisson", data.positive_values),
}

_SUFFIXES = {
    name: ".json" if "json" in name else ".ubj"
    for name in _CASES
    if name.startswith("native") or name.endswith("ubj")
}
