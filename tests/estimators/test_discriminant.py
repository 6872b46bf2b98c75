"""Discriminant analyses, networks, least squares and baselines answer as scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from tests.estimators.agreement import LETTERS, classes, differences, hard, values
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

DISCRIMINANTS = [
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="eigen", n_components=1),
    QuadraticDiscriminantAnalysis(),
    QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
]


@pytest.mark.parametrize("model", DISCRIMINANTS, ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_a_discriminant_analysis(written: Written, model: Any, count: Any) -> None:
    x, y = classes(count)
    assert differences(written, model.fit(x, LETTERS[y]), hard(x)) == []


@pytest.mark.parametrize("count", [2, 3])
def test_one_that_does_not_transform(written: Written, count: Any) -> None:
    x, y = classes(count)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y)
    rows = hard(x)
    labels, shares = written(model, rows, "predict", "predict_proba")
    assert labels.tolist() == model.predict(rows).tolist()
    np.testing.assert_allclose(shares, model.predict_proba(rows), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("target", ["two", "three", "many", "value", "values", "count"])
def test_a_network(written: Written, activation: Any, target: Any) -> None:
    x, y = values(2)
    settings = {"activation": activation, "max_iter": 20, "random_state": 0}
    layers = {"hidden_layer_sizes": (7, 5)}
    labels = {"two": y[:, 0] > 0, "three": np.digitize(y[:, 0], [-3, 3]), "many": y > 0}
    if target in labels:
        model = MLPClassifier(**layers, **settings).fit(x, labels[target].astype(int))
    elif target == "count":
        model = MLPRegressor(loss="poisson", **layers, **settings).fit(x, np.abs(y[:, 0]))
    else:
        model = MLPRegressor(**layers, **settings).fit(x, y if target == "values" else y[:, 0])
    rows = x if target == "count" else hard(x)
    assert differences(written, model, rows) == []


@pytest.mark.parametrize("kind", [PLSRegression, PLSCanonical, CCA])
def test_partial_least_squares(written: Written, kind: Any) -> None:
    x, y = values(2)
    assert differences(written, kind(max_iter=5000).fit(x, y), hard(x)) == []


def test_partial_least_squares_of_one_target(written: Written) -> None:
    x, y = values()
    assert differences(written, PLSRegression().fit(x, y), hard(x)) == []


def test_partial_least_squares_that_only_transform(written: Written) -> None:
    x, y = values(2)
    assert differences(written, PLSSVD().fit(x, y), hard(x)) == []


@pytest.mark.parametrize(
    "settings", [{}, {"strategy": "most_frequent"}, {"strategy": "constant", "constant": "c"}]
)
def test_a_constant_class(written: Written, settings: Any) -> None:
    x, y = classes()
    model = DummyClassifier(**settings).fit(x, LETTERS[y])
    assert differences(written, model, hard(x)) == []


def test_constants_of_several_targets(written: Written) -> None:
    x, y = values(2)
    assert differences(written, DummyRegressor(strategy="median").fit(x, y), hard(x)) == []
    labels = (y > 0).astype(int)
    assert differences(written, DummyClassifier().fit(x, labels), hard(x)) == []


@pytest.mark.parametrize("strategy", ["stratified", "uniform"])
def test_random_answers_are_refused(written: Written, strategy: Any) -> None:
    x, y = classes()
    with pytest.raises(UnsupportedModelError, match=f"'{strategy}' draws at random"):
        written(DummyClassifier(strategy=strategy).fit(x, y), x, "predict")
