"""Graphs of neighbours and embeddings of manifolds answer as the originals."""

from typing import Any

import numpy as np
import pytest
from sklearn.manifold import Isomap, LocallyLinearEmbedding
from sklearn.neighbors import KNeighborsTransformer, RadiusNeighborsTransformer

from tests.estimators.transforms import Written, same
from toolkit.errors import UnsupportedModelError

ROWS = np.random.default_rng(0).normal(size=(90, 4))
HARD = np.vstack([ROWS + 0.01, ROWS * 1e2, ROWS * 1e6, ROWS * 1e-9])


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsTransformer(),
        KNeighborsTransformer(mode="connectivity"),
        KNeighborsTransformer(metric="manhattan"),
        KNeighborsTransformer(algorithm="brute"),
        RadiusNeighborsTransformer(radius=2.0),
        RadiusNeighborsTransformer(radius=2.0, mode="connectivity"),
        Isomap(),
        Isomap(n_neighbors=8, n_components=3),
        LocallyLinearEmbedding(random_state=0),
        LocallyLinearEmbedding(n_neighbors=8, n_components=3, random_state=0),
    ],
    ids=str,
)
def test_a_row_is_placed_among_its_neighbours(model: Any, written: Written) -> None:
    same(written, model, ROWS, HARD, rtol=1e-9)


def test_neighbours_that_tie_are_refused(written: Written) -> None:
    model = Isomap().fit(np.round(ROWS))
    with pytest.raises(UnsupportedModelError, match="ties"):
        written(model, ROWS, "transform")


def test_isomap_within_a_radius_is_refused(written: Written) -> None:
    model = Isomap(n_neighbors=None, radius=9.0).fit(ROWS)
    with pytest.raises(UnsupportedModelError, match=r"Isomap: .* radius"):
        written(model, ROWS, "transform")
