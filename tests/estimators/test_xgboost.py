"""XGBoost as ONNX: the scores are the same float32 numbers, in the library's order of sums."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.estimators.boosters import Array, assert_close, hard, numbers
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

_X, _SCORE = numbers()
_SMALL: dict[str, Any] = {"n_estimators": 12, "max_depth": 3, "n_jobs": 1}
_ONE_ULP = 2.5e-7


def _splits(model: Any) -> Iterator[tuple[int, float]]:
    """Give the split conditions of a model's trees, by feature."""
    boosted = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    boosted = boosted["gradient_booster"]
    for tree in boosted.get("gbtree", boosted)["model"].get("trees", ()):
        nodes = zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        )
        yield from ((feature, split) for feature, split, left in nodes if left >= 0)


def _regressor(x: Array = _X, y: Array = _SCORE, **settings: Any) -> Any:
    return xgboost.XGBRegressor(**_SMALL | settings).fit(x, y)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"base_score": 7.0},
        {"booster": "dart", "rate_drop": 0.3},
        {"booster": "gblinear", "max_depth": None},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"objective": "reg:absoluteerror"},
        {"objective": "reg:pseudohubererror"},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
    ],
    ids=str,
)
def test_a_regressor_gives_the_same_bits(written: Written, settings: dict[str, Any]) -> None:
    x = np.where(np.random.default_rng(4).random(_X.shape) < 0.1, np.nan, _X)
    model = _regressor(x, **settings)
    rows = hard(_X, _splits(model))
    wanted = model.predict(rows)
    np.testing.assert_array_equal(written(model, rows, "predict")[0].reshape(wanted.shape), wanted)


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_several_targets_give_the_same_bits(written: Written, strategy: str) -> None:
    y = np.column_stack([_SCORE, -2 * _SCORE, _X[:, 1]])
    model = _regressor(y=y, multi_strategy=strategy, tree_method="hist")
    rows = hard(_X, _splits(model))
    np.testing.assert_array_equal(written(model, rows, "predict")[0], model.predict(rows))


@pytest.mark.parametrize(
    "objective",
    ["count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "reg:squaredlogerror"],
)
def test_the_links_of_positive_targets_are_applied(written: Written, objective: str) -> None:
    model = _regressor(y=np.exp(_SCORE / 5), objective=objective)
    rows = hard(_X, _splits(model))
    assert_close(written(model, rows, "predict")[0], model.predict(rows), _ONE_ULP)


def test_regression_of_shares_has_its_sigmoid(written: Written) -> None:
    model = _regressor(y=1 / (1 + np.exp(-_SCORE)), objective="reg:logistic")
    assert_close(written(model, _X, "predict")[0], model.predict(_X), _ONE_ULP)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.1])
def test_the_value_for_missing_is_missing(written: Written, value: float) -> None:
    x = np.where(np.random.default_rng(4).random(_X.shape) < 0.3, value, _X)
    model = _regressor(x, missing=value)
    rows = hard(x, _splits(model))
    assert not np.array_equal(model.predict(x), model.set_params(missing=np.nan).predict(x))
    model.set_params(missing=value)
    np.testing.assert_array_equal(written(model, rows, "predict")[0], model.predict(rows))


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (2, {}),
        (2, {"base_score": 0.2}),
        (2, {"objective": "binary:hinge"}),
        (2, {"objective": "binary:logitraw"}),
        (2, {"booster": "gblinear", "max_depth": None}),
        (2, {"learning_rate": 60.0, "reg_lambda": 0.0}),
        (3, {}),
        (3, {"objective": "multi:softmax"}),
        (3, {"booster": "gblinear", "max_depth": None}),
        (3, {"booster": "dart", "rate_drop": 0.3}),
    ],
    ids=str,
)
def test_a_classifier_gives_labels_and_probabilities(
    written: Written, classes: int, settings: dict[str, Any]
) -> None:
    y = np.digitize(_SCORE, [-1.0, 1.0][: classes - 1])
    model = xgboost.XGBClassifier(**_SMALL | settings).fit(_X, y)
    rows = hard(_X, _splits(model))
    labels, probabilities = written(model, rows, "predict", "predict_proba")
    np.testing.assert_array_equal(labels, model.predict(rows))
    assert_close(probabilities, model.predict_proba(rows), _ONE_ULP)


def test_several_labels_a_row_are_each_told(written: Written) -> None:
    y = np.column_stack([_SCORE > 0, _X[:, 1] > 0, _X[:, 2] > 0.5]).astype(int)
    model = xgboost.XGBClassifier(**_SMALL).fit(_X, y)
    labels, probabilities = written(model, _X, "predict", "predict_proba")
    np.testing.assert_array_equal(labels, model.predict(_X))
    assert_close(probabilities, model.predict_proba(_X), _ONE_ULP)


def test_a_random_forest_and_a_ranker_are_written(written: Written) -> None:
    forest = xgboost.XGBRFRegressor(**_SMALL).fit(_X, _SCORE)
    np.testing.assert_array_equal(written(forest, _X, "predict")[0], forest.predict(_X))
    grades = np.digitize(_SCORE, [-1.0, 1.0])
    ranker = xgboost.XGBRanker(**_SMALL).fit(_X, grades, qid=np.arange(len(_X)) // 20)
    np.testing.assert_array_equal(written(ranker, _X, "predict")[0], ranker.predict(_X))


def test_only_the_best_iterations_count(written: Written) -> None:
    model = xgboost.XGBRegressor(
        **_SMALL | {"n_estimators": 200, "learning_rate": 0.8, "early_stopping_rounds": 2}
    )
    model.fit(_X[:200], _SCORE[:200], eval_set=[(_X[200:], _SCORE[200:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    np.testing.assert_array_equal(written(model, _X, "predict")[0], model.predict(_X))


@pytest.mark.parametrize("one_hot", [1, 100])
def test_categories_go_by_their_integer_part(written: Written, one_hot: int) -> None:
    x = _X.copy()
    x[:, 0] = np.random.default_rng(2).integers(0, 90, len(x))
    y = np.isin(x[:, 0], [0, 3, 11, 33, 34, 66, 67, 80]) * 5 + x[:, 1]
    model = xgboost.XGBRegressor(
        **_SMALL,
        feature_types=["c", *"qqqq"],
        enable_categorical=True,
        tree_method="hist",
        max_cat_to_onehot=one_hot,
    ).fit(x, y)
    rows = x.copy()
    rows[:, 0] = np.concatenate(
        [np.arange(-10, 90) * 0.5, np.arange(100) - 0.001, [np.nan, 1e12, -1e12, 2**24] * 25]
    )
    answer = model.predict(rows)
    assert len(np.unique(answer)) > 2
    np.testing.assert_array_equal(written(model, rows, "predict")[0], answer)


def test_pandas_categories_are_taken_as_texts(written: Written) -> None:
    cities = np.array(["Paris", "Oslo", "Bern"], dtype=object)
    city = cities[np.random.default_rng(2).integers(0, 3, len(_X))]
    frame = pd.DataFrame({"a b": _X[:, 0], "city": pd.Categorical(city), "c": _X[:, 1]})
    model = xgboost.XGBRegressor(**_SMALL, enable_categorical=True)
    model.fit(frame, _SCORE + (city == "Oslo") * 5)
    city = city.copy()
    city[::9], city[1::9] = "never seen", ""
    known = city.copy()
    known[~np.isin(city, cities)] = None
    asked = frame.assign(city=pd.Categorical(known, categories=frame["city"].cat.categories))
    columns = {"a b": _X[:, 0], "city": city, "c": _X[:, 1]}
    np.testing.assert_array_equal(written(model, columns, "predict")[0], model.predict(asked))


def test_a_pipeline_rounds_to_float32_where_xgboost_does(written: Written) -> None:
    model = make_pipeline(StandardScaler(), _regressor(_X.copy()))
    model.fit(_X, _SCORE)
    np.testing.assert_array_equal(written(model, _X, "predict")[0], model.predict(_X))


def test_a_feature_that_is_number_and_category_is_refused(written: Written) -> None:
    x = np.abs(np.rint(_X * 3))
    first = xgboost.XGBRegressor(**_SMALL).fit(x, _SCORE)
    second = xgboost.XGBRegressor(
        **_SMALL, feature_types=["c"] * 5, enable_categorical=True, tree_method="hist"
    ).fit(x, _SCORE, xgb_model=first.get_booster())
    with pytest.raises(UnsupportedModelError, match="as a number and as a category"):
        written(second, x, "predict")


def test_softprob_of_two_classes_answers_yes_or_no_for_each(written: Written) -> None:
    model = xgboost.XGBClassifier(**_SMALL, objective="multi:softprob", num_class=2)
    model.fit(_X, (_SCORE > 0).astype(int))
    labels = written(model, _X, "predict")[0]
    assert labels.shape == (len(_X), 2)
    np.testing.assert_array_equal(labels, model.predict(_X))
