"""Bins, splines and products of columns answer as the originals."""

import numpy as np
import pytest
from sklearn.preprocessing import KBinsDiscretizer, PolynomialFeatures, SplineTransformer

from tests.estimators.transforms import Written, hard_rows, same, table
from toolkit.errors import UnsupportedModelError

ROWS = table()
HARD = hard_rows(ROWS)


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
def test_a_cell_on_an_edge_falls_into_the_upper_bin(
    encode: str, strategy: str, written: Written
) -> None:
    model = KBinsDiscretizer(
        n_bins=[5, 3, 2, 4, 60],
        encode=encode,
        strategy=strategy,
        quantile_method="averaged_inverted_cdf",
    ).fit(ROWS)
    edges = np.array([np.resize(each, 70) for each in model.bin_edges_]).T
    rows = np.vstack([HARD, hard_rows(edges)])
    same(written, model, ROWS, rows, rtol=0.0)


def test_bins_of_float32_are_found_in_float32(written: Written) -> None:
    model = KBinsDiscretizer(
        encode="ordinal", dtype=np.float32, quantile_method="averaged_inverted_cdf"
    )
    same(written, model, ROWS, HARD, rtol=0.0)


@pytest.mark.parametrize(
    "model",
    [
        PolynomialFeatures(),
        PolynomialFeatures(3, include_bias=False),
        PolynomialFeatures((2, 3)),
        PolynomialFeatures((3, 3), interaction_only=True),
        PolynomialFeatures(7, interaction_only=True),
        PolynomialFeatures(0),
    ],
    ids=str,
)
def test_products_are_equal_to_the_last_bit(model: PolynomialFeatures, written: Written) -> None:
    same(written, model, ROWS, HARD, rtol=0.0)


@pytest.mark.parametrize("extrapolation", ["constant", "linear", "continue", "periodic"])
@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("knots", ["uniform", "quantile"])
def test_splines_inside_and_outside_the_knots(
    extrapolation: str, degree: int, knots: str, written: Written
) -> None:
    if (extrapolation, degree) == ("constant", 0):
        degree = 2  # scikit-learn 1.9 itself fails beyond the knots with degree 0.
    model = SplineTransformer(
        degree=degree,
        extrapolation=extrapolation,
        knots=knots,
        include_bias=degree != 1,
        handle_missing="zeros",
    )
    same(written, model, ROWS, hard_rows(ROWS, missing=True), rtol=0.0)


def test_splines_that_raise_outside_give_nan_there(written: Written) -> None:
    model = SplineTransformer(extrapolation="error").fit(ROWS)
    (given,) = written(model, np.vstack([ROWS, ROWS.max(axis=0) + 1.0]), "transform")
    np.testing.assert_array_equal(given[:-1], model.transform(ROWS))
    assert np.isnan(given[-1]).all()


def test_sparse_splines_of_nan_are_refused_because_rows_mix(written: Written) -> None:
    model = SplineTransformer(
        extrapolation="continue", sparse_output=True, handle_missing="zeros"
    ).fit(ROWS)
    with pytest.raises(UnsupportedModelError, match=r"SplineTransformer: .* other rows"):
        written(model, ROWS, "transform")
