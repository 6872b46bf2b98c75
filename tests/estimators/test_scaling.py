"""Scalers, power and quantile transformers answer as the originals, on hard rows too."""

import numpy as np
import pytest
from sklearn import preprocessing as pp

from tests.estimators.transforms import Written, hard_rows, same, table

ROWS = table()
HARD = hard_rows(ROWS, missing=True)
POSITIVE = np.abs(ROWS) + 1e-3


@pytest.mark.parametrize(
    "model",
    [
        pp.StandardScaler(),
        pp.StandardScaler(with_mean=False),
        pp.StandardScaler(with_std=False),
        pp.MinMaxScaler(),
        pp.MinMaxScaler(feature_range=(-1, 2), clip=True),
        pp.MaxAbsScaler(),
        pp.MaxAbsScaler(clip=True),
        pp.RobustScaler(),
        pp.RobustScaler(with_centering=False, unit_variance=True),
        pp.RobustScaler(with_scaling=False),
        pp.QuantileTransformer(n_quantiles=300),
        pp.QuantileTransformer(n_quantiles=3),
    ],
    ids=str,
)
def test_a_scaled_cell_is_equal_to_the_last_bit(model: object, written: Written) -> None:
    same(written, model, ROWS, HARD, rtol=0.0)


@pytest.mark.parametrize(
    "model",
    [
        pp.PowerTransformer(),
        pp.PowerTransformer(standardize=False),
        pp.QuantileTransformer(n_quantiles=300, output_distribution="normal"),
    ],
    ids=str,
)
def test_a_bent_cell_is_the_originals(model: object, written: Written) -> None:
    same(written, model, ROWS, HARD, rtol=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_a_row_is_divided_by_its_norm_and_a_zero_row_stays(norm: str, written: Written) -> None:
    rows = np.vstack([np.nan_to_num(HARD), np.zeros((2, ROWS.shape[1])), ROWS * 1e-18])
    same(written, pp.Normalizer(norm), ROWS, rows, rtol=1e-15)


def test_a_binarizer_puts_its_threshold_below(written: Written) -> None:
    rows = np.array([[0.5, np.nextafter(0.5, 1.0), np.nextafter(0.5, 0.0)]])
    same(written, pp.Binarizer(threshold=0.5), rows, rows, rtol=0.0)


def test_box_cox_of_positive_rows(written: Written) -> None:
    rows = np.vstack([POSITIVE, POSITIVE * 1e6, POSITIVE * 1e-6])
    same(written, pp.PowerTransformer("box-cox"), POSITIVE, rows, rtol=1e-12)


@pytest.mark.parametrize(("method", "power"), [("box-cox", 0.0), ("yeo-johnson", 0.0)])
def test_a_power_of_zero_is_the_logarithm(method: str, power: float, written: Written) -> None:
    model = pp.PowerTransformer(method, standardize=False).fit(POSITIVE)
    model.lambdas_[:2] = power, 2.0
    (given,) = written(model, POSITIVE, "transform")
    np.testing.assert_allclose(given, model.transform(POSITIVE), rtol=1e-13, atol=1e-13)


def test_a_quantile_that_repeats_gives_the_middle(written: Written) -> None:
    rows = np.repeat(np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [2.0]]), 5, axis=0)
    asked = np.array([[0.0], [0.5], [1.0], [1.5], [2.0], [-3.0], [9.0], [np.nan]])
    same(written, pp.QuantileTransformer(n_quantiles=30), rows, asked, rtol=0.0)


def test_a_kernel_is_centred_row_by_row(written: Written) -> None:
    kernel = ROWS @ ROWS.T
    same(written, pp.KernelCenterer(), kernel, kernel[:9] * 1e3, rtol=1e-12)
