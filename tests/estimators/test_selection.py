"""Selected columns, their names, and what is predicted from them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import feature_selection as fs
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from tests.estimators.transforms import Written, hard_rows, same
from toolkit.errors import UnsupportedModelError

ROWS = np.random.default_rng(0).normal(size=(80, 5))
LABELS = (ROWS[:, 0] + ROWS[:, 3] > 0.0).astype(int)
HARD = hard_rows(ROWS)


@pytest.mark.parametrize(
    "model",
    [
        fs.SelectKBest(k=2),
        fs.SelectPercentile(percentile=40),
        fs.SelectFpr(),
        fs.SelectFdr(),
        fs.SelectFwe(),
        fs.GenericUnivariateSelect(param=30),
        fs.VarianceThreshold(0.5),
        fs.SelectFromModel(LogisticRegression()),
        fs.SequentialFeatureSelector(LogisticRegression(), n_features_to_select=2, cv=2),
        fs.RFE(LogisticRegression(), n_features_to_select=2),
        fs.RFECV(LogisticRegression(), cv=2),
    ],
    ids=str,
)
def test_the_chosen_columns_are_handed_on(model: Any, written: Written) -> None:
    same(written, model, ROWS, HARD, rtol=0.0, y=LABELS)


@pytest.mark.parametrize("cls", [fs.RFE, fs.RFECV])
def test_an_elimination_predicts_from_the_columns_it_keeps(cls: Any, written: Written) -> None:
    model = cls(LogisticRegression()).fit(ROWS, LABELS)
    labels, shares = written(model, HARD, "predict", "predict_proba")
    np.testing.assert_array_equal(labels, model.predict(HARD))
    np.testing.assert_allclose(shares, model.predict_proba(HARD), atol=1e-12)


@pytest.mark.filterwarnings("ignore:No features were selected")
def test_a_selector_that_keeps_nothing_is_refused(written: Written) -> None:
    model = fs.SelectFpr(alpha=0.0).fit(ROWS, LABELS)
    with pytest.raises(UnsupportedModelError, match="SelectFpr: it selects no column"):
        written(model, ROWS, "transform")


def test_names_that_a_step_gives_are_found_by_the_next(written: Written) -> None:
    frame = pd.DataFrame(ROWS[:, :3], columns=list("abc"))
    frame.loc[3, "b"] = np.nan
    model = make_pipeline(
        SimpleImputer(add_indicator=True),
        ColumnTransformer([("p", PolynomialFeatures(), ["c", "a"])], remainder="passthrough"),
        ColumnTransformer([("s", StandardScaler(), ["remainder__b", "p__c a"])]),
        LogisticRegression(),
    ).set_output(transform="pandas")
    model.fit(frame, LABELS)
    (shares,) = written(model, {name: frame[name].to_numpy() for name in frame}, "predict_proba")
    np.testing.assert_allclose(shares, model.predict_proba(frame), rtol=1e-12)
