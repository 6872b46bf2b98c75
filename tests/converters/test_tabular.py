"""Tabular models reach Triton with the same answers."""

import json
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from tests.converters.conftest import Array, Convert, Data
from toolkit.artifact import Artifact
from toolkit.spec import DType, Road, TensorSpec

LABEL = TensorSpec("label", DType.INT64, ())


def proof_rows(artifact: Artifact) -> dict[str, Array]:
    with np.load(artifact.files["proof.npz"]) as arrays:
        return dict(arrays)


def test_a_pipeline_becomes_onnx_and_every_row_of_the_sample_is_compared(
    convert_model: Convert, cancer: Data
) -> None:
    x, y = cancer
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    artifact = convert_model(model, x)
    assert artifact.road is Road.ONNX
    assert artifact.framework == "sklearn"
    assert artifact.spec.inputs == (TensorSpec("input", DType.FP64, (30,)),)
    assert artifact.spec.outputs == (LABEL, TensorSpec("probabilities", DType.FP64, (2,)))
    assert artifact.parity.passed
    assert artifact.parity.sample_rows == len(x)
    assert artifact.parity.rows > len(x)
    assert artifact.parity.label_mismatches == 0
    assert 0 <= artifact.parity.worst_absolute < 1e-12
    assert artifact.refused == ()


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(25, random_state=0),
        HistGradientBoostingClassifier(max_iter=20),
        LinearSVC(max_iter=10_000),
        make_pipeline(StandardScaler(), LinearSVC()),
        make_pipeline(StandardScaler(), RidgeClassifier()),
        make_pipeline(
            StandardScaler(), GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
        ),
        GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression()),
            {"logisticregression__C": [0.1, 1.0]},
            cv=2,
        ),
        make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=10)),
        make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=10, verbose=-1)),
        xgboost.XGBClassifier(n_estimators=10),
        lightgbm.LGBMClassifier(n_estimators=10, verbose=-1),
    ],
    ids=lambda estimator: type(getattr(estimator, "steps", [[0, estimator]])[-1][1]).__name__,
)
def test_a_classifier_becomes_onnx(convert_model: Convert, cancer: Data, estimator: Any) -> None:
    x, y = cancer
    x = StandardScaler().fit_transform(x)
    artifact = convert_model(estimator.fit(x, y), x[:100], road=Road.ONNX)
    assert artifact.spec.outputs[0] == LABEL
    assert artifact.spec.outputs[1].name in {"probabilities", "scores"}
    # Matrix products of one row and of many differ in the last bits; trees do not.
    assert artifact.parity.batch_spread < 1e-4


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
        lightgbm.LGBMClassifier(n_estimators=10, verbose=-1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_text_labels_come_out_as_text(convert_model: Convert, iris: Data, estimator: Any) -> None:
    x, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    artifact = convert_model(estimator.fit(x, names), x, road=Road.ONNX)
    assert artifact.spec.outputs[0] == TensorSpec("label", DType.BYTES, ())
    assert proof_rows(artifact)["expected:label"][0] == "setosa"


@pytest.mark.parametrize(
    "estimator",
    [
        Ridge(),
        make_pipeline(StandardScaler(), LinearRegression()),
        RandomForestRegressor(10, random_state=0),
        HistGradientBoostingRegressor(max_iter=10),
        xgboost.XGBRegressor(n_estimators=10),
        lightgbm.LGBMRegressor(n_estimators=10, verbose=-1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_regressor_becomes_onnx(convert_model: Convert, diabetes: Data, estimator: Any) -> None:
    x, y = diabetes
    artifact = convert_model(estimator.fit(x, y), x[:100], road=Road.ONNX)
    assert artifact.spec.outputs == (TensorSpec("prediction", DType.FP64, (1,)),)


def test_the_names_of_classes_are_kept(convert_model: Convert, iris: Data, diabetes: Data) -> None:
    x, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    flowers = LogisticRegression(max_iter=500)
    assert convert_model(flowers.fit(x, names), x).spec.class_names == tuple(np.unique(names))
    assert convert_model(flowers.fit(x, y), x).spec.class_names == ("0", "1", "2")
    two_labels = RandomForestClassifier(5).fit(x, np.stack([y, y], axis=1))
    assert convert_model(two_labels, x).spec.class_names == ()
    numbers, target = diabetes
    assert convert_model(Ridge().fit(numbers, target), numbers).spec.class_names == ()


@pytest.mark.parametrize("estimator", [Ridge(), RandomForestRegressor(10, random_state=0)])
def test_a_regressor_of_two_targets_gives_two_numbers_a_row(
    convert_model: Convert, diabetes: Data, estimator: Any
) -> None:
    x, y = diabetes
    artifact = convert_model(estimator.fit(x, np.column_stack([y, -y])), x[:100], road=Road.ONNX)
    assert artifact.spec.outputs == (TensorSpec("prediction", DType.FP64, (2,)),)


def test_clusters_and_outliers_are_labels(convert_model: Convert, iris: Data) -> None:
    x, _ = iris
    clusters = convert_model(KMeans(3, random_state=0, n_init=1).fit(x), x)
    assert clusters.spec.outputs[0] == LABEL
    outliers = convert_model(IsolationForest(n_estimators=20, random_state=0).fit(x), x)
    assert [tensor.name for tensor in outliers.spec.outputs] == ["label", "scores"]


def test_missing_values_follow_the_trees_of_a_forest(convert_model: Convert, cancer: Data) -> None:
    x, y = cancer
    sample = x.copy()
    sample[::3, 3] = np.nan
    artifact = convert_model(RandomForestClassifier(15, random_state=1).fit(x, y), sample)
    assert artifact.road is Road.ONNX
    assert np.isnan(proof_rows(artifact)["input:input"]).any()


def test_a_forest_fitted_with_missing_values_becomes_onnx(
    convert_model: Convert, cancer: Data
) -> None:
    x, y = cancer
    x = x.copy()
    x[::3, :] = np.nan
    artifact = convert_model(RandomForestClassifier(15, random_state=1).fit(x, y), x[:50])
    assert (artifact.road, artifact.rung) == (Road.ONNX, "exact")
    assert artifact.parity.worst_absolute < 1e-15


def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age of person": rng.integers(18, 90, 80),
            "city": rng.choice(["Rome", "Oslo", "Zürich"], 80),
            "income": rng.normal(30_000, 9_000, 80),
        }
    )


def columns_of(frame: pd.DataFrame) -> dict[str, Array]:
    return {str(name): frame[name].to_numpy() for name in frame}


def test_columns_of_text_and_numbers_become_one_input_each(convert_model: Convert) -> None:
    frame = people()
    target = (frame["city"] == "Oslo").astype(int) ^ (frame["age of person"] > 50)
    model = make_pipeline(
        ColumnTransformer(
            [
                ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("numbers", StandardScaler(), ["age of person", "income"]),
            ]
        ),
        LogisticRegression(),
    ).fit(frame, target)
    sample = columns_of(frame) | {"target": target.to_numpy()}
    artifact = convert_model(model, sample, road=Road.ONNX)
    assert artifact.spec.inputs == (
        TensorSpec("age of person", DType.INT64, (1,)),
        TensorSpec("city", DType.BYTES, (1,)),
        TensorSpec("income", DType.FP64, (1,)),
    )
    city = frame["city"][0].encode()
    assert artifact.warmup["city"].data == len(city).to_bytes(4, "little") + city
    assert artifact.warmup["city"].dims == (1,)
    assert "never seen before" in proof_rows(artifact)["input:city"]
    as_itself = convert_model(model, sample, road=Road.PYTHON)
    assert as_itself.parity.worst_absolute == 0.0
    assert as_itself.spec.outputs[0] == artifact.spec.outputs[0]


def test_a_column_transformer_of_named_numbers_takes_one_input_a_column(
    convert_model: Convert,
) -> None:
    frame = people()[["age of person", "income"]].astype(float)
    target = frame["income"] > 30_000
    model = make_pipeline(
        ColumnTransformer([("numbers", StandardScaler(), ["income", "age of person"])]),
        LogisticRegression(),
    ).fit(frame, target.astype(int))
    sample = columns_of(frame[["income", "age of person"]])
    artifact = convert_model(model, sample, road=Road.ONNX)
    assert artifact.spec.inputs == (
        TensorSpec("age of person", DType.FP64, (1,)),
        TensorSpec("income", DType.FP64, (1,)),
    )
    first = proof_rows(artifact)["input:income"][0]
    np.testing.assert_array_equal(first, frame["income"][0])


def test_a_text_pipeline_takes_a_column_of_texts(convert_model: Convert) -> None:
    texts = np.array(["good film", "bad film", "great fun", "dull and bad"] * 5)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 5)
    artifact = convert_model(model, {"review": texts}, road=Road.PYTHON)
    assert artifact.spec.inputs[0].dtype is DType.BYTES
    assert artifact.parity.worst_absolute == 0.0


@pytest.mark.parametrize("suffix", ["ubj", "json"])
def test_a_native_xgboost_file_needs_no_trust_and_no_sample(
    convert_model: Convert, tmp_path: Path, iris: Data, suffix: str
) -> None:
    x, y = iris
    frame = pd.DataFrame(x, columns=["sepal length", "sepal width", "petal length", "petal width"])
    path = tmp_path / f"model.{suffix}"
    xgboost.XGBClassifier(n_estimators=10).fit(frame, y).save_model(path)
    artifact = convert_model(path)
    assert (artifact.framework, artifact.road) == ("xgboost", Road.ONNX)
    assert artifact.spec.outputs == (LABEL, TensorSpec("probabilities", DType.FP64, (3,)))
    assert artifact.parity.sample_rows == 0
    assert artifact.parity.rows > 100


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (lightgbm.LGBMClassifier(n_estimators=10, verbose=-1), ["label", "probabilities"]),
        (lightgbm.LGBMRegressor(n_estimators=10, verbose=-1), ["prediction"]),
    ],
)
def test_a_native_lightgbm_file_takes_both_roads(
    convert_model: Convert, tmp_path: Path, cancer: Data, estimator: Any, names: list[str]
) -> None:
    x, y = cancer
    path = tmp_path / "model.txt"
    estimator.fit(x, y).booster_.save_model(path)
    for road in (Road.ONNX, Road.PYTHON):
        artifact = convert_model(path, x[:50], road=road)
        assert [tensor.name for tensor in artifact.spec.outputs] == names


def test_a_dart_model_that_onnxmltools_cannot_read_becomes_onnx(
    convert_model: Convert, tmp_path: Path, iris: Data
) -> None:
    x, y = iris
    path = tmp_path / "model.ubj"
    xgboost.XGBClassifier(n_estimators=5, booster="dart").fit(x, y).save_model(path)
    artifact = convert_model(path, x)
    assert (artifact.road, artifact.rung) == (Road.ONNX, "exact")


def test_a_function_transformer_takes_the_python_road_and_says_why(
    convert_model: Convert, iris: Data
) -> None:
    x, y = iris
    model = make_pipeline(FunctionTransformer(np.sinc), LogisticRegression()).fit(x, y)
    artifact = convert_model(model, x)
    assert (artifact.road, artifact.rung) == (Road.PYTHON, "original")
    assert artifact.spec.inputs == (TensorSpec("input", DType.FP64, (4,)),)
    assert artifact.parity.worst_absolute == 0.0
    assert artifact.refused[0] == (
        "onnx (exact): functiontransformer: FunctionTransformer: the function sinc"
        " has no ONNX form here"
    )
    assert artifact.refused[1].startswith("onnx (skl2onnx): skl2onnx cannot convert it")
    assert set(artifact.files) == {
        "model.py",
        "predictor.joblib",
        "predictor.json",
        "requirements.txt",
        "parity.json",
        "proof.npz",
    }
    requirements = artifact.files["requirements.txt"].read_text()
    assert "scikit-learn==" in requirements
    assert "numpy==" in requirements
    assert json.loads(artifact.files["parity.json"].read_text())["refused"] == list(
        artifact.refused
    )


class OwnForest(RandomForestClassifier):  # type: ignore[misc]
    """A user's subclass, which answers otherwise."""

    def predict_proba(self, x: Array) -> Array:
        squared: Array = super().predict_proba(x) ** 2
        return squared


def test_a_subclass_that_answers_otherwise_takes_the_python_road(
    convert_model: Convert, iris: Data
) -> None:
    x, y = iris
    artifact = convert_model(OwnForest(5, random_state=0).fit(x, y), x[:20])
    assert artifact.road is Road.PYTHON
    assert "OwnForest" in artifact.refused[0]


def test_a_forced_framework_serves_the_pickle_as_itself(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    model = LogisticRegression(max_iter=1000).fit(x, y)
    artifact = convert_model(model, x, framework="predictor")
    assert artifact.road is Road.PYTHON


def test_the_callers_arrays_stay_as_they_were(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    model = make_pipeline(StandardScaler(copy=False), LogisticRegression()).fit(x.copy(), y)
    sample = x.copy()
    for road in (Road.ONNX, Road.PYTHON):
        convert_model(model, sample, road=road)
        np.testing.assert_array_equal(sample, x)


def test_the_proof_holds_the_artifacts_own_answers_row_by_row(
    convert_model: Convert, iris: Data
) -> None:
    import onnxruntime as ort

    x, y = iris
    artifact = convert_model(LogisticRegression(max_iter=1000).fit(x, y), x)
    arrays = proof_rows(artifact)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(artifact.files["model.onnx"]), options)
    assert arrays["input:input"].dtype == np.float64
    assert len(arrays["input:input"]) == 256
    for row in range(0, 256, 50):
        label, probabilities = session.run(None, {"input": arrays["input:input"][row : row + 1]})
        assert label[0] == arrays["expected:label"][row]
        np.testing.assert_array_equal(probabilities[0], arrays["expected:probabilities"][row])


@pytest.mark.parametrize("road", [Road.ONNX, Road.PYTHON])
def test_converting_twice_gives_the_same_bytes(
    convert_model: Convert, cancer: Data, road: Road
) -> None:
    x, y = cancer
    model = RandomForestClassifier(5, random_state=0).fit(x, y)
    first, second = (
        {
            name: path.read_bytes()
            for name, path in convert_model(m, x[:60], road=road).files.items()
        }
        for m in (model, model)
    )
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == set()


def test_a_compressed_joblib_file_is_read(
    convert_model: Convert, tmp_path: Path, iris: Data
) -> None:
    x, y = iris
    path = tmp_path / "model.joblib.gz"
    joblib.dump(LogisticRegression(max_iter=1000).fit(x, y), path, compress=("gzip", 3))
    assert convert_model(path, x, trusted=True).road is Road.ONNX
