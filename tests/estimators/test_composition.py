"""Composite estimators answer as scikit-learn's, whatever they are made of."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
import scipy.special
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_transformer,
)
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import LinearSVC

from converters import releases
from converters.estimators import registry, special
from converters.onnx_writer import Graph
from tests.estimators.conftest import Array, Written
from toolkit.errors import UnsupportedModelError

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
PAIRS = np.column_stack([IRIS[1] == 0, IRIS[1] == 2]).astype(int)


def logistic(scale: float = 1.0) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=scale, max_iter=500))


def hard(x: Array) -> Array:
    """The rows, the rows scaled, and zeros."""
    return np.vstack([x, x[:50] * 100.0, x[:50] * 1e6, -x[:50], np.zeros((2, x.shape[1]))])


def check(written: Written, model: Any, x: Array, *methods: str) -> None:
    rows = hard(x)
    for method, given in zip(methods, written(model, rows, *methods), strict=True):
        expected = getattr(model, method)(rows)
        assert given.shape == np.asarray(expected).shape, method
        if method == "predict" and np.asarray(expected).dtype.kind in "iUO":
            assert (given == expected).all()
        else:
            np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-11, err_msg=method)


MEMBERS = [("a", logistic(0.01)), ("b", logistic(10.0)), ("c", logistic(1.0))]
CLASSIFIERS = [
    VotingClassifier(MEMBERS, voting="soft", weights=[1, 2, 5]),
    VotingClassifier(MEMBERS, voting="soft"),
    VotingClassifier(MEMBERS, voting="hard", weights=[1.5, 1, 1]),
    VotingClassifier(MEMBERS, voting="hard"),
    StackingClassifier(MEMBERS, LogisticRegression(), cv=2),
    StackingClassifier(MEMBERS, logistic(), cv=2, passthrough=True, stack_method="predict"),
    CalibratedClassifierCV(LinearSVC(), cv=2),
    CalibratedClassifierCV(logistic(), cv=2, ensemble=False),
    CalibratedClassifierCV(logistic(), cv=2, method="isotonic"),
    CalibratedClassifierCV(LinearSVC(), cv=2, method="isotonic"),
    CalibratedClassifierCV(logistic(), cv=2, method="temperature"),
    CalibratedClassifierCV(FrozenEstimator(logistic().fit(*CANCER))),
    OneVsRestClassifier(logistic()),
    OneVsRestClassifier(LinearSVC()),
    OneVsOneClassifier(logistic()),
    OutputCodeClassifier(logistic(), random_state=0),
    SelfTrainingClassifier(logistic()),
    GridSearchCV(logistic(), {"logisticregression__C": [0.1, 1.0]}, cv=2),
]


@pytest.mark.filterwarnings("ignore:y contains no unlabeled samples")
@pytest.mark.parametrize("data", [CANCER, IRIS], ids=["binary", "multiclass"])
@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: type(model).__name__)
def test_a_classifier_made_of_others_answers_as_the_original(
    written: Written, model: Any, data: tuple[Array, Array]
) -> None:
    x, y = data
    if x.shape[1] == 4 and isinstance(getattr(model, "estimator", None), FrozenEstimator):
        model = CalibratedClassifierCV(FrozenEstimator(logistic().fit(x, y)))
    model.fit(x, y)
    methods = [m for m in ("predict", "predict_proba", "decision_function") if hasattr(model, m)]
    check(written, model, x, *methods)


def test_labels_that_are_texts_stay_texts(written: Written) -> None:
    x, y = IRIS[0], np.array(["röd", "grön", "blå"])[IRIS[1]]
    for model in (VotingClassifier(MEMBERS), StackingClassifier(MEMBERS, cv=2), logistic()):
        check(written, model.fit(x, y), x, "predict")


@pytest.mark.parametrize(
    "model",
    [
        FixedThresholdClassifier(logistic(), threshold=0.8),
        FixedThresholdClassifier(logistic(), threshold=0.3, pos_label=0),
        FixedThresholdClassifier(logistic(), response_method="decision_function"),
        FixedThresholdClassifier(LinearSVC(), threshold=-1.0, pos_label=0),
        TunedThresholdClassifierCV(logistic(), cv=2),
        TunedThresholdClassifierCV(logistic(), cv=2, response_method="decision_function"),
    ],
)
def test_the_threshold_that_was_chosen_decides(written: Written, model: Any) -> None:
    check(written, model.fit(*CANCER), CANCER[0], "predict")


@pytest.mark.parametrize(
    "model",
    [
        VotingRegressor([("a", Ridge()), ("b", LinearRegression())], weights=[2, 1]),
        StackingRegressor([("a", Ridge()), ("b", LinearRegression())], Ridge(), cv=2),
        StackingRegressor([("a", Ridge())], Ridge(), cv=2, passthrough=True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_regressor_made_of_others_answers_as_the_original(written: Written, model: Any) -> None:
    check(written, model.fit(*DIABETES), DIABETES[0], "predict")


TRANSFORMERS = [
    FunctionTransformer(np.log1p, np.expm1),
    make_pipeline(FunctionTransformer(np.sqrt, np.square), StandardScaler()),
    MinMaxScaler(),
    MaxAbsScaler(),
    RobustScaler(),
    QuantileTransformer(n_quantiles=50),
    QuantileTransformer(n_quantiles=50, output_distribution="normal"),
    PowerTransformer(),
    PowerTransformer("box-cox", standardize=False),
]


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_transformed_target_is_undone(written: Written, transformer: Any) -> None:
    x, y = DIABETES
    model = TransformedTargetRegressor(Ridge(), transformer=transformer, check_inverse=False)
    rows = np.vstack([x, x[:50] * 10.0, -x[:50]])
    model.fit(x, y)
    (given,) = written(model, rows, "predict")
    np.testing.assert_allclose(given, model.predict(rows), rtol=1e-9, atol=1e-9)


def test_several_targets_are_answered_in_their_order(written: Written) -> None:
    x = IRIS[0]
    check(written, MultiOutputRegressor(Ridge()).fit(x, PAIRS * 1.5), x, "predict")
    check(written, RegressorChain(Ridge(), order=[1, 0]).fit(x, PAIRS * 1.5), x, "predict")
    for method in ("predict", "predict_proba", "decision_function"):
        chain = ClassifierChain(logistic(), order=[1, 0], chain_method=method).fit(x, PAIRS)
        check(written, chain, x, "predict_proba", "decision_function")
        assert (written(chain, x, "predict")[0] == chain.predict(x)).all()
    many = MultiOutputClassifier(logistic()).fit(x, np.column_stack([IRIS[1], PAIRS]))
    check(written, many, x, "predict")
    for i, expected in enumerate(many.predict_proba(x)):
        np.testing.assert_allclose(written(many, x, f"predict_proba:{i}")[0], expected, rtol=1e-9)


def test_one_label_of_several_may_be_the_same_for_all_rows(written: Written) -> None:
    labels = np.column_stack([PAIRS, np.ones(len(PAIRS), dtype=int)])
    with pytest.warns(UserWarning, match="present in all"):
        model = OneVsRestClassifier(logistic()).fit(IRIS[0], labels)
    check(written, model, IRIS[0], "predict", "predict_proba")


def test_columns_are_found_by_name_and_unused_ones_are_left_out(written: Written) -> None:
    frame = pd.DataFrame(IRIS[0], columns=["a", "b", "c", "d"])
    model = ColumnTransformer(
        [
            ("scaled", StandardScaler(), ["c", "a"]),
            ("kept", "passthrough", ["d"]),
            ("none", StandardScaler(), []),
            ("gone", "drop", ["b"]),
        ],
        transformer_weights={"scaled": 3.0},
    ).fit(frame)
    shuffled = frame[["d", "a", "b", "c"]]
    columns = {name: shuffled[name].to_numpy() for name in shuffled}
    (given,) = written(model, columns, "transform")
    np.testing.assert_allclose(given, model.transform(frame), rtol=1e-12)


def test_names_given_by_one_step_are_found_by_the_next(written: Written) -> None:
    frame = pd.DataFrame(IRIS[0], columns=["a", "b", "c", "d"])
    first = make_column_transformer(
        (StandardScaler(), ["b", "c"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    second = make_column_transformer((StandardScaler(), ["a", "c"]), remainder="drop")
    model = make_pipeline(first, second).fit(frame)
    columns = {name: frame[name].to_numpy() for name in frame}
    (given,) = written(model, columns, "transform")
    np.testing.assert_allclose(given, model.transform(frame), rtol=1e-9, atol=1e-12)


def test_a_union_stands_side_by_side(written: Written) -> None:
    model = FeatureUnion(
        [("s", StandardScaler()), ("p", "passthrough"), ("d", "drop")],
        transformer_weights={"s": 0.5},
    ).fit(IRIS[0])
    check(written, model, IRIS[0], "transform")


FUNCTIONS = [
    np.abs, np.ceil, np.floor, np.rint, np.sign, np.negative, np.sqrt, np.cbrt, np.square, np.exp,
    np.expm1, np.log, np.log1p, np.log2, np.log10, np.sin, np.tanh, np.deg2rad, np.rad2deg,
    np.asarray, np.nan_to_num, np.reciprocal, scipy.special.expit, scipy.special.logit,
]  # fmt: skip


@pytest.mark.parametrize("func", FUNCTIONS, ids=lambda func: func.__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_function_gives_what_numpy_gives(written: Written, func: Any) -> None:
    tiny = [1e-300, 1e-17, -1e-17, 1e-9, -1e-9, 0.3, -0.3, 0.5, 1.0, -1.0, 1.5, 2.5, 37.0, -37.0]
    x = np.array([*tiny, 0.0, 700.0, 1e5, -1e5, 1e200, np.nan, np.inf, -np.inf]).reshape(-1, 1)
    model = FunctionTransformer(func)
    (given,) = written(model, x, "transform")
    np.testing.assert_allclose(given, model.transform(x), rtol=2e-13, atol=1e-300)


def test_the_special_functions_are_those_of_scipy() -> None:
    values = np.concatenate([np.linspace(-45, 45, 4001), [0.0, 1e-300, -1e-9, 1.0, -1.0]])
    graph = Graph(releases.find("25.11").limits)
    x = graph.input("x", np.float64, 1)
    model = graph.model("m", {"erf": special.erf(x), "ndtr": special.ndtr(x)})
    session = ort.InferenceSession(model.SerializeToString())
    erf, ndtr = session.run(None, {"x": values.reshape(-1, 1)})
    np.testing.assert_allclose(erf[:, 0], scipy.special.erf(values), rtol=1e-14, atol=0)
    np.testing.assert_allclose(ndtr[:, 0], scipy.special.ndtr(values), rtol=1e-13, atol=1e-300)


def test_a_function_with_arguments_gives_what_numpy_gives(written: Written) -> None:
    x = np.array([[-5.0, 0.2], [np.nan, 9.0]])
    for keywords in ({"a_min": 0.0, "a_max": 1.0}, {"a_min": None, "a_max": 0.5}):
        model = FunctionTransformer(np.clip, kw_args=keywords)
        np.testing.assert_array_equal(written(model, x, "transform")[0], model.transform(x))


def test_a_function_of_the_users_own_is_refused_by_its_name_and_step(written: Written) -> None:
    def halved(x: Array) -> Array:
        return x / 2

    model = make_pipeline(StandardScaler(), FunctionTransformer(halved)).fit(IRIS[0])
    with pytest.raises(UnsupportedModelError, match=r"functiontransformer: .*the function halved"):
        written(model, IRIS[0], "transform")


class Renamed(LogisticRegression):  # type: ignore[misc]
    """A subclass that changes nothing of the answer."""

    def fit(self, x: Array, y: Array) -> "Renamed":
        super().fit(x, y)
        return self


class Contrary(LogisticRegression):  # type: ignore[misc]
    """A subclass that answers otherwise."""

    def predict(self, x: Array) -> Array:
        opposite: Array = -super().predict(x)
        return opposite


def test_a_subclass_is_written_unless_it_answers_otherwise(written: Written) -> None:
    check(written, Renamed(max_iter=3000).fit(*CANCER), CANCER[0], "predict")
    with pytest.raises(UnsupportedModelError, match="Contrary defines predict of its own"):
        written(Contrary(max_iter=3000).fit(*CANCER), CANCER[0], "predict")


def test_every_family_is_found() -> None:
    assert ("sklearn", "Pipeline") in registry.known()
