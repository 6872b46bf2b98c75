"""A booster from its native file or a pickle answers as whoever saved it would be answered."""

import pickle
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV

from converters import thresholds
from converters.categories import fitted_categories, learn
from converters.loading import load
from toolkit.errors import UnsupportedModelError

_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=(200, 4))
_SCORE = _X[:, 0] * _X[:, 1] + _RNG.normal(size=200)


def _stored(model: Any, path: Path) -> Path:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(model))
    else:
        model.save_model(str(path))
    return path


@pytest.mark.parametrize("suffix", [".json", ".ubj", ".pkl"])
def test_a_booster_that_stopped_early_takes_all_its_rounds(tmp_path: Path, suffix: str) -> None:
    train, rest = xgboost.DMatrix(_X[:150], _SCORE[:150]), xgboost.DMatrix(_X[150:], _SCORE[150:])
    booster = xgboost.train(
        {"eta": 0.8},
        train,
        100,
        evals=[(rest, "rest")],
        early_stopping_rounds=5,
        verbose_eval=False,
    )
    given = load(_stored(booster, tmp_path / f"m{suffix}"), trusted=True).model.predict(_X)
    np.testing.assert_array_equal(given, booster.predict(xgboost.DMatrix(_X)))


@pytest.mark.parametrize("objective", ["binary:logitraw", "binary:hinge", "binary:logistic"])
def test_a_classifier_s_file_holds_a_classifier(tmp_path: Path, objective: str) -> None:
    model = xgboost.XGBClassifier(n_estimators=5, objective=objective)
    model.fit(_X[:150], _SCORE[:150] > 0, verbose=False)
    loaded = load(_stored(model, tmp_path / "m.json"), trusted=False).model
    np.testing.assert_array_equal(loaded.predict(_X), model.predict(_X))


_CITIES = np.array(["Köln", "Москва", "東京", "İzmir", "Paris"], dtype=object)


def _cities() -> tuple[dict[str, Any], Any]:
    city = _CITIES[_RNG.integers(0, 5, 200)]
    return {"city": city, "rooms": _RNG.integers(0, 5, 200)}, (city == "Köln") * 2.0 + _SCORE


def test_damaged_categories_are_mended_by_a_sample_that_holds_them_all() -> None:
    sample, y = _cities()
    frame = pd.DataFrame(sample).astype({"city": "category"})
    model = xgboost.XGBRegressor(n_estimators=3, enable_categorical=True).fit(frame, y)
    with pytest.raises(UnsupportedModelError, match="not all are ASCII"):
        fitted_categories(model, ("city",))
    learn(model, {"city": sample["city"][sample["city"] != "Paris"]})
    with pytest.raises(UnsupportedModelError, match="not all are ASCII"):
        fitted_categories(model, ("city",))
    learn(model, sample)
    assert fitted_categories(model, ("city",))["city"].values == tuple(sorted(_CITIES))  # noqa: PD011 - no frame


def test_ordered_categories_of_lightgbm_stand_where_the_sample_has_texts() -> None:
    sample, y = _cities()
    sample["street"] = sample["city"][::-1]
    ordered = pd.CategoricalDtype(list(_CITIES), ordered=True)
    frame = pd.DataFrame(sample).astype({"city": ordered, "street": "category"})
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(frame, y)
    with pytest.raises(UnsupportedModelError, match="which columns"):
        fitted_categories(model, ("city", "street"))
    learn(model, sample)
    found = fitted_categories(model, ("city", "rooms", "street"))
    assert found["city"].values == tuple(_CITIES)  # noqa: PD011
    assert found["street"].values == tuple(sorted(_CITIES))  # noqa: PD011


def test_an_unfitted_catboost_in_a_wrapper_has_no_thresholds() -> None:
    inner = catboost.CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False)
    model = CalibratedClassifierCV(inner, cv=2).fit(_X, _SCORE > 0)
    assert thresholds.of(model.estimator) == []
    assert thresholds.of(model.calibrated_classifiers_[0].estimator)
