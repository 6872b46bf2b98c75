"""Encoders answer as the original does: known, unknown, infrequent and missing categories."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    LabelBinarizer,
    LabelEncoder,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)

from toolkit.errors import UnsupportedModelError

Written = Any
RNG = np.random.default_rng(7)
COLOURS = ["red", "grün", "日本", "b", "ab", " ", "NaN", "x\0y"]


def frame(rows: int = 400, missing: bool = True, unknown: bool = False) -> pd.DataFrame:
    """Return a text column, a text column with gaps, whole numbers, numbers with NaN, bools."""
    share = np.array([30, 20, 10, 5, 3, 2, 1, 1]) / 72
    colours = RNG.choice(np.array(COLOURS, dtype=object), rows, p=share)
    sizes = RNG.choice(np.array(["S", "M", "L"], dtype=object), rows)
    floors = RNG.integers(-3, 4, rows)
    prices = RNG.choice(np.array([-0.0, 0.1, 0.1 + 2e-17, 2.5, 1e300]), rows)
    if missing:
        sizes[RNG.random(rows) < 0.2] = np.nan
        prices = np.where(RNG.random(rows) < 0.2, np.nan, prices)
    if unknown:
        colours[::3] = "never seen"
        sizes[1::3] = "XXL"
        floors[2::3] = 99
        prices = np.where(np.arange(rows) % 3 == 0, np.nextafter(0.1, 1), prices)
    return pd.DataFrame(
        {
            "colour": pd.Series(colours, dtype=object),
            "size": pd.Series(sizes, dtype=object),
            "floor": floors,
            "price": prices,
            "lift": RNG.random(rows) < 0.5,
        }
    )


def sent(data: pd.DataFrame) -> dict[str, Any]:
    """Return the columns as a server gets them: the empty text where one is missing."""
    return {
        str(name): column.fillna("").to_numpy(object)
        if column.dtype == object
        else column.to_numpy()
        for name, column in data.items()
    }


def dense(rows: Any) -> Any:
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, dtype=np.float64)


@pytest.mark.parametrize("drop", [None, "first", "if_binary"])
@pytest.mark.parametrize("groups", [{}, {"min_frequency": 0.05}, {"max_categories": 3}])
@pytest.mark.parametrize("unknown", ["ignore", "infrequent_if_exist", "warn"])
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_one_hot_encoder_with_unknown_categories(
    written: Written, drop: Any, groups: Any, unknown: str
) -> None:
    model = OneHotEncoder(handle_unknown=unknown, drop=drop, **groups).fit(frame())
    for rows in (frame(unknown=True), frame(), frame(1)):
        (got,) = written(model, sent(rows), "transform")
        np.testing.assert_array_equal(got, dense(model.transform(rows)))


def test_one_hot_encoder_with_an_array_of_what_to_drop(written: Written) -> None:
    data = frame()
    model = OneHotEncoder(drop=["日本", "M", 2, 2.5, True], sparse_output=False).fit(data)
    (got,) = written(model, sent(data), "transform")
    np.testing.assert_array_equal(got, model.transform(data))


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
def test_an_unknown_category_that_is_an_error_ends_the_request(
    written: Written, encoder: Any
) -> None:
    model = encoder.fit(frame())
    rows = frame(12)
    np.testing.assert_array_equal(
        written(model, sent(rows), "transform")[0], dense(model.transform(rows))
    )
    rows.loc[7, "colour"] = "never seen"
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match="out of data"):
        written(model, sent(rows), "transform")


@pytest.mark.parametrize("groups", [{}, {"min_frequency": 9}, {"max_categories": 2}])
@pytest.mark.parametrize("missing", [np.nan, -5])
@pytest.mark.parametrize("unknown", [-1, np.nan, 1000])
def test_ordinal_encoder_with_unknown_and_missing_values(
    written: Written, groups: Any, missing: float, unknown: float
) -> None:
    model = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=unknown,
        encoded_missing_value=missing,
        **groups,
    ).fit(frame())
    rows = frame(unknown=True)
    (got,) = written(model, sent(rows), "transform")
    np.testing.assert_array_equal(got, model.transform(rows))


def test_numbers_that_are_categories_in_one_matrix(written: Written) -> None:
    x = RNG.choice([0.0, 1.0, 2.5, np.nan], (300, 4))
    model = OneHotEncoder(handle_unknown="ignore").fit(x)
    x[::5] += 0.5
    x[1::5] = -0.0
    (got,) = written(model, x, "transform")
    np.testing.assert_array_equal(got, dense(model.transform(x)))


def test_none_among_the_categories_is_the_empty_text(written: Written) -> None:
    data = np.array([["a"], [None], ["b"]], dtype=object)
    model = OneHotEncoder().fit(data)
    (got,) = written(model, {"c": np.array(["a", "", "b"], dtype=object)}, "transform")
    np.testing.assert_array_equal(got, dense(model.transform(data)))


def test_whole_numbers_beyond_float64_stay_apart(written: Written) -> None:
    big = np.array([[2**60], [2**60 + 1], [2**60 + 2]])
    model = OrdinalEncoder().fit(big)
    (got,) = written(model, {"id": big}, "transform")
    np.testing.assert_array_equal(got, model.transform(big))


@pytest.mark.parametrize("target", ["binary", "multiclass", "continuous"])
def test_target_encoder_with_unknown_and_missing_categories(written: Written, target: str) -> None:
    data = frame()
    y = {
        "binary": RNG.integers(0, 2, 400),
        "multiclass": RNG.choice(["x", "y", "z"], 400),
        "continuous": RNG.normal(size=400),
    }[target]
    model = TargetEncoder(target_type=target).fit(data, y)
    rows = frame(unknown=True)
    (got,) = written(model, sent(rows), "transform")
    np.testing.assert_array_equal(got, model.transform(rows))


def test_categories_of_another_type_than_the_column_are_refused(written: Written) -> None:
    model = OneHotEncoder().fit(np.array([[1], [2]]))
    with pytest.raises(UnsupportedModelError, match="OneHotEncoder: its categories are of type"):
        written(model, {"c": np.array(["1", "2"], dtype=object)}, "transform")


@pytest.mark.parametrize("labels", [["b", "ä", "c"], [3, 1, 2], [0.5, 1.5, 7.0], ["n", "y"]])
def test_label_encoder_and_binarizer(written: Written, labels: list[Any]) -> None:
    y = np.array(labels, dtype=object if isinstance(labels[0], str) else None)
    column = y.reshape(-1, 1)
    encoder = LabelEncoder().fit(y)
    np.testing.assert_array_equal(
        written(encoder, {"y": column}, "transform")[0], encoder.transform(y)
    )
    if isinstance(labels[0], float):
        return
    binarizer = LabelBinarizer(neg_label=-2, pos_label=0).fit(y)
    got = written(binarizer, {"y": column}, "transform")[0]
    np.testing.assert_array_equal(got, binarizer.transform(y))


def test_dict_vectorizer_takes_the_keys_from_the_columns(written: Written) -> None:
    data = frame(60, missing=False).drop(columns="price")
    model = DictVectorizer().fit(data.to_dict("records"))
    rows = frame(60, missing=False, unknown=True).drop(columns="price").assign(extra=1.0)
    (got,) = written(model, sent(rows), "transform")
    np.testing.assert_array_equal(got, dense(model.transform(rows.to_dict("records"))))


@pytest.mark.parametrize("signs", [True, False])
def test_feature_hasher_of_numbers_and_texts(written: Written, signs: bool) -> None:
    model = FeatureHasher(n_features=7, alternate_sign=signs)
    rows = frame(60, missing=False)
    (got,) = written(model, sent(rows), "transform")
    np.testing.assert_array_equal(got, dense(model.transform(rows.to_dict("records"))))


def test_a_hasher_with_rows_too_wide_is_refused(written: Written) -> None:
    with pytest.raises(UnsupportedModelError, match="dense in ONNX"):
        written(FeatureHasher(), sent(frame(3)), "transform")


@pytest.mark.parametrize("fill", [{"strategy": "most_frequent"}, {"strategy": "constant"}])
def test_imputed_texts_and_where_they_were(written: Written, fill: dict[str, str]) -> None:
    texts = frame()[["size", "colour"]]
    model = make_pipeline(
        SimpleImputer(add_indicator=True, **fill), OneHotEncoder(sparse_output=False)
    ).fit(texts)
    (got,) = written(model, sent(texts), "transform")
    np.testing.assert_array_equal(got, model.transform(texts))


def test_columns_of_a_column_transformer_encode_each_their_own(written: Written) -> None:
    data = frame(missing=False)
    model = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"]),
            ("numbers", OrdinalEncoder(), ["floor", "lift"]),
        ]
    ).fit(data)
    (got,) = written(model, sent(data), "transform")
    np.testing.assert_array_equal(got, model.transform(data))
