"""Trees and forests of scikit-learn: bit for bit what the original says, on hard rows."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    RandomTreesEmbedding,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from tests.estimators.conftest import Written
from tests.estimators.splits import hard_rows

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 5)).round(2)
SCORE = X[:, 0] + X[:, 1] * X[:, 2] + RANDOM.normal(size=200) * 0.7
WITH_NAN = np.where(RANDOM.random(X.shape) < 0.15, np.nan, X)
THREE = np.digitize(SCORE, [-0.7, 0.7])
LABELS = {
    "two": (SCORE > 0).astype(int),
    "three": THREE,
    "texts": np.array(["no", "yes", "möglich"])[THREE],
    "floats": THREE.astype(float),
    "ones": np.full(200, 7),
}
OUTPUTS = np.column_stack([SCORE > 0, THREE, X[:, 2] > 0]).astype(int)


def is_equal(ours: Array, theirs: Array) -> bool:
    """Compare bit for bit; of two classes the first may be the rest to one of the second.

    scikit-learn adds up the first one as well: a dozen roundings at most in these forests.
    """
    if theirs.shape[1] != 2:
        return bool((ours == theirs).all())
    second = (ours[:, 1] == theirs[:, 1]).all()
    return bool(second and np.abs(ours[:, 0] - theirs[:, 0]).max() <= 12 * np.finfo(float).eps)


@pytest.mark.parametrize("labels", ["two", "three", "texts", "floats"])
@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(random_state=0),
        ExtraTreeClassifier(max_depth=4, random_state=0),
        RandomForestClassifier(10, random_state=0),
        RandomForestClassifier(12, max_depth=3, random_state=0),
        RandomForestClassifier(9, class_weight="balanced", max_leaf_nodes=6, random_state=0),
        ExtraTreesClassifier(10, random_state=0),
    ],
    ids=str,
)
def test_a_forest_decides_ties_and_thresholds_as_scikit_learn_does(
    written: Written, model: Any, labels: str
) -> None:
    for x in (X, WITH_NAN):
        model.fit(x, LABELS[labels])
        rows = hard_rows(model, x, nan=True)
        label, shares = written(model, rows, "predict", "predict_proba")
        assert (label == model.predict(rows)).all()
        assert is_equal(shares, model.predict_proba(rows))


def test_a_vote_is_tied_in_these_rows(written: Written) -> None:
    model = RandomForestClassifier(10, random_state=0).fit(X, LABELS["two"])
    rows = hard_rows(model, X)
    tied = model.predict_proba(rows)[:, 1] == 0.5
    (label,) = written(model, rows, "predict")
    assert tied.sum() > 10
    assert (label[tied] == 0).all()


def test_where_rounding_decides_it_decides_as_in_scikit_learn(written: Written) -> None:
    x = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 0], [0, 0]], dtype=float)
    y = np.array([1, 1, 0, 1, 0, 0, 1])
    asked = np.array([[1.0, 1.0], [0.0, 0.0]])
    sides = set()
    for seed in range(25):
        model = ExtraTreesClassifier(10, max_depth=1, max_features=1, random_state=seed).fit(x, y)
        shares = model.predict_proba(asked)[0]
        if abs(shares[1] - shares[0]) < 1e-12:
            sides.add(float(np.sign(shares[1] - shares[0])))
        (label,) = written(model, asked, "predict")
        assert (label == model.predict(asked)).all()
    assert sides >= {-1.0, 1.0}


@pytest.mark.parametrize("rows", [1, 2, 33])
def test_the_answer_does_not_depend_on_the_batch(written: Written, rows: int) -> None:
    for depth in (None, 3):
        model = RandomForestClassifier(15, max_depth=depth, random_state=0).fit(X, LABELS["three"])
        (shares,) = written(model, X[:rows], "predict_proba")
        assert (shares == model.predict_proba(X[:rows])).all()


def test_a_single_class_is_certain(written: Written) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, LABELS["ones"])
    label, shares = written(model, X, "predict", "predict_proba")
    assert (label == 7).all()
    assert (shares == np.ones((200, 1))).all()


@pytest.mark.parametrize(
    "model",
    [DecisionTreeClassifier(max_depth=4), RandomForestClassifier(7, random_state=0)],
    ids=str,
)
def test_several_outputs_have_a_tensor_of_probabilities_each(written: Written, model: Any) -> None:
    model.fit(WITH_NAN, OUTPUTS)
    rows = hard_rows(model, X, nan=True)
    label, *shares = written(model, rows, "predict", *(f"predict_proba:{i}" for i in range(3)))
    assert (label == model.predict(rows)).all()
    for ours, theirs in zip(shares, model.predict_proba(rows), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize("target", [SCORE, np.column_stack([SCORE, SCORE**2])])
@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeRegressor(random_state=0),
        ExtraTreeRegressor(max_depth=5, random_state=0),
        RandomForestRegressor(10, random_state=0),
        ExtraTreesRegressor(10, random_state=0),
        BaggingRegressor(n_estimators=6, max_features=0.6, random_state=0),
    ],
    ids=str,
)
def test_a_regressor_gives_the_mean_of_its_trees(
    written: Written, model: Any, target: Array
) -> None:
    model.fit(WITH_NAN, target)
    rows = hard_rows(model, X, nan=True)
    (value,) = written(model, rows, "predict")
    assert value.shape == model.predict(rows).shape
    assert (value == model.predict(rows)).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"contamination": 0.1},
        {"contamination": 0.2, "max_features": 0.5},
        {"max_samples": 50, "bootstrap": True},
    ],
)
def test_an_isolation_forest_finds_the_same_outliers(
    written: Written, options: dict[str, Any]
) -> None:
    model = IsolationForest(n_estimators=20, random_state=0, **options).fit(X)
    rows = hard_rows(model, X, nan=True, infinite=True)
    label, scores, decision = written(model, rows, "predict", "score_samples", "decision_function")
    assert (label == model.predict(rows)).all()
    assert scores == pytest.approx(model.score_samples(rows), rel=1e-14)
    assert decision == pytest.approx(model.decision_function(rows), abs=1e-14)


def test_an_isolation_forest_of_single_rows_has_one_score(written: Written) -> None:
    model = IsolationForest(n_estimators=3, max_samples=1, random_state=0).fit(X)
    label, scores = written(model, X, "predict", "score_samples")
    assert (label == model.predict(X)).all()
    assert (scores == model.score_samples(X)).all()


def test_an_embedding_marks_the_leaf_of_each_tree(written: Written) -> None:
    model = RandomTreesEmbedding(6, random_state=0).fit(X)
    rows = hard_rows(model, X)
    (marks,) = written(model, rows, "transform")
    assert (marks == model.transform(rows).toarray()).all()


@pytest.mark.parametrize("labels", ["two", "texts"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_features": 0.6},
        {"bootstrap_features": True, "max_samples": 8},  # Some members miss a class.
        {"estimator": RandomForestClassifier(4, max_depth=3)},
    ],
    ids=str,
)
def test_bagged_trees_are_one_ensemble(
    written: Written, options: dict[str, Any], labels: str
) -> None:
    model = BaggingClassifier(n_estimators=6, random_state=0, **options).fit(X, LABELS[labels])
    rows = hard_rows(model, X) if "estimator" not in options else X
    label, shares = written(model, rows, "predict", "predict_proba")
    assert (label == model.predict(rows)).all()
    assert is_equal(shares, model.predict_proba(rows))


@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearSVC()], ids=str)
def test_bagged_estimators_of_any_kind_are_averaged_or_vote(
    written: Written, estimator: Any
) -> None:
    model = BaggingClassifier(estimator, 5, max_features=0.6, random_state=0)
    model.fit(X, LABELS["texts"])
    label, shares, decision = written(model, X, "predict", "predict_proba", "decision_function")
    assert (label == model.predict(X)).all()
    assert shares == pytest.approx(model.predict_proba(X), rel=1e-12)
    assert decision == pytest.approx(model.decision_function(X), rel=1e-12, abs=1e-14)


def test_bagged_regressors_of_any_kind_are_averaged(written: Written) -> None:
    model = BaggingRegressor(LinearRegression(), 5, max_features=0.6, random_state=0)
    model.fit(X, SCORE)
    (value,) = written(model, X, "predict")
    assert value == pytest.approx(model.predict(X), rel=1e-12, abs=1e-14)
