"""Isotonic regression answers as scikit-learn's, in bounds and out of them."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from sklearn.isotonic import IsotonicRegression

from tests.estimators.conftest import Written

ROWS = np.random.default_rng(0).normal(size=200)
TARGETS = np.round(ROWS * 3 + np.sin(ROWS * 9))
ASKED = np.concatenate([ROWS, np.nextafter(ROWS, np.inf), np.linspace(-9, 9, 100)])


@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("bounds", ["nan", "clip"])
def test_values_out_of_bounds(written: Written, bounds: Any, increasing: Any) -> None:
    model = IsotonicRegression(out_of_bounds=bounds, increasing=increasing).fit(ROWS, TARGETS)
    (answer,) = written(model, ASKED[:, np.newaxis], "predict")
    np.testing.assert_allclose(answer, model.predict(ASKED), rtol=1e-13, atol=1e-13)


def test_a_single_threshold(written: Written) -> None:
    model = IsotonicRegression().fit(np.ones(5), np.arange(5.0))
    (answer,) = written(model, ASKED[:, np.newaxis], "predict")
    assert answer.tolist() == model.predict(ASKED).tolist()


def test_a_request_out_of_bounds_fails_where_it_does_in_the_library(written: Written) -> None:
    model = IsotonicRegression(out_of_bounds="raise").fit(ROWS, TARGETS)
    (answer,) = written(model, ROWS[:, np.newaxis], "predict")
    np.testing.assert_allclose(answer, model.predict(ROWS), rtol=1e-13, atol=1e-13)
    with pytest.raises(ValueError, match="the interpolation range"):
        model.predict(ASKED)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        written(model, ASKED[:, np.newaxis], "predict")
