"""Clusterings, mixtures and detectors of outliers answer as scikit-learn's."""

from typing import Any

import pytest
from sklearn import cluster
from sklearn.covariance import EllipticEnvelope
from sklearn.linear_model import SGDOneClassSVM
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from tests.estimators.agreement import classes, differences, hard
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

CLUSTERINGS = [
    cluster.KMeans(3, random_state=0),
    cluster.MiniBatchKMeans(4, random_state=0),
    cluster.BisectingKMeans(5, random_state=0),
    cluster.MeanShift(),
    cluster.AffinityPropagation(random_state=0),
    cluster.Birch(),
    cluster.Birch(n_clusters=None, threshold=2.0),
]


@pytest.mark.parametrize("model", CLUSTERINGS, ids=str)
def test_a_clustering(written: Written, model: Any) -> None:
    x, _ = classes()
    assert differences(written, model.fit(x), hard(x)) == []


def test_precomputed_affinities_are_refused(written: Written) -> None:
    x, _ = classes()
    model = cluster.AffinityPropagation(affinity="precomputed", random_state=0).fit(x @ x.T)
    with pytest.raises(UnsupportedModelError, match=r"AffinityPropagation: .*precomputed"):
        written(model, x, "predict")


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture])
def test_a_mixture(written: Written, kind: Any, shape: Any) -> None:
    x, _ = classes()
    model = kind(n_components=3, covariance_type=shape, max_iter=500, random_state=0).fit(x)
    assert differences(written, model, hard(x)) == []


def test_a_mixture_of_finite_weights(written: Written) -> None:
    x, _ = classes()
    settings = {"weight_concentration_prior_type": "dirichlet_distribution", "max_iter": 500}
    model = BayesianGaussianMixture(n_components=3, random_state=0, **settings).fit(x)
    assert differences(written, model, hard(x)) == []


@pytest.mark.parametrize(
    "model", [EllipticEnvelope(random_state=0), SGDOneClassSVM(random_state=0)], ids=str
)
def test_a_detector_of_outliers(written: Written, model: Any) -> None:
    x, _ = classes()
    assert differences(written, model.fit(x), hard(x)) == []
