"""What a sample may look like, and which of its rows are asked."""

import json
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, OneHotEncoder, StandardScaler

from converters.missing_texts import missing_texts
from tests.converters.conftest import Array, Convert, Data
from toolkit.errors import ConfigError, SampleError
from toolkit.spec import DType, Road


def columns_of(frame: pd.DataFrame) -> dict[str, Array]:
    return {str(name): frame[name].to_numpy(copy=True) for name in frame}


def test_an_archive_of_one_matrix_is_that_matrix(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    artifact = convert_model(LogisticRegression(max_iter=1000).fit(x, y), {"x": x})
    (tensor,) = artifact.spec.inputs
    assert (tensor.name, tensor.dims) == ("input", (4,))
    assert artifact.parity.sample_rows == len(x)


def test_lightgbm_takes_the_columns_it_was_trained_with(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    frame = pd.DataFrame(x, columns=["height cm", "height_mm", "b", "c"])
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(frame, y)
    artifact = convert_model(model, columns_of(frame))
    assert artifact.parity.passed
    with pytest.raises(SampleError, match=r"lacks columns .*height_cm"):
        convert_model(model, columns_of(frame.drop(columns="height cm")))


def test_rows_that_lack_a_text_are_left_out_and_one_must_remain(convert_model: Convert) -> None:
    frame = pd.DataFrame({"city": ["Rome", "Oslo", "Bonn"] * 4, "age": range(12)})
    encode = ColumnTransformer([("city", OneHotEncoder(handle_unknown="ignore"), ["city"])])
    model = make_pipeline(encode, LogisticRegression()).fit(frame, np.arange(len(frame)) % 2)
    columns = columns_of(frame)
    columns["city"][0] = None
    assert convert_model(model, columns).parity.sample_rows == len(frame) - 1
    columns["city"][:] = None
    with pytest.raises(SampleError, match="a text is missing in every row"):
        convert_model(model, columns)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(size=60),
            "city": rng.choice(["Rome", "Oslo", "Bonn"], 60),
            "grade": rng.choice([3, 5, 9], 60),
        }
    )


def fitted_on_categories(kind: str, frame: pd.DataFrame, target: Array) -> Any:
    if kind == "catboost":
        model = catboost.CatBoostClassifier(
            iterations=5, verbose=0, cat_features=["city", "grade"], allow_writing_files=False
        )
        return model.fit(frame, target)
    categories = frame.astype({"city": "category", "grade": "category"})
    models = {
        "lightgbm": lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1),
        "xgboost": xgboost.XGBClassifier(n_estimators=5, enable_categorical=True),
        "sklearn": HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2),
    }
    return models[kind].fit(categories, target)


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost", "sklearn", "catboost"])
def test_columns_of_texts_become_the_categories_of_the_fit(
    convert_model: Convert, people: pd.DataFrame, kind: str
) -> None:
    target = ((people["city"] == "Rome") ^ (people["grade"] == 5)).to_numpy().astype(int)
    model = fitted_on_categories(kind, people, target)
    rows = people[:20].copy()
    rows.loc[0, "city"] = "a city that nobody knows"
    artifact = convert_model(model, columns_of(rows), road=Road.PYTHON, generated_rows=0)
    assert artifact.parity.sample_rows == len(rows)
    kinds = {tensor.name: tensor.dtype for tensor in artifact.spec.inputs}
    assert kinds == {"height": DType.FP64, "city": DType.BYTES, "grade": DType.INT64}
    given = np.load(artifact.files["proof.npz"])["expected:probabilities"]
    native = (
        people if kind == "catboost" else people.astype({"city": "category", "grade": "category"})
    )
    assert np.array_equal(given[1:20], model.predict_proba(native)[1:20])


@pytest.mark.parametrize("missing", [None, np.nan])
def test_the_empty_text_is_what_was_missing_in_the_fit(
    convert_model: Convert, people: pd.DataFrame, missing: float | None
) -> None:
    frame = people.astype({"city": object})
    frame.loc[::5, "city"] = missing
    encode = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(frame, np.arange(60) % 2)
    found = missing_texts(model, ("height", "city", "grade"))
    assert list(found) == ["city"]
    assert found["city"] is None if missing is None else np.isnan(found["city"] or 0.0)
    artifact = convert_model(model, columns_of(frame), road=Road.PYTHON, generated_rows=0)
    assert artifact.parity.sample_rows == 60
    proof = np.load(artifact.files["proof.npz"])
    assert proof["input:city"][0, 0] == ""
    assert np.allclose(proof["expected:probabilities"], model.predict_proba(frame), atol=1e-12)


def test_a_column_that_an_imputer_fills_takes_the_empty_text(people: pd.DataFrame) -> None:
    fill = SimpleImputer(strategy="most_frequent")
    inner = ColumnTransformer([("fill", make_pipeline(fill, OneHotEncoder()), slice("city", None))])
    outer = make_pipeline(ColumnTransformer([("all", inner, ["city", "grade"])]))
    model = outer.fit(people.astype({"city": object}))
    assert list(missing_texts(model, ("height", "city", "grade"))) == ["city", "grade"]
    plain = OneHotEncoder().fit(people[["city"]])
    assert missing_texts(plain, ("city",)) == {}


def test_numbers_stay_apart_where_the_model_picks_columns_by_name(
    convert_model: Convert, people: pd.DataFrame
) -> None:
    numbers = people[["height", "grade"]]
    scale = ColumnTransformer([("scale", StandardScaler(), ["grade"])], remainder="passthrough")
    artifact = convert_model(
        make_pipeline(scale).fit(numbers), columns_of(numbers), road=Road.PYTHON, generated_rows=0
    )
    kinds = [(tensor.name, tensor.dtype) for tensor in artifact.spec.inputs]
    assert kinds == [("height", DType.FP64), ("grade", DType.INT64)]


def test_named_columns_become_a_dict_a_row(convert_model: Convert, people: pd.DataFrame) -> None:
    model = make_pipeline(DictVectorizer(), LogisticRegression())
    model.fit(people.to_dict("records"), np.arange(60) % 2)
    artifact = convert_model(model, columns_of(people), road=Road.PYTHON, generated_rows=0)
    given = np.load(artifact.files["proof.npz"])["expected:probabilities"]
    assert np.allclose(given, model.predict_proba(people.to_dict("records")), atol=1e-12)


def test_tokens_are_sent_as_a_json_list(convert_model: Convert) -> None:
    rows = [["red", "blue"], [], ["blue"]]
    model = MultiLabelBinarizer().fit(rows)
    texts = np.array([json.dumps(row) for row in rows], dtype=object)
    artifact = convert_model(model, texts, road=Road.PYTHON, generated_rows=0)
    given = np.load(artifact.files["proof.npz"])["expected:transformed"]
    assert given.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]


def test_the_answers_to_serve_are_chosen_by_name(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    model = LogisticRegression(max_iter=1000).fit(x, y)
    options = {"road": Road.PYTHON, "generated_rows": 0}
    names = ("scores", "label", "probabilities")
    artifact = convert_model(model, x[:9], outputs=names, **options)
    assert tuple(tensor.name for tensor in artifact.spec.outputs) == names
    clusters = KMeans(3, n_init=1, random_state=0).fit(x)
    artifact = convert_model(clusters, x[:9], outputs=("label", "transformed"), **options)
    assert [tensor.dims for tensor in artifact.spec.outputs] == [(), (3,)]
    with pytest.raises(ConfigError, match="no output 'transformed'") as caught:
        convert_model(model, x[:9], outputs=("transformed",))
    assert caught.value.hint == "its outputs: label, probabilities, scores"
