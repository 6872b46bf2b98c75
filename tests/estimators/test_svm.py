"""Support vector machines answer as libsvm's, probabilities and ties included."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import make_classification
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from tests.estimators.agreement import LETTERS, classes, differences, hard, values
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

CLASSIFIERS = [
    *(SVC(kernel=kernel) for kernel in ("rbf", "linear", "poly", "sigmoid")),
    SVC(kernel="poly", degree=2, coef0=1.5, gamma=0.1),
    SVC(decision_function_shape="ovo"),
    SVC(break_ties=True),
    NuSVC(nu=0.2),
]


@pytest.mark.parametrize("model", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_a_classifier(written: Written, model: Any, count: Any) -> None:
    x, y = classes(count)
    assert differences(written, model.fit(x, LETTERS[y]), hard(x)) == []


@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("kind", [SVC, NuSVC])
def test_probabilities(written: Written, kind: Any, count: Any) -> None:
    settings = {"n_informative": 7, "n_redundant": 0, "n_clusters_per_class": 1}
    x, y = make_classification(200, 8, n_classes=count, random_state=0, **settings)
    more = {"nu": 0.2} if kind is NuSVC else {}
    model = kind(probability=True, random_state=0, **more).fit(x, y)
    assert differences(written, model, hard(x)) == []


@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
def test_probabilities_of_a_row_do_not_depend_on_the_others(written: Written) -> None:
    x, y = classes()
    model = SVC(probability=True, random_state=0).fit(x, y)
    (together,) = written(model, x, "predict_proba")
    alone = np.vstack([written(model, row[np.newaxis], "predict_proba")[0] for row in x[:3]])
    np.testing.assert_allclose(alone, together[:3], rtol=1e-12)


def test_a_model_of_sparse_rows(written: Written) -> None:
    x, y = classes()
    model = SVC().fit(scipy.sparse.csr_matrix(x), y)
    assert differences(written, model, hard(x)) == []


@pytest.mark.parametrize("model", [SVR(), SVR(kernel="poly"), NuSVR(kernel="linear")], ids=str)
def test_a_regressor(written: Written, model: Any) -> None:
    x, y = values()
    assert differences(written, model.fit(x, y), hard(x)) == []


@pytest.mark.parametrize("kernel", ["rbf", "linear", "sigmoid"])
def test_one_class(written: Written, kernel: Any) -> None:
    x, _ = classes()
    model = OneClassSVM(kernel=kernel, nu=0.2).fit(x)
    # The linear kernel of a huge row is 1e7 a vector, and all of them add up to about 1.
    assert differences(written, model, hard(x), 1e-6 if kernel == "linear" else 1e-9) == []


def test_data_far_from_zero(written: Written) -> None:
    x, y = classes()
    x = x * 0.01 + 1e4
    model = SVC().fit(x, y)
    assert differences(written, model, x, 1e-6) == []


def test_a_kernel_of_the_users_own_is_refused(written: Written) -> None:
    x, y = classes()
    model = SVC(kernel=lambda a, b: a @ b.T).fit(x, y)
    with pytest.raises(UnsupportedModelError, match="kernel of the user's own"):
        written(model, x, "predict")
