"""Several sums in one number, and shares near enough for an output: labels stay exact."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from converters.estimators.digits import LARGEST_TABLE, SHARE_ERROR
from converters.estimators.registry import final
from tests.estimators.conftest import Written
from tests.estimators.splits import hard_rows

Array = npt.NDArray[Any]


def rows_of(classes: int) -> tuple[Array, Array]:
    x, y = make_classification(
        300, 8, n_informative=6, n_redundant=0, n_classes=classes, flip_y=0.2, random_state=0
    )
    return x, y


@pytest.mark.parametrize(
    ("classes", "trees"),
    [(3, 20), (4, 40), (5, 33), (12, 40)],
    ids=["a table", "digits in float32", "digits in float64", "a target a class"],
)
def test_votes_are_counted_exactly_for_any_number_of_classes(
    written: Written, classes: int, trees: int
) -> None:
    assert ((trees + 1) ** (classes - 1) <= LARGEST_TABLE) == (classes == 3)
    x, y = rows_of(classes)
    model = RandomForestClassifier(trees, random_state=0).fit(x, y)
    rows = hard_rows(model, x, nan=True)
    label, shares = written(model, rows, "predict", "predict_proba")
    assert (label == model.predict(rows)).all()
    assert (shares == model.predict_proba(rows)).all()


@pytest.mark.parametrize("trees", [2, 100, 300])
def test_three_shares_in_one_number_are_near_and_their_labels_exact(
    written: Written, trees: int
) -> None:
    x, y = rows_of(3)
    model = RandomForestClassifier(trees, max_depth=4, random_state=0).fit(x, y)
    rows = hard_rows(model, x, nan=True)
    expected = model.predict_proba(rows)
    label, near, exact = written(model, rows, "predict", final("predict_proba"), "predict_proba")
    assert (label == model.predict(rows)).all()
    assert np.abs(near - expected).max() <= SHARE_ERROR
    assert (exact == expected).all()


def test_a_tie_of_three_is_decided_by_the_sums_in_order(written: Written) -> None:
    x = np.repeat(np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]]), 3, axis=0)
    y = np.tile([0, 1, 2], 4)
    y[0], y[4] = 1, 2
    asked = np.unique(x, axis=0)
    closest = 1.0
    for seed in range(25):
        model = ExtraTreesClassifier(10, max_depth=1, max_features=1, random_state=seed).fit(x, y)
        for row in np.sort(model.predict_proba(asked), axis=1):
            closest = min(closest, *(high - low for low, high in pairwise(row[1:])))
        (label,) = written(model, asked, "predict")
        assert (label == model.predict(asked)).all()
    assert closest < 1e-15
