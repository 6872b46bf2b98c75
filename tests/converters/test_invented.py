"""Without a sample, rows are made up from what the model knows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from converters import invented
from tests.converters.conftest import Convert
from toolkit.errors import SampleError
from toolkit.spec import DType

CITIES = ["Rome", "Oslo", "Bonn", "Zürich"] * 10
TEXTS = ["a good film", "a bad film", "bad acting", "good music and acting"] * 10
LABELS = np.arange(40) % 2


def people() -> pd.DataFrame:
    cities: Any = [*CITIES[:-2], np.nan, np.nan]
    age = np.linspace(20.0, 60.0, 40)
    return pd.DataFrame({"age": age, "city": cities, "rooms": np.arange(40) % 5})


def test_texts_are_drawn_for_the_columns_that_are_encoded(convert_model: Convert) -> None:
    filled = make_pipeline(SimpleImputer(), StandardScaler())
    coded = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = make_column_transformer((filled, ["age", "rooms"]), (coded, ["city"]))
    model = make_pipeline(columns, LogisticRegression())
    report = convert_model(model.fit(people(), LABELS))
    kinds = {tensor.name: tensor.dtype for tensor in report.spec.inputs}
    assert kinds == {"age": DType.FP64, "city": DType.BYTES, "rooms": DType.FP64}
    assert (report.rung, report.parity.sample_rows) == ("exact", 0)
    assert report.parity.kinds["sample"] == invented.ROWS


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), HashingVectorizer(n_features=32)])
def test_texts_are_made_of_the_words_a_model_knows(vectorizer: Any, convert_model: Convert) -> None:
    model = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, LABELS)
    artifact = convert_model(model)
    assert artifact.rung == "exact"
    assert [tensor.dtype for tensor in artifact.spec.inputs] == [DType.BYTES]


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (LabelEncoder().fit(CITIES), CITIES),
        (MultiLabelBinarizer().fit([["a", "b"], ["c"]]), None),
        (IsotonicRegression().fit(np.arange(9.0), np.arange(9.0) ** 2), None),
        (DictVectorizer().fit([{"city": "Rome", "age": 3.0}, {"city": "Oslo"}]), None),
    ],
)
def test_what_takes_no_matrix_gets_what_it_takes(
    model: Any, rows: Any, convert_model: Convert
) -> None:
    artifact = convert_model(model)
    assert artifact.parity.passed
    assert rows is None or artifact.spec.inputs[0].dtype is DType.BYTES


def test_a_model_of_counts_gets_no_negative_numbers(convert_model: Convert) -> None:
    counts = np.arange(80.0).reshape(40, 2)
    assert convert_model(MultinomialNB().fit(counts, LABELS)).rung == "exact"
    model = make_pipeline(OrdinalEncoder(), LogisticRegression())
    assert convert_model(model.fit(people()[["rooms"]], LABELS)).rung == "exact"


def test_what_refuses_all_of_them_needs_a_sample(convert_model: Convert) -> None:
    model = make_pipeline(FunctionTransformer(np.char.upper), OneHotEncoder())
    model.fit(np.array([["a"], ["b"]])).steps[0][1].n_features_in_ = 1
    with pytest.raises(SampleError, match=r"takes none of the rows made up .*: a sample is needed"):
        convert_model(model)
