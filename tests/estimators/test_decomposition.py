"""Decompositions, kernels, projections and sparse codes answer as the originals."""

from typing import Any

import numpy as np
import pytest
from sklearn import decomposition as dc
from sklearn import kernel_approximation as ka
from sklearn.cluster import FeatureAgglomeration
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.neural_network import BernoulliRBM
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from tests.estimators.transforms import Written, same
from toolkit.errors import UnsupportedModelError

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(90, 6))
LABELS = (ROWS[:, 0] > 0.0).astype(int)
HARD = np.vstack([ROWS, ROWS * 1e2, ROWS * 1e6, ROWS * 1e-9, ROWS[:2] * 0.0])
COUNTS = np.round(np.abs(ROWS) * 3)
ATOMS = ROWS[:9] / np.linalg.norm(ROWS[:9], axis=1, keepdims=True)

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:Orthogonal matching pursuit ended"
)


@pytest.mark.parametrize(
    "model",
    [
        dc.PCA(3),
        dc.PCA(whiten=True),
        dc.IncrementalPCA(3, whiten=True),
        dc.TruncatedSVD(3),
        dc.FastICA(3, random_state=0, max_iter=50),
        dc.FastICA(whiten=False, random_state=0, max_iter=50),
        dc.FactorAnalysis(3),
        dc.SparsePCA(3, max_iter=5),
        dc.SparsePCA(9, max_iter=5),
        dc.MiniBatchSparsePCA(3, max_iter=5),
        BernoulliRBM(5, n_iter=2),
        NeighborhoodComponentsAnalysis(3, max_iter=5),
        GaussianRandomProjection(3, random_state=0),
        SparseRandomProjection(3, random_state=0),
        ka.RBFSampler(random_state=0),
        ka.PolynomialCountSketch(random_state=0),
        ka.PolynomialCountSketch(degree=3, gamma=0.3, coef0=1, n_components=51, random_state=0),
        FeatureAgglomeration(3),
        FeatureAgglomeration(3, pooling_func=np.sum),
        FeatureAgglomeration(3, pooling_func=np.max),
        FeatureAgglomeration(3, pooling_func=np.min),
    ],
    ids=str,
)
def test_a_row_is_turned_into_the_same_components(model: Any, written: Written) -> None:
    same(written, model, ROWS, HARD, rtol=1e-11, y=LABELS)


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid", "cosine"])
def test_components_of_a_kernel(kernel: str, written: Written) -> None:
    same(written, dc.KernelPCA(3, kernel=kernel), ROWS, HARD, rtol=1e-8)
    model = ka.Nystroem(kernel, n_components=4, random_state=0)
    same(written, model, ROWS, HARD, rtol=1e-8)


@pytest.mark.parametrize("kernel", ["laplacian", "chi2", "additive_chi2"])
def test_components_of_a_kernel_that_is_added_up(kernel: str, written: Written) -> None:
    model = ka.Nystroem(kernel, n_components=4, random_state=0)
    same(written, model, np.abs(ROWS), np.abs(HARD), rtol=1e-11)


def test_a_kernel_of_the_users_is_refused(written: Written) -> None:
    model = ka.Nystroem(lambda a, b: float(a @ b), n_components=4).fit(ROWS)
    with pytest.raises(UnsupportedModelError, match=r"Nystroem: .* user's"):
        written(model, ROWS, "transform")


@pytest.mark.parametrize(
    "model",
    [
        ka.SkewedChi2Sampler(random_state=0),
        ka.AdditiveChi2Sampler(sample_steps=1),
        ka.AdditiveChi2Sampler(sample_steps=3),
        ka.AdditiveChi2Sampler(sample_steps=2, sample_interval=0.7),
    ],
    ids=str,
)
def test_maps_of_counts(model: Any, written: Written) -> None:
    same(written, model, np.abs(ROWS), np.abs(HARD), rtol=1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform_n_nonzero_coefs": 4},
        {"transform_n_nonzero_coefs": 7, "split_sign": True},
        {"transform_algorithm": "threshold", "transform_alpha": 0.3},
        {"transform_algorithm": "threshold", "positive_code": True, "split_sign": True},
    ],
    ids=str,
)
def test_sparse_codes(options: dict[str, Any], written: Written) -> None:
    same(written, dc.SparseCoder(ATOMS, **options), ROWS, HARD, rtol=1e-10)


@pytest.mark.parametrize("cls", [dc.DictionaryLearning, dc.MiniBatchDictionaryLearning])
def test_sparse_codes_in_a_learned_dictionary(cls: Any, written: Written) -> None:
    same(written, cls(4, max_iter=3, random_state=0), ROWS, HARD, rtol=1e-11)


@pytest.mark.parametrize("iterations", [1, 100])
def test_topics_of_documents_converge_each_by_itself(iterations: int, written: Written) -> None:
    model = dc.LatentDirichletAllocation(
        3, max_iter=2, max_doc_update_iter=iterations, random_state=0
    )
    rows = np.vstack([COUNTS, COUNTS * 100, COUNTS * 1e6, COUNTS[:2] * 0.0])
    same(written, model, COUNTS, rows, rtol=1e-11)


@pytest.mark.parametrize("cls", [dc.NMF, dc.MiniBatchNMF])
def test_a_batch_that_is_solved_as_a_whole_is_refused(cls: Any, written: Written) -> None:
    model = cls(2, max_iter=5, random_state=0).fit(np.abs(ROWS))
    with pytest.raises(UnsupportedModelError, match=r"NMF: .* other rows"):
        written(model, ROWS, "transform")


def test_a_sparse_projection_adds_in_the_order_of_the_original(written: Written) -> None:
    x = RANDOM.normal(size=(200, 81)) * 1e3
    model = SparseRandomProjection(20, random_state=0).fit(x)
    assert np.array_equal(written(model, x, "transform")[0], model.transform(x))
