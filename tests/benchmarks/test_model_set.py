"""The project's own set of models, and the judge that looks at what becomes of them."""

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.utils import all_estimators

from benchmarks import hard_rows, judging
from benchmarks.models import case, estimators


def test_every_estimator_that_answers_rows_is_in_the_set() -> None:
    estimators.classes()  # Shows the experimental ones.
    answering = {
        name
        for name, cls in all_estimators()
        if hasattr(cls, "predict") or hasattr(cls, "transform")
    }
    assert answering <= {one.name for one in case.cases("sklearn")}


def test_every_estimator_of_the_set_can_be_made() -> None:
    for name, cls in estimators.classes().items():
        assert type(estimators.build(name)) is cls


@pytest.mark.parametrize(
    ("group", "least"),
    [("sklearn", 185), ("pipelines", 102), ("xgboost", 24), ("lightgbm", 20), ("catboost", 9)],
)
def test_a_group_has_as_many_models_as_it_promises_under_names_of_their_own(
    group: str, least: int
) -> None:
    names = [one.name for one in case.cases(group)]
    assert len(names) == len(set(names)) >= least


def _verdict(model: Any, converted: Any, sample: case.Sample) -> judging.Verdict:
    rows, kinds = hard_rows.make(model, sample, judging.ROWS, seed=1)
    assert len(kinds) == judging.rows_of(rows) == judging.ROWS
    name = ("prediction",)
    native = judging.ask(model, rows, name)
    return judging.compare(native, judging.ask(converted, rows, name), kinds)


def test_a_faithful_copy_is_judged_right() -> None:
    model, sample = case.find("sklearn", "DecisionTreeRegressor").fit()
    assert _verdict(model, copy.deepcopy(model), sample).right


def test_thresholds_rounded_to_float32_are_judged_wrong() -> None:
    model, sample = case.find("sklearn", "DecisionTreeRegressor").fit()
    rounded = copy.deepcopy(model)
    rounded.tree_.threshold[:] = rounded.tree_.threshold.astype(np.float32)
    verdict = _verdict(model, rounded, sample)
    assert not verdict.right
    assert {"threshold", "jump"} <= set(verdict.kinds)


@pytest.mark.parametrize(
    ("name", "original", "given", "right"),
    [
        ("label", np.array([1, 2]), np.array([1, 1]), False),
        ("label", np.array(["a", "b"], dtype=object), np.array(["a", "b"]), True),
        ("probabilities", np.array([[0.5], [0.1]]), np.array([[0.5], [0.10009]]), True),
        ("probabilities", np.array([[0.5], [0.1]]), np.array([[0.5], [0.10011]]), False),
        ("prediction", np.array([1e6, 0.0]), np.array([1e6 + 90, 9e-5]), True),
        ("prediction", np.array([1e6, 0.0]), np.array([1e6 + 110, 0.0]), False),
        ("prediction", np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), True),
        ("prediction", np.array([np.nan, 1.0]), np.array([0.0, 1.0]), False),
        ("prediction", np.array([np.inf, 1.0]), np.array([1e300, 1.0]), False),
        ("transformed", np.ones((2, 3)), np.ones((2, 2)), False),
    ],
)
def test_the_judge_allows_what_the_goals_allow(
    name: str, original: case.Array, given: case.Array, right: bool
) -> None:
    kinds = case.objects(["ordinary", "ordinary"])
    assert judging.compare({name: original}, {name: given}, kinds).right is right
