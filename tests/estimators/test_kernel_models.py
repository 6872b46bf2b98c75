"""Kernel ridge and label propagation answer as scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.semi_supervised import LabelPropagation, LabelSpreading

from tests.estimators.agreement import classes, differences, hard, values
from tests.estimators.conftest import Written
from toolkit.errors import UnsupportedModelError


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "laplacian", "cosine"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_kernel_ridge(written: Written, kernel: Any, outputs: Any) -> None:
    x, y = values(outputs)
    assert differences(written, KernelRidge(kernel=kernel).fit(x, y), hard(x)) == []


def test_kernel_ridge_of_counts(written: Written) -> None:
    x, y = values()
    model = KernelRidge(kernel="chi2", gamma=0.1).fit(np.abs(x), y)
    assert differences(written, model, np.abs(hard(x))) == []


def test_a_kernel_of_the_users_own_is_refused(written: Written) -> None:
    x, y = values()
    model = KernelRidge(kernel=lambda a, b: float(a @ b)).fit(x, y)
    with pytest.raises(UnsupportedModelError, match="KernelRidge: the kernel"):
        written(model, x, "predict")


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("kind", [LabelPropagation, LabelSpreading])
@pytest.mark.parametrize("settings", [{}, {"gamma": 0.1}, {"kernel": "knn"}], ids=str)
def test_labels_that_spread_and_nan_far_from_all(
    written: Written, kind: Any, settings: Any
) -> None:
    x, y = classes()
    y[::3] = -1
    model = kind(max_iter=2000, **settings).fit(x, y)
    assert differences(written, model, hard(x)) == []
