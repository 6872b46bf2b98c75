"""Pipelines on named columns of numbers and texts."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    compose,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    model_selection,
    naive_bayes,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from benchmarks.models import data
from benchmarks.models.case import Array, Case, Fitted, objects, own_steps

_NUMBERS = ["age", "income", "children"]
_TEXTS = ["city", "contract", "grade"]
_TREES: dict[str, Any] = {"n_estimators": 20, "random_state": 0}

_Target = Callable[[dict[str, Array]], Array]


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, (make, target) in _CASES.items():
        yield Case("pipelines", name, _fitting(make, target))
    yield Case("pipelines", "columns: missing texts", _missing_texts)
    yield Case("pipelines", "columns: missing texts as a category", _missing_category)
    yield Case("pipelines", "columns: texts only", _texts_only)
    yield Case("pipelines", "columns: by position", _by_position)
    yield Case("pipelines", "columns: numbers only", _numbers_only)
    yield Case("pipelines", "columns: text beside numbers", _with_review)


def _fitting(make: Callable[[], Any], target: _Target) -> Callable[[], Fitted]:
    def fit() -> Fitted:
        columns = data.people()
        return make().fit(data.frame(columns), target(columns)), columns

    return fit


def _three(columns: dict[str, Array]) -> Array:
    return data.people_labels(columns, 3)


def _positive(columns: dict[str, Array]) -> Array:
    return np.asarray(np.exp(data.people_score(columns) / 3))


def _codes(columns: dict[str, Array]) -> Array:
    return (data.people_score(columns) > 2).astype(np.int64)


def _gapped() -> dict[str, Array]:
    columns = data.people()
    cities = columns["city"].copy()
    cities[np.random.default_rng(6).random(data.ROWS) < 0.1] = np.nan
    return columns | {"city": cities}


def _missing_texts() -> Fitted:
    columns = _gapped()
    model = _with(texts=_pipe(_impute("most_frequent"), _one_hot()))
    return model.fit(data.frame(columns), _three(columns)), columns


def _missing_category() -> Fitted:
    columns = _gapped()
    model = _with(texts=_pipe(_impute("constant", fill_value="none"), _one_hot()))
    return model.fit(data.frame(columns), _three(columns)), columns


def _texts_only() -> Fitted:
    columns = data.people()
    texts = {name: columns[name] for name in _TEXTS}
    model = _pipe(_one_hot(), _logistic())
    return model.fit(data.frame(texts), _three(columns)), dict(texts)


def _by_position() -> Fitted:
    columns = data.people()
    parts = [(_numeric(), [0, 1, 2]), (_one_hot(), [3, 4, 5])]
    model = _pipe(compose.make_column_transformer(*parts), _logistic())
    return model.fit(data.frame(columns), _three(columns)), columns


def _numbers_only() -> Fitted:
    columns = data.people()
    numbers = {name: columns[name] for name in _NUMBERS}
    parts = [(_scale(), ["income"]), (_impute("median"), ["age", "children"])]
    model = _pipe(compose.make_column_transformer(*parts), _impute("mean"), _logistic())
    return model.fit(data.frame(numbers), _three(columns)), dict(numbers)


def _with_review() -> Fitted:
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = data.people() | {"review": data.texts()[0]}
    parts = [(_numeric(), _NUMBERS), (_one_hot(), _TEXTS), (TfidfVectorizer(), "review")]
    model = _pipe(compose.make_column_transformer(*parts), _logistic())
    return model.fit(data.frame(columns), _three(columns)), columns


_pipe = pipeline.make_pipeline


def _scale() -> Any:
    return preprocessing.StandardScaler()


def _logistic() -> Any:
    return linear_model.LogisticRegression(max_iter=1000)


def _ridge() -> Any:
    return linear_model.Ridge()


def _forest() -> Any:
    return ensemble.RandomForestClassifier(**_TREES)


def _regression_forest() -> Any:
    return ensemble.RandomForestRegressor(**_TREES)


def _impute(strategy: str, **settings: Any) -> Any:
    return impute.SimpleImputer(strategy=strategy, **settings)


def _one_hot(**settings: Any) -> Any:
    return preprocessing.OneHotEncoder(**{"handle_unknown": "ignore"} | settings)


def _ordinal(**settings: Any) -> Any:
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    return preprocessing.OrdinalEncoder(**unknown | settings)


def _target(**settings: Any) -> Any:
    return preprocessing.TargetEncoder(random_state=0, **settings)


def _numeric() -> Any:
    return _pipe(_impute("mean"), _scale())


def _columns(numbers: Any = None, texts: Any = None, **settings: Any) -> Any:
    parts = [
        (_numeric() if numbers is None else numbers, _NUMBERS),
        (_one_hot() if texts is None else texts, _TEXTS),
    ]
    return compose.make_column_transformer(*parts, **settings)


def _with(model: Any = None, *, numbers: Any = None, texts: Any = None, **settings: Any) -> Any:
    return _pipe(_columns(numbers, texts, **settings), _logistic() if model is None else model)


def _by_type() -> Any:
    kinds = compose.make_column_selector
    parts = [
        (_numeric(), kinds(dtype_include="number")),
        (_one_hot(), kinds(dtype_exclude="number")),
    ]
    return _pipe(compose.make_column_transformer(*parts), _logistic())


def _dropping(remainder: str) -> Any:
    parts = [
        (_impute("median"), ["age", "income"]),
        (_one_hot(), ["city"]),
        ("drop", ["contract", "grade"]),
    ]
    return _pipe(compose.make_column_transformer(*parts, remainder=remainder), _logistic())


def _search() -> Any:
    grid = {"logisticregression__C": [0.1, 1.0]}
    return model_selection.GridSearchCV(_with(), grid, cv=3)


def _stacking() -> Any:
    parts = [("lr", _with()), ("rf", _with(_forest(), texts=_ordinal()))]
    return ensemble.StackingClassifier(parts, cv=3)


def _voting(how: str) -> Any:
    parts = [("lr", _with()), ("rf", _with(_forest(), texts=_ordinal())), ("nb", _with(_tree()))]
    return ensemble.VotingClassifier(parts, voting=how)


def _tree() -> Any:
    return tree.DecisionTreeClassifier(max_depth=5, random_state=0)


def _lightgbm() -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=20, num_leaves=15, n_jobs=1, verbose=-1)


def _xgboost(kind: str = "XGBRegressor") -> Any:
    import xgboost

    return getattr(xgboost, kind)(n_estimators=20, max_depth=4, n_jobs=1)


def _catboost() -> Any:
    import catboost

    return catboost.CatBoostClassifier(
        iterations=20, depth=4, thread_count=1, verbose=False, allow_writing_files=False
    )


def _logged() -> Any:
    return compose.TransformedTargetRegressor(_with(_ridge()), func=np.log1p, inverse_func=np.expm1)


def _hist() -> Any:
    boosting = ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features=[3, 4, 5])
    return _with(boosting, numbers="passthrough", texts=_ordinal())


def _skewed() -> Any:
    logged = _pipe(_impute("median"), preprocessing.FunctionTransformer(np.log1p), _scale())
    parts = [(logged, ["income"]), (_numeric(), ["age", "children"]), (_one_hot(), _TEXTS)]
    return _pipe(compose.make_column_transformer(*parts), _logistic())


def _binned() -> Any:
    bins = preprocessing.KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf")
    return _with(numbers=_pipe(_impute("median"), bins))


def _pandas_forest() -> Any:
    columns = _columns(texts=_one_hot(sparse_output=False), verbose_feature_names_out=False)
    return _pipe(columns, _forest()).set_output(transform="pandas")


def _ordered() -> Any:
    grades = preprocessing.OrdinalEncoder(categories=[["low", "middle", "high"]])
    known = _one_hot(categories=[sorted({*objects(["Berlin", "Paris"])})])
    parts = [(_numeric(), _NUMBERS), (grades, ["grade"]), (known, ["city"])]
    return _pipe(compose.make_column_transformer(*parts), _forest())


def _infrequent(**settings: Any) -> Any:
    return _one_hot(handle_unknown="infrequent_if_exist", **settings)


def _union() -> Any:
    both = pipeline.make_union(_columns(), _columns(texts=_ordinal()))
    return _pipe(both, feature_selection.SelectKBest(k=6), _logistic())


_CASES: dict[str, tuple[Callable[[], Any], _Target]] = {
    "columns: one-hot, logistic": (_with, data.people_labels),
    "columns: one-hot, logistic, three": (_with, _three),
    "columns: one-hot dense, ridge": (
        lambda: _with(_ridge(), texts=_one_hot(sparse_output=False)),
        data.people_score,
    ),
    "columns: one-hot without the first": (
        lambda: _with(texts=_one_hot(drop="first")),
        _three,
    ),
    "columns: one-hot if binary": (lambda: _with(texts=_one_hot(drop="if_binary")), _codes),
    "columns: one-hot strict": (lambda: _with(texts=_one_hot(handle_unknown="error")), _three),
    "columns: one-hot min_frequency": (
        lambda: _with(texts=_infrequent(min_frequency=30)),
        _three,
    ),
    "columns: one-hot max_categories": (
        lambda: _with(texts=_infrequent(max_categories=4)),
        _codes,
    ),
    "columns: one-hot rare share ignored": (
        lambda: _with(texts=_one_hot(min_frequency=0.06)),
        _three,
    ),
    "columns: ordinal, forest": (lambda: _with(_forest(), texts=_ordinal()), _three),
    "columns: ordinal of rare ones": (
        lambda: _with(_forest(), texts=_ordinal(min_frequency=30)),
        _codes,
    ),
    "columns: ordinal unknown NaN": (
        lambda: _with(
            _pipe(_impute("constant", fill_value=-5.0), _tree()),
            texts=_ordinal(unknown_value=np.nan),
        ),
        _three,
    ),
    "columns: target, ridge": (lambda: _with(_ridge(), texts=_target()), data.people_score),
    "columns: target, logistic": (lambda: _with(texts=_target()), data.people_labels),
    "columns: target of three": (lambda: _with(_forest(), texts=_target()), _three),
    "columns: target smoothed": (
        lambda: _with(_ridge(), texts=_target(smooth=20.0)),
        data.people_score,
    ),
    "columns: forest": (lambda: _with(_forest()), _three),
    "columns: forest regressor": (lambda: _with(_regression_forest()), data.people_score),
    "columns: boosting": (
        lambda: _with(ensemble.GradientBoostingClassifier(**_TREES)),
        _three,
    ),
    "columns: hist boosting of categories": (_hist, _three),
    "columns: neighbors": (lambda: _with(neighbors.KNeighborsClassifier()), _three),
    "columns: SVC": (lambda: _with(svm.SVC()), _three),
    "columns: linear SVC": (lambda: _with(svm.LinearSVC()), _three),
    "columns: naive Bayes": (
        lambda: _with(naive_bayes.MultinomialNB(), numbers=_pipe(_impute("mean"), _unit())),
        _three,
    ),
    "columns: lasso": (lambda: _with(linear_model.Lasso(0.01)), data.people_score),
    "columns: poisson": (lambda: _with(linear_model.PoissonRegressor()), _positive),
    "columns: by type": (_by_type, _three),
    "columns: the rest dropped": (lambda: _dropping("drop"), _three),
    "columns: the rest passed": (lambda: _dropping("passthrough"), _codes),
    "columns: logged income": (_skewed, _three),
    "columns: bins": (_binned, _three),
    "columns: quantiles": (
        lambda: _with(
            numbers=_pipe(_impute("median"), preprocessing.QuantileTransformer(n_quantiles=50))
        ),
        _three,
    ),
    "columns: powers": (
        lambda: _with(_ridge(), numbers=_pipe(_impute("median"), preprocessing.PowerTransformer())),
        data.people_score,
    ),
    "columns: splines": (
        lambda: _with(
            _ridge(), numbers=_pipe(_impute("median"), preprocessing.SplineTransformer())
        ),
        data.people_score,
    ),
    "columns: indicator": (
        lambda: _with(numbers=_impute("median", add_indicator=True)),
        _three,
    ),
    "columns: neighbors imputer": (
        lambda: _with(numbers=_pipe(_scale(), impute.KNNImputer(n_neighbors=3))),
        _three,
    ),
    "columns: LightGBM": (
        lambda: _with(_lightgbm(), numbers="passthrough", texts=_ordinal()),
        _three,
    ),
    "columns: LightGBM one-hot": (lambda: _with(_lightgbm()), _three),
    "columns: XGBoost": (lambda: _with(_xgboost()), data.people_score),
    "columns: XGBoost classifier": (
        lambda: _with(_xgboost("XGBClassifier"), numbers="passthrough"),
        _codes,
    ),
    "columns: CatBoost": (lambda: _with(_catboost(), texts=_ordinal()), _three),
    "columns: search": (_search, _three),
    "columns: stacking": (_stacking, _three),
    "columns: hard voting": (lambda: _voting("hard"), _three),
    "columns: soft voting": (lambda: _voting("soft"), _three),
    "columns: calibrated": (
        lambda: calibration.CalibratedClassifierCV(_with(svm.LinearSVC()), cv=3),
        _three,
    ),
    "columns: tuned threshold": (
        lambda: model_selection.TunedThresholdClassifierCV(_with(), cv=3),
        _codes,
    ),
    "columns: logged target": (_logged, _positive),
    "columns: pandas output": (_pandas_forest, _three),
    "columns: given order": (_ordered, _three),
    "columns: union": (_union, _three),
    "columns: own subclass": (lambda: _with(own_steps().CarefulRegression()), _three),
    "columns: clipped numbers": (
        lambda: _with(numbers=_pipe(_impute("mean"), own_steps().Clipper())),
        _three,
    ),
}


def _unit() -> Any:
    return preprocessing.MinMaxScaler(clip=True)
