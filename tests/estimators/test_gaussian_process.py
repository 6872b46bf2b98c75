"""Gaussian processes answer as scikit-learn's, with kernels made of kernels."""

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    PairwiseKernel,
    RationalQuadratic,
    WhiteKernel,
)

from tests.estimators.agreement import LETTERS, classes, differences, hard, values
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError

KERNELS = [
    None,
    RBF(np.arange(1.0, 9.0)),
    Matern(nu=0.5),
    Matern(nu=1.5),
    Matern(nu=2.5),
    Matern(nu=np.inf),
    RationalQuadratic(alpha=0.7),
    ExpSineSquared(2.0, 5.0) * RBF(),
    DotProduct(),
    ConstantKernel(2.0) * RBF() + WhiteKernel(0.5),
    RBF(3.0) ** 2,
    PairwiseKernel(metric="laplacian"),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regressor(written: Written, kernel: Any, outputs: Any) -> None:
    x, y = values(outputs, rows=80)
    settings = {"alpha": 2.0, "optimizer": None, "normalize_y": True}
    model = GaussianProcessRegressor(kernel, **settings).fit(x, y)
    assert differences(written, model, hard(x)) == []


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_two_classes(written: Written, kernel: Any) -> None:
    x, y = classes(2, rows=80)
    model = GaussianProcessClassifier(kernel, optimizer=None).fit(x, y)
    assert differences(written, model, hard(x)) == []


def test_classes_against_the_rest(written: Written) -> None:
    x, y = classes(3, rows=80)
    model = GaussianProcessClassifier(optimizer=None).fit(x, LETTERS[y])
    assert differences(written, model, hard(x)) == []


def test_classes_against_each_other(written: Written) -> None:
    x, y = classes(3, rows=80)
    settings = {"optimizer": None, "multi_class": "one_vs_one"}
    model = GaussianProcessClassifier(**settings).fit(x, LETTERS[y])
    (labels,) = written(model, hard(x), "predict")
    assert labels.tolist() == model.predict(hard(x)).tolist()


def test_a_bessel_function_is_refused(written: Written) -> None:
    x, y = values(rows=80)
    model = GaussianProcessRegressor(Matern(nu=3.3), optimizer=None).fit(x, y)
    with pytest.raises(UnsupportedModelError, match=r"GaussianProcessRegressor: .*nu=3\.3"):
        written(model, x, "predict")


def test_a_kernel_of_the_users_own_is_refused(written: Written) -> None:
    class Own(RBF):  # type: ignore[misc]
        pass

    x, y = values(rows=80)
    model = GaussianProcessRegressor(Own(), optimizer=None).fit(x, y)
    with pytest.raises(UnsupportedModelError, match="its kernel Own"):
        written(model, x, "predict")
