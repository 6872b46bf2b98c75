"""Histogram gradient boosting: native categories, NaN, infinities and every link."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from tests.estimators.conftest import Written
from tests.estimators.splits import hard_rows

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
ROWS = 400
X = RANDOM.normal(size=(ROWS, 4))
X[RANDOM.random(X.shape) < 0.1] = np.nan
SCORE = np.nan_to_num(X) @ [1.0, -1.0, 0.5, 0.0] + RANDOM.normal(size=ROWS) * 0.3
CITIES = np.array(["Zürich", "Basel", "", *(f"town {i}" for i in range(40))], dtype=object)
CITY = RANDOM.integers(0, len(CITIES), ROWS)
CODE = RANDOM.integers(0, 150, ROWS).astype(float)
WITH_CATEGORIES = SCORE + 1.5 * (CITY % 3 == 0) - 2 * np.isin(CODE % 10, (1, 4, 5))


def three(score: Array) -> Array:
    return np.digitize(score, np.quantile(score, [0.3, 0.7]))


def few(**options: Any) -> dict[str, Any]:
    return {"max_iter": 12, "random_state": 0, **options}


@pytest.mark.parametrize("classes", [2, 3])
def test_raw_scores_are_equal_bit_for_bit(written: Written, classes: int) -> None:
    labels = np.array(["a", "b", "c"])[np.minimum(three(SCORE), classes - 1)]
    model = HistGradientBoostingClassifier(**few()).fit(X, labels)
    rows = hard_rows(model, X, nan=True, infinite=True)
    label, decision, shares = written(model, rows, "predict", "decision_function", "predict_proba")
    assert (label == model.predict(rows)).all()
    assert (decision == model.decision_function(rows)).all()
    assert shares == pytest.approx(model.predict_proba(rows), rel=1e-13)


@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "gamma", "poisson", "quantile"]
)
def test_each_loss_has_its_link(written: Written, loss: str) -> None:
    quantile = {"quantile": 0.7} if loss == "quantile" else {}
    model = HistGradientBoostingRegressor(loss=loss, **few(**quantile)).fit(X, np.exp(SCORE))
    rows = hard_rows(model, X, nan=True, infinite=True)
    (value,) = written(model, rows, "predict")
    near = 1e-15 if loss in {"gamma", "poisson"} else 0.0
    assert value == pytest.approx(model.predict(rows), rel=near, abs=0)


def test_numbers_as_categories_meet_unseen_and_missing_ones(written: Written) -> None:
    x = np.column_stack([X[:, 0], CODE, X[:, 1], CITY])
    model = HistGradientBoostingClassifier(categorical_features=[1, 3], **few())
    model.fit(x, three(WITH_CATEGORIES))
    assert any(tree.nodes["is_categorical"].any() for i in model._predictors for tree in i)
    rows = np.concatenate([x, x])
    for first, (column, value) in enumerate([(1, 999), (1, np.nan), (3, -1), (3, 5000), (1, 2.5)]):
        rows[ROWS + first :: 5, column] = value
    label, decision = written(model, rows, "predict", "decision_function")
    assert (label == model.predict(rows)).all()
    assert (decision == model.decision_function(rows)).all()


def columns(frame: pd.DataFrame) -> Mapping[str, Array]:
    return {
        str(name): frame[name].to_numpy(float if frame[name].dtype.kind in "fi" else object)
        for name in frame
    }


def test_categories_by_dtype_are_read_from_text_columns(written: Written) -> None:
    city = pd.Categorical(CITIES[CITY])
    frame = pd.DataFrame({"size": X[:, 0], "city": city, "weight": X[:, 1]})
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", **few())
    model.fit(frame, WITH_CATEGORIES)
    asked = frame.assign(city=frame["city"].astype(object))
    asked.loc[::4, "city"] = "never seen"
    (value,) = written(model, columns(asked), "predict")
    assert (value == model.predict(asked)).all()


def test_stopping_early_keeps_the_categories_of_all_rows(written: Written) -> None:
    x = np.column_stack([X[:, 0], CODE])
    model = HistGradientBoostingRegressor(
        categorical_features=[1], early_stopping=True, **few(validation_fraction=0.5)
    ).fit(x, WITH_CATEGORIES)
    (value,) = written(model, x, "predict")
    assert (value == model.predict(x)).all()
