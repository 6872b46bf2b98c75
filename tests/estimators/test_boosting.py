"""AdaBoost and gradient boosting: raw scores bit for bit, and the right side of zero."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.estimators.conftest import Written
from tests.estimators.splits import hard_rows
from toolkit.errors import UnsupportedModelError

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 5)).round(2)
SCORE = X[:, 0] + X[:, 1] * X[:, 2] + RANDOM.normal(size=200) * 0.7
TWO = (SCORE > 0).astype(int)
TEXTS = np.array(["no", "yes", "möglich"])[np.digitize(SCORE, [-0.7, 0.7])]


@pytest.mark.parametrize("labels", [TWO, TEXTS], ids=["two", "texts"])
@pytest.mark.parametrize(
    "model",
    [
        AdaBoostClassifier(n_estimators=20, random_state=0),
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=10, random_state=0),
        GradientBoostingClassifier(n_estimators=15, random_state=0),
        GradientBoostingClassifier(n_estimators=15, init="zero", subsample=0.5, random_state=0),
        GradientBoostingClassifier(
            n_estimators=9, init=DecisionTreeClassifier(max_depth=2), random_state=0
        ),
    ],
    ids=str,
)
def test_a_boosted_classifier_has_the_same_raw_scores(
    written: Written, model: Any, labels: Array
) -> None:
    model.fit(X, labels)
    rows = hard_rows(model, X)
    label, decision, shares = written(model, rows, "predict", "decision_function", "predict_proba")
    # What an init adds is a logarithm, and the trees' sum is added to it, not in turn.
    exact = not hasattr(getattr(model, "init", None), "fit")
    near = 0.0 if exact else 1e-14
    assert (label == model.predict(rows)).all()
    assert decision == pytest.approx(model.decision_function(rows), rel=near, abs=near)
    assert shares == pytest.approx(model.predict_proba(rows), rel=1e-13)


def test_the_exponential_loss_doubles_the_score(written: Written) -> None:
    model = GradientBoostingClassifier(loss="exponential", n_estimators=10).fit(X, TWO)
    rows = hard_rows(model, X)
    decision, shares = written(model, rows, "decision_function", "predict_proba")
    assert (decision == model.decision_function(rows)).all()
    assert shares == pytest.approx(model.predict_proba(rows), rel=1e-13)


def test_a_score_of_zero_is_the_second_class_of_gradient_boosting(written: Written) -> None:
    x, y = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 1, 0, 1])
    model = GradientBoostingClassifier(n_estimators=3).fit(x, y)
    label, decision = written(model, x, "predict", "decision_function")
    assert (decision == 0).all()
    assert (label == model.predict(x)).all()


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingRegressor(n_estimators=15, random_state=0),
        GradientBoostingRegressor(n_estimators=15, loss="huber", random_state=0),
        GradientBoostingRegressor(n_estimators=15, loss="quantile", alpha=0.8, random_state=0),
        GradientBoostingRegressor(n_estimators=15, init="zero", random_state=0),
        AdaBoostRegressor(n_estimators=12, random_state=0),
        AdaBoostRegressor(DecisionTreeRegressor(max_depth=1), n_estimators=20, random_state=0),
    ],
    ids=str,
)
def test_a_boosted_regressor_is_equal_bit_for_bit(written: Written, model: Any) -> None:
    model.fit(X, SCORE)
    rows = hard_rows(model, X)
    (value,) = written(model, rows, "predict")
    assert (value == model.predict(rows)).all()


def test_an_init_that_computes_in_float32_is_refused(written: Written) -> None:
    model = GradientBoostingRegressor(init=LinearRegression(), n_estimators=3).fit(X, SCORE)
    with pytest.raises(UnsupportedModelError, match=r"LinearRegression, computes in float32"):
        written(model, X, "predict")


def test_ada_boost_takes_any_estimator(written: Written) -> None:
    classifier = AdaBoostClassifier(LogisticRegression(), n_estimators=4).fit(X, TEXTS)
    label, decision = written(classifier, X, "predict", "decision_function")
    assert (label == classifier.predict(X)).all()
    assert (decision == classifier.decision_function(X)).all()
    regressor = AdaBoostRegressor(LinearRegression(), n_estimators=5, random_state=0)
    (value,) = written(regressor.fit(X, SCORE), X, "predict")
    assert value == pytest.approx(regressor.predict(X), rel=1e-11)
