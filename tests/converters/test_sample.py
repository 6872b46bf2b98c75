"""What a sample may look like, and which of its rows are asked."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.converters.conftest import Array, Convert, Data
from toolkit.errors import SampleError
from toolkit.spec import DType, TensorSpec


def columns_of(frame: pd.DataFrame) -> dict[str, Array]:
    return {str(name): frame[name].to_numpy(copy=True) for name in frame}


def test_an_archive_of_one_matrix_is_that_matrix(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    artifact = convert_model(LogisticRegression(max_iter=1000).fit(x, y), {"x": x})
    assert artifact.spec.inputs == (TensorSpec("input", DType.FP32, (4,)),)
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
