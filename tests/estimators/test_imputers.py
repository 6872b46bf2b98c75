"""Imputers of numbers answer as the originals."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import BayesianRidge

from tests.estimators.transforms import Array, Written, same
from toolkit.errors import UnsupportedModelError

RANDOM = np.random.default_rng(0)
FULL = RANDOM.normal(size=(200, 5))
HOLES = np.where(RANDOM.random(FULL.shape) < 0.2, np.nan, FULL)
HOLES[:, 4] = FULL[:, 4]
EMPTY = np.column_stack([HOLES[:, :3], np.full(len(HOLES), np.nan), FULL[:, 4]])
ASKED = np.vstack([HOLES, np.where(RANDOM.random(FULL.shape) < 0.5, np.nan, FULL * 1e3)])
ASKED[9] = np.nan


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.filterwarnings("ignore:Skipping features")
def test_a_missing_cell_takes_its_columns_statistic(
    strategy: str, kept: bool, written: Written
) -> None:
    model = SimpleImputer(strategy=strategy, keep_empty_features=kept, add_indicator=True)
    same(written, model, HOLES, ASKED, rtol=0.0)
    same(written, model, EMPTY, ASKED, rtol=0.0)


@pytest.mark.parametrize("model", [SimpleImputer(missing_values=-1), KNNImputer(missing_values=-1)])
def test_another_mark_than_nan_may_stand_for_missing(model: Any, written: Written) -> None:
    same(written, model, _marked(HOLES), _marked(ASKED), rtol=1e-12)


def _marked(rows: Array) -> Array:
    return np.nan_to_num(rows, nan=-1.0)


@pytest.mark.parametrize("features", ["all", "missing-only"])
def test_an_indicator_says_which_cells_are_missing(features: str, written: Written) -> None:
    model = MissingIndicator(features=features, error_on_new=False)
    same(written, model, HOLES, ASKED, rtol=0.0)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("neighbours", [3, 1000])
@pytest.mark.parametrize("fitted_on", [FULL, HOLES, EMPTY], ids=["full", "holes", "empty"])
def test_a_missing_cell_takes_the_mean_of_its_neighbours(
    weights: str, neighbours: int, fitted_on: Array, written: Written
) -> None:
    for kept in (True, False):
        model = KNNImputer(
            n_neighbors=neighbours, weights=weights, keep_empty_features=kept, add_indicator=True
        )
        same(written, model, fitted_on, ASKED, rtol=1e-12)


def test_neighbours_that_tie_are_refused(written: Written) -> None:
    model = KNNImputer(n_neighbors=2).fit(np.round(HOLES))
    with pytest.raises(UnsupportedModelError, match=r"KNNImputer: .* ties"):
        written(model, ASKED, "transform")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imputation_order": "random", "n_nearest_features": 2, "min_value": -1, "max_value": 1},
        {"estimator": RandomForestRegressor(3, max_depth=3, random_state=0)},
        {"keep_empty_features": True, "imputation_order": "descending"},
        {"max_iter": 0},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*Early stopping", "ignore:Skipping features")
def test_regressors_run_in_the_order_in_which_they_were_fitted(
    options: dict[str, Any], written: Written
) -> None:
    model = IterativeImputer(**{"max_iter": 3, "random_state": 0, "add_indicator": True} | options)
    for fitted_on in (HOLES, EMPTY):
        same(written, model, fitted_on, ASKED, rtol=1e-11)
        alone = ASKED[9:10]
        (given,) = written(model, alone, "transform")
        np.testing.assert_allclose(given, model.transform(alone), rtol=1e-11)


@pytest.mark.filterwarnings("ignore:.*Early stopping")
def test_draws_at_random_are_refused(written: Written) -> None:
    model = IterativeImputer(BayesianRidge(), max_iter=1, sample_posterior=True).fit(HOLES)
    with pytest.raises(UnsupportedModelError, match=r"IterativeImputer: .* random"):
        written(model, ASKED, "transform")
