"""Naive Bayes answers as scikit-learn's."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from sklearn import naive_bayes as nb

from tests.estimators.agreement import LETTERS, classes, differences, hard
from tests.estimators.conftest import Written

pytestmark = pytest.mark.parametrize("count", [2, 3])


@pytest.mark.parametrize(
    "model", [nb.GaussianNB(), nb.BernoulliNB(), nb.BernoulliNB(binarize=0.5)], ids=str
)
def test_of_numbers(written: Written, model: Any, count: Any) -> None:
    x, y = classes(count)
    assert differences(written, model.fit(x, LETTERS[y]), hard(x)) == []


@pytest.mark.parametrize(
    "model", [nb.MultinomialNB(), nb.ComplementNB(), nb.ComplementNB(norm=True)], ids=str
)
def test_of_counts(written: Written, model: Any, count: Any) -> None:
    x, y = classes(count)
    x = np.floor(np.abs(x) * 3)
    assert differences(written, model.fit(x, LETTERS[y]), np.abs(hard(x))) == []


def test_of_flags_that_are_not_binarized(written: Written, count: Any) -> None:
    x, y = classes(count)
    x = (x > 0).astype(np.float64)
    model = nb.BernoulliNB(binarize=None).fit(x, y)
    assert differences(written, model, x) == []


def test_of_categories(written: Written, count: Any) -> None:
    x, y = classes(count)
    codes = np.digitize(x, [-1, 0, 1]).astype(np.float64)
    model = nb.CategoricalNB().fit(codes, y)
    assert differences(written, model, codes + 0.3 * (codes < 2)) == []


@pytest.mark.parametrize("code", [-1.0, 4.0])
def test_a_category_out_of_range_fails_as_it_does_in_the_library(
    written: Written, count: Any, code: Any
) -> None:
    x, y = classes(count)
    codes = np.digitize(x, [-1, 0, 1]).astype(np.float64)
    model = nb.CategoricalNB().fit(codes, y)
    codes[3, 2] = code
    with pytest.raises((ValueError, IndexError)):
        model.predict(codes)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        written(model, codes, "predict")
