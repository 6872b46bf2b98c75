"""Pipelines around and inside models of models: searches, votes, chains, boosters."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    compose,
    ensemble,
    linear_model,
    model_selection,
    multiclass,
    multioutput,
    svm,
)
from sklearn.pipeline import make_pipeline

from benchmarks.models import data, steps
from benchmarks.models.case import Case


def cases() -> Iterator[Case]:
    """Yield the cases."""
    for name, (make, pair) in _CASES.items():
        yield Case("pipelines", name, steps.fitting(make, pair))


def _search(kind: str) -> Any:
    scaled = make_pipeline(steps.scale(), svm.SVC(probability=False))
    grid = {"svc__C": [0.1, 1.0], "svc__gamma": [0.01, 0.1]}
    if kind == "grid":
        return model_selection.GridSearchCV(scaled, grid, cv=3)
    return model_selection.RandomizedSearchCV(scaled, grid, n_iter=3, cv=3, random_state=0)


def _voting(how: str) -> Any:
    parts = [
        ("lr", make_pipeline(steps.scale(), steps.logistic())),
        ("rf", steps.forest()),
        ("nb", steps.bayes()),
    ]
    return ensemble.VotingClassifier(parts, voting=how)


def _stacking(**settings: Any) -> Any:
    parts = [("lr", make_pipeline(steps.scale(), steps.logistic())), ("rf", steps.forest())]
    return ensemble.StackingClassifier(parts, cv=3, **settings)


def _target(**settings: Any) -> Any:
    return compose.TransformedTargetRegressor(
        make_pipeline(steps.scale(), linear_model.Ridge()), **settings
    )


_CASES: dict[str, tuple[Callable[[], Any], steps.Data]] = {
    "calibrated sigmoid": (
        lambda: calibration.CalibratedClassifierCV(
            make_pipeline(steps.scale(), svm.LinearSVC()), cv=3
        ),
        data.numbers,
    ),
    "calibrated isotonic": (
        lambda: calibration.CalibratedClassifierCV(steps.forest(), method="isotonic", cv=3),
        data.numbers,
    ),
    "calibrated temperature": (
        lambda: calibration.CalibratedClassifierCV(
            make_pipeline(steps.scale(), steps.logistic()), method="temperature", cv=3
        ),
        data.numbers,
    ),
    "calibrated isotonic as a whole": (
        lambda: calibration.CalibratedClassifierCV(
            make_pipeline(steps.scale(), steps.bayes()), method="isotonic", cv=3, ensemble=False
        ),
        steps.binary,
    ),
    "tuned threshold": (
        lambda: model_selection.TunedThresholdClassifierCV(
            make_pipeline(steps.scale(), steps.logistic()), scoring="f1", cv=3
        ),
        steps.binary,
    ),
    "fixed threshold": (
        lambda: model_selection.FixedThresholdClassifier(steps.forest(), threshold=0.25),
        steps.binary,
    ),
    "hard voting": (lambda: _voting("hard"), data.numbers),
    "soft voting": (lambda: _voting("soft"), data.numbers),
    "soft voting, text labels": (lambda: _voting("soft"), steps.named_labels),
    "voting regressor": (
        lambda: ensemble.VotingRegressor(
            [
                ("r", make_pipeline(steps.scale(), linear_model.Ridge())),
                ("f", steps.regression_forest()),
            ]
        ),
        data.values,
    ),
    "stacking": (_stacking, data.numbers),
    "stacking with the columns": (
        lambda: _stacking(passthrough=True, final_estimator=steps.tree()),
        data.numbers,
    ),
    "stacking regressor": (
        lambda: ensemble.StackingRegressor(
            [
                ("r", make_pipeline(steps.scale(), linear_model.Ridge())),
                ("f", steps.regression_forest()),
            ],
            cv=3,
        ),
        data.values,
    ),
    "chain of logistics": (
        lambda: make_pipeline(steps.scale(), multioutput.ClassifierChain(steps.logistic())),
        data.many_labels,
    ),
    "chain of ridges": (
        lambda: make_pipeline(steps.scale(), multioutput.RegressorChain(linear_model.Ridge())),
        steps.many_values,
    ),
    "many outputs": (
        lambda: make_pipeline(steps.scale(), multioutput.MultiOutputClassifier(steps.logistic())),
        data.many_classes,
    ),
    "many outputs boosting": (
        lambda: multioutput.MultiOutputRegressor(ensemble.GradientBoostingRegressor(**steps.TREES)),
        steps.many_values,
    ),
    "one-vs-rest": (
        lambda: make_pipeline(steps.scale(), multiclass.OneVsRestClassifier(steps.logistic())),
        data.numbers,
    ),
    "one-vs-one": (
        lambda: make_pipeline(steps.scale(), multiclass.OneVsOneClassifier(svm.LinearSVC())),
        data.numbers,
    ),
    "logged target": (
        lambda: _target(func=np.log1p, inverse_func=np.expm1),
        data.positive_values,
    ),
    "scaled target": (lambda: _target(transformer=steps.scale()), data.values),
    "grid search": (lambda: _search("grid"), data.numbers),
    "randomized search": (lambda: _search("randomized"), steps.binary),
    "scale, LightGBM": (lambda: make_pipeline(steps.scale(), steps.lightgbm_model()), data.missing),
    "scale, XGBoost": (lambda: make_pipeline(steps.scale(), steps.xgboost_model()), data.missing),
    "mean, XGBoost regressor": (
        lambda: make_pipeline(steps.impute(), steps.xgboost_model("XGBRegressor")),
        steps.missing_values,
    ),
    "bagging of SVCs": (
        lambda: make_pipeline(
            steps.scale(), ensemble.BaggingClassifier(svm.SVC(), 5, random_state=0)
        ),
        data.numbers,
    ),
    "AdaBoost of trees": (
        lambda: make_pipeline(
            steps.scale(), ensemble.AdaBoostClassifier(steps.tree(), n_estimators=20)
        ),
        data.numbers,
    ),
    "scale, isolation forest": (
        lambda: make_pipeline(steps.scale(), ensemble.IsolationForest(**steps.TREES)),
        data.numbers,
    ),
}
