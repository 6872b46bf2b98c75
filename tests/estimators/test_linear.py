"""Linear models answer as scikit-learn's, with every link, loss and shape of target."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn import linear_model as lm
from sklearn.svm import LinearSVC, LinearSVR

from tests.estimators.agreement import LETTERS, classes, differences, hard, values
from tests.estimators.conftest import Written

CLASSIFIERS = [
    lm.LogisticRegression(),
    lm.LogisticRegressionCV(
        Cs=2, cv=2, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy"
    ),
    lm.SGDClassifier(random_state=0),
    lm.SGDClassifier(loss="log_loss", random_state=0),
    lm.SGDClassifier(loss="modified_huber", random_state=0),
    lm.Perceptron(random_state=0),
    lm.RidgeClassifier(),
    lm.RidgeClassifierCV(),
    LinearSVC(random_state=0),
]
REGRESSORS = [
    lm.ARDRegression(),
    lm.BayesianRidge(),
    lm.ElasticNet(),
    lm.HuberRegressor(max_iter=1000),
    lm.Lars(),
    lm.LassoLarsIC(),
    lm.LinearRegression(),
    lm.OrthogonalMatchingPursuit(),
    lm.QuantileRegressor(),
    lm.RANSACRegressor(random_state=0),
    lm.RidgeCV(),
    lm.SGDRegressor(random_state=0),
    lm.TheilSenRegressor(random_state=0, max_subpopulation=100),
    LinearSVR(random_state=0),
]
MANY_TARGETS = [
    lm.MultiTaskElasticNet(),
    lm.Ridge(),
    lm.Lasso(),
    lm.RANSACRegressor(random_state=0),
]
LINKS = [
    lm.PoissonRegressor(),
    lm.GammaRegressor(),
    lm.TweedieRegressor(power=1.5),
    lm.TweedieRegressor(power=0),
]


@pytest.mark.parametrize("model", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_a_classifier(written: Written, model: Any, count: Any) -> None:
    x, y = classes(count)
    assert differences(written, model.fit(x, LETTERS[y]), hard(x)) == []


@pytest.mark.parametrize("model", REGRESSORS, ids=str)
def test_a_regressor(written: Written, model: Any) -> None:
    x, y = values()
    assert differences(written, model.fit(x, y), hard(x)) == []


@pytest.mark.parametrize("model", MANY_TARGETS, ids=str)
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_target_of_columns(written: Written, model: Any, outputs: Any) -> None:
    x, y = values(outputs)
    assert differences(written, model.fit(x, y.reshape(len(y), -1)), hard(x)) == []


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("model", LINKS, ids=str)
def test_a_link_and_its_overflow(written: Written, model: Any) -> None:
    x, y = values()
    assert differences(written, model.fit(x, np.exp(y / y.std())), hard(x)) == []


def test_labels_that_go_together(written: Written) -> None:
    x, y = values(3)
    model = lm.RidgeClassifier().fit(x, (y > 0).astype(int))
    assert differences(written, model, hard(x)) == []


def test_coefficients_that_were_made_sparse(written: Written) -> None:
    x, y = classes()
    model = lm.LogisticRegression().fit(x, y).sparsify()
    assert scipy.sparse.issparse(model.coef_)
    assert differences(written, model, hard(x)) == []


def test_scores_so_low_that_a_sigmoid_of_onnx_runtime_is_zero(written: Written) -> None:
    x, y = classes()
    model = lm.SGDClassifier(loss="log_loss", random_state=0).fit(x, y)
    model.intercept_ -= 60.0
    assert differences(written, model, x) == []
