"""Ties that the original breaks by the batch do not keep it from the Python road."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from tests.converters.conftest import Convert


def test_a_search_with_ties_is_served_by_itself(convert_model: Convert) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (200, 4)).astype(float)
    model = make_pipeline(PCA(2), KNeighborsClassifier(algorithm="brute"))
    model.fit(x, rng.integers(0, 3, len(x)))
    artifact = convert_model(model, x, generated_rows=300)
    assert artifact.rung == "original"
    assert "search's own order decides" in artifact.refused[0]
    assert sum(artifact.parity.kinds.values()) == artifact.parity.rows
    assert artifact.parity.rows > len(x)
    assert (artifact.parity.passed, artifact.parity.worst_absolute) == (True, 0.0)


def test_an_imputer_with_ties_is_served_by_itself_and_the_rows_left_out_are_counted(
    convert_model: Convert,
) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 4, (150, 4)).astype(float)
    y = rng.integers(0, 3, len(x))
    x[rng.random(x.shape) < 0.2] = np.nan
    model = make_pipeline(KNNImputer(n_neighbors=2), LogisticRegression()).fit(x, y)
    artifact = convert_model(model, x, generated_rows=300)
    assert artifact.rung == "original"
    assert artifact.parity.passed
    assert sum(artifact.parity.kinds.values()) == artifact.parity.rows
