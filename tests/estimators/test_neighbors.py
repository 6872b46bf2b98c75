"""Neighbours vote as scikit-learn's; what a search's order decides is refused."""

import copy
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import scipy.sparse
from sklearn import neighbors as nn
from sklearn.datasets import load_iris

from tests.estimators.agreement import LETTERS, classes, differences, hard, values
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

METRICS = [
    {},
    {"metric": "manhattan"},
    {"metric": "chebyshev"},
    {"p": 3},
    {"metric": "minkowski", "p": 1.5, "metric_params": {"w": np.arange(1.0, 9.0)}},
]


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_classifier_with_a_tree(written: Written, weights: Any, metric: Any) -> None:
    x, y = classes()
    # scikit-learn writes p into the given metric_params.
    model = nn.KNeighborsClassifier(weights=weights, **copy.deepcopy(metric)).fit(x, LETTERS[y])
    assert differences(written, model, hard(x)) == []


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_classifier_by_brute_force(written: Written, weights: Any, metric: Any) -> None:
    x, y = classes()
    model = nn.KNeighborsClassifier(weights=weights, metric=metric, algorithm="brute").fit(x, y)
    # The library's product form leaves a distance of 1e-7 where it is zero.
    assert differences(written, model, hard(x), 1e-6) == []


def test_a_classifier_of_sparse_rows(written: Written) -> None:
    x, y = classes()
    x = np.where(x > 0, x, 0.0)
    model = nn.KNeighborsClassifier(metric="cosine").fit(scipy.sparse.csr_matrix(x), y)
    assert differences(written, model, hard(x)) == []


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_several_targets(written: Written, weights: Any, outputs: Any) -> None:
    x, y = values(outputs)
    assert differences(written, nn.KNeighborsRegressor(weights=weights).fit(x, y), hard(x)) == []
    labels = (y.reshape(len(y), -1) > 0).astype(int)
    labels = labels if outputs > 1 else labels[:, 0]
    model = nn.KNeighborsClassifier(weights=weights).fit(x, labels)
    assert differences(written, model, hard(x)) == []


@pytest.mark.parametrize("k", [1, 150, 200])
def test_few_and_many_neighbours(written: Written, k: Any) -> None:
    x, y = classes()
    assert differences(written, nn.KNeighborsClassifier(k).fit(x, y), hard(x)) == []


def test_ties_between_neighbours_of_different_classes_are_refused(written: Written) -> None:
    x, y = load_iris(return_X_y=True)
    with pytest.raises(UnsupportedModelError, match=r"KNeighborsClassifier: .* hold ties"):
        written(nn.KNeighborsClassifier().fit(x, y), x, "predict")


def test_ties_between_neighbours_of_one_class_do_no_harm(written: Written) -> None:
    x, y = classes()
    model = nn.KNeighborsClassifier().fit(np.vstack([x, x]), np.concatenate([y, y]))
    assert differences(written, model, hard(x)) == []


def test_a_metric_of_the_users_own_is_refused(written: Written) -> None:
    x, y = classes()
    with pytest.raises(UnsupportedModelError, match="metric"):
        written(
            nn.KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum()).fit(x, y), x, "predict"
        )


@pytest.mark.filterwarnings("ignore:Outlier label")
@pytest.mark.parametrize("algorithm", ["auto", "brute"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("label", [1, 7, "most_frequent"])
def test_all_neighbours_within_a_radius(
    written: Written, label: Any, weights: Any, algorithm: Any
) -> None:
    x, y = classes()
    settings = {"radius": 2.0, "weights": weights, "algorithm": algorithm}
    model = nn.RadiusNeighborsClassifier(outlier_label=label, **settings).fit(x, y)
    assert differences(written, model, hard(x), 1e-6) == []


@pytest.mark.filterwarnings("ignore:One or more samples have no neighbors")
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_the_mean_within_a_radius_and_nan_where_there_is_none(
    written: Written, weights: Any
) -> None:
    x, y = values()
    model = nn.RadiusNeighborsRegressor(2.0, weights=weights).fit(x, y)
    assert differences(written, model, hard(x)) == []


def test_a_request_with_a_row_without_neighbours_fails_as_in_the_library(written: Written) -> None:
    x, y = classes()
    model = nn.RadiusNeighborsClassifier(2.0).fit(x, y)
    assert differences(written, model, x) == []
    with pytest.raises(ValueError, match="No neighbors found"):
        model.predict(hard(x))
    for method in ("predict", "predict_proba"):
        with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
            written(model, hard(x), method)


@pytest.mark.parametrize("algorithm", ["auto", "brute"])
def test_local_outlier_factor(written: Written, algorithm: Any) -> None:
    x, _ = classes()
    model = nn.LocalOutlierFactor(novelty=True, algorithm=algorithm).fit(x)
    assert differences(written, model, hard(x)) == []


@pytest.mark.filterwarnings("ignore:Averaging for metrics other than")
@pytest.mark.parametrize(
    "settings",
    [{}, {"metric": "manhattan"}, {"shrink_threshold": 0.5}, {"priors": "empirical"}],
    ids=str,
)
@pytest.mark.parametrize("count", [2, 3])
def test_nearest_centroid(written: Written, settings: Any, count: Any) -> None:
    x, y = classes(count)
    model = nn.NearestCentroid(**settings).fit(x, y)
    assert differences(written, model, hard(x)) == []


def test_a_tree_of_a_metric_that_is_none_is_refused(written: Written) -> None:
    x, y = classes()
    model = nn.RadiusNeighborsClassifier(3.0, metric="braycurtis").fit(x, y)
    with pytest.raises(UnsupportedModelError, match=r"RadiusNeighborsClassifier: .*braycurtis"):
        written(model, x, "predict")
