import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from toolkit.errors import UnsupportedModelError
from toolkit.gateway.engine import contributions

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(120, 4))
KINDS = np.digitize(ROWS[:, 1], [-0.5, 0.5])
ROW = ROWS[0].tolist()


def test_the_parts_of_xgboost_add_up_to_the_raw_answer() -> None:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(ROWS, KINDS)
    told = contributions.of(model, ROW)
    margins = model.predict(ROWS[:1], output_margin=True)[0]
    assert sum(told["values"]) + told["base"] == pytest.approx(max(margins), abs=1e-5)
    assert int(np.argmax(np.abs(told["values"]))) == 1


def test_the_parts_of_lightgbm_add_up_to_the_raw_answer() -> None:
    import lightgbm

    model = lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1).fit(ROWS, ROWS[:, 1])
    told = contributions.of(model.booster_, ROW)
    raw = model.booster_.predict(ROWS[:1])[0]
    assert sum(told["values"]) + told["base"] == pytest.approx(raw)
    assert int(np.argmax(np.abs(told["values"]))) == 1


def test_the_parts_of_catboost_add_up_with_texts_among_them() -> None:
    import catboost

    rows = [[*row[:3], "high" if row[1] > 0 else "low"] for row in ROWS.tolist()]
    model = catboost.CatBoostRegressor(
        iterations=10, cat_features=[3], verbose=False, allow_writing_files=False, thread_count=1
    ).fit(rows, ROWS[:, 1])
    told = contributions.of(model, rows[0])
    assert sum(told["values"]) + told["base"] == pytest.approx(model.predict(rows[:1])[0])


def test_a_linear_model_behind_a_scaler_tells_each_columns_part() -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, KINDS)
    told = contributions.of(model, ROW)
    assert sum(told["values"]) + told["base"] == pytest.approx(
        model.decision_function(ROWS[:1])[0].max()
    )


def test_a_model_that_mixes_columns_or_does_not_tell_is_refused() -> None:
    mixed = make_pipeline(PCA(), LinearRegression()).fit(ROWS, ROWS[:, 1])
    with pytest.raises(UnsupportedModelError, match="PCA mixes columns"):
        contributions.of(mixed, ROW)
    with pytest.raises(UnsupportedModelError, match="does not tell the exact contributions"):
        contributions.of(PCA().fit(ROWS), ROW)
    with pytest.raises(UnsupportedModelError, match="CatBoost alone"):
        contributions.of(LinearRegression().fit(ROWS, ROWS[:, 1]), ["a", "b", "c", "d"])
