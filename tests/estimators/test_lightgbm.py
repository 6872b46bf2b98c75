"""LightGBM as ONNX: the raw scores are the same bits, the links within 1e-12."""

from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest

from tests.estimators.boosters import Array, assert_close, hard, numbers
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

_X, _SCORE = numbers()
_SMALL: dict[str, Any] = {"n_estimators": 12, "num_leaves": 8, "n_jobs": 1, "verbose": -1}
_RF = {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1}


def _splits(model: Any) -> Iterator[tuple[int, float]]:
    """Give the thresholds of a model, by feature."""
    booster = getattr(model, "booster_", model)
    names = booster.feature_name()
    table = booster.trees_to_dataframe()
    for name, split in table[table.decision_type == "<="][
        ["split_feature", "threshold"]
    ].to_numpy():
        yield names.index(name), float(split)


def _regressor(x: Array = _X, y: Array = _SCORE, **settings: Any) -> Any:
    return lightgbm.LGBMRegressor(**_SMALL | settings).fit(x, y)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"objective": "regression_l1"},
        {"objective": "huber"},
        {"objective": "quantile", "alpha": 0.8},
        {"objective": "mape"},
        {"reg_sqrt": True},
        {"boosting_type": "dart"},
        {"extra_trees": True},
        {"linear_tree": True},
        {"use_missing": False},
        {"zero_as_missing": True},
        _RF,
    ],
    ids=str,
)
def test_a_regressor_gives_the_same_bits(written: Written, settings: dict[str, Any]) -> None:
    x = _X.copy()
    x[::7, 1] = 0.0
    if not settings.get("linear_tree"):
        x[::5, 2] = np.nan
    model = _regressor(x, **settings)
    rows = hard(_X, _splits(model))
    np.testing.assert_array_equal(written(model, rows, "predict")[0], model.predict(rows))


def test_infinite_rows_take_the_same_branches(written: Written) -> None:
    model = _regressor()
    rows = np.where(np.random.default_rng(3).random(_X.shape) < 0.3, np.inf, _X)
    rows = np.concatenate([rows, -rows])
    np.testing.assert_array_equal(written(model, rows, "predict")[0], model.predict(rows))


@pytest.mark.parametrize(
    "objective", ["poisson", "gamma", "tweedie", "cross_entropy", "cross_entropy_lambda"]
)
def test_the_links_of_regression_are_applied(written: Written, objective: str) -> None:
    y = 1 / (1 + np.exp(-_SCORE))
    model = _regressor(y=y, objective=objective)
    rows = hard(_X, _splits(model))
    assert_close(written(model, rows, "predict")[0], model.predict(rows), 1e-14)


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (2, {}),
        (2, {"sigmoid": 0.4}),
        (2, {"linear_tree": True}),
        (2, _RF),
        (3, {}),
        (3, {"objective": "multiclassova"}),
        (3, {"linear_tree": True}),
        (3, _RF),
    ],
    ids=str,
)
def test_a_classifier_gives_labels_and_probabilities(
    written: Written, classes: int, settings: dict[str, Any]
) -> None:
    names = np.array(["low", "middle", "high"])
    y = names[np.digitize(_SCORE, [-1.0, 1.0][: classes - 1])]
    model = lightgbm.LGBMClassifier(**_SMALL | settings).fit(_X, y)
    rows = hard(_X, _splits(model))
    labels, probabilities = written(model, rows, "predict", "predict_proba")
    np.testing.assert_array_equal(labels, model.predict(rows))
    assert_close(probabilities, model.predict_proba(rows), 1e-14)


def test_categories_go_by_their_integer_part(written: Written) -> None:
    x = _X.copy()
    x[:, 0] = np.random.default_rng(2).integers(0, 90, len(x))
    y = np.isin(x[:, 0], [0, 3, 11, 33, 34, 66, 67, 80]) * 5 + x[:, 1]
    settings = _SMALL | {"min_data_per_group": 2, "cat_smooth": 1, "min_child_samples": 3}
    model = lightgbm.LGBMRegressor(**settings).fit(x, y, categorical_feature=[0])
    rows = x.copy()
    rows[:, 0] = np.concatenate(
        [np.arange(-10, 90) * 0.5, np.arange(100) - 0.001, [np.nan, 1e12, -1e12, 2**32 + 3] * 25]
    )
    answer = model.predict(rows)
    assert len(np.unique(answer)) > 2
    np.testing.assert_array_equal(written(model, rows, "predict")[0], answer)


def test_pandas_categories_are_taken_as_texts(written: Written) -> None:
    cities = np.array(["Zürich", "Oslo", "Łódź", "Bern"], dtype=object)
    city = cities[np.random.default_rng(2).integers(0, 4, len(_X))]
    frame = pd.DataFrame({"a": _X[:, 0], "city": pd.Categorical(city), "b": _X[:, 1]})
    model = lightgbm.LGBMRegressor(**_SMALL).fit(frame, _SCORE + (city == "Oslo") * 5)
    city = city.copy()
    city[::9], city[1::9] = "never seen", ""
    known = city.copy()
    known[~np.isin(city, cities)] = None
    asked = frame.assign(city=pd.Categorical(known, categories=frame["city"].cat.categories))
    columns = {"a": _X[:, 0], "city": city, "b": _X[:, 1]}
    np.testing.assert_array_equal(written(model, columns, "predict")[0], model.predict(asked))


def test_only_the_best_iterations_count(written: Written) -> None:
    seen, unseen = (
        lightgbm.Dataset(_X[:200], _SCORE[:200]),
        lightgbm.Dataset(_X[200:], _SCORE[200:]),
    )
    booster = lightgbm.train(
        {"learning_rate": 0.8, "num_leaves": 8, "num_threads": 1, "verbose": -1},
        seen,
        200,
        valid_sets=[unseen],
        callbacks=[lightgbm.early_stopping(2, verbose=False)],
        keep_training_booster=True,
    )
    assert booster.best_iteration < booster.current_iteration()
    given = written(booster, _X, "predict")[0].reshape(-1)
    np.testing.assert_array_equal(given, booster.predict(_X))


def test_a_bare_booster_answers_as_its_predict(written: Written) -> None:
    y = np.digitize(_SCORE, [-1.0, 1.0])
    settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(_X, y), 5)
    rows = hard(_X, _splits(booster))
    label, probabilities = written(booster, rows, "booster_label", "booster_probabilities")
    assert_close(probabilities, booster.predict(rows), 1e-14)
    np.testing.assert_array_equal(label, np.asarray(booster.predict(rows)).argmax(axis=1))


def test_an_objective_of_the_users_own_leaves_the_score_raw(written: Written) -> None:
    def squared(target: Array, score: Array) -> tuple[Array, Array]:
        return score - target, np.ones_like(score)

    model = _regressor(objective=squared)
    np.testing.assert_array_equal(written(model, _X, "predict")[0], model.predict(_X))


def test_stopping_early_in_predict_is_refused(written: Written) -> None:
    y = (_SCORE > 0).astype(int)
    model = lightgbm.LGBMClassifier(**_SMALL, pred_early_stop=True).fit(_X, y)
    with pytest.raises(UnsupportedModelError, match="pred_early_stop"):
        written(model, _X, "predict")
