"""What does not fit a model is refused by name, row and value; what fits is not bent."""

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from toolkit.client.rows import to_tensors
from toolkit.client.transport import TensorMetadata
from toolkit.errors import InvalidInputError

MATRIX = [TensorMetadata("x", "FP32", (-1, 4))]
PEOPLE = [TensorMetadata("age", "INT64", (-1, 1)), TensorMetadata("city", "BYTES", (-1, 1))]


def one(datatype: str, *shape: int) -> list[TensorMetadata]:
    return [TensorMetadata("x", datatype, shape)]


@pytest.mark.parametrize(
    ("rows", "inputs", "message"),
    [
        ([1, 2, 3], MATRIX, "input 'x' takes FP32 of shape [-1, 4], got shape [3]"),
        (np.zeros((2, 5)), MATRIX, "input 'x' takes FP32 of shape [-1, 4], got shape [2, 5]"),
        (np.zeros((1, 2, 4)), MATRIX, "got shape [1, 2, 4]"),
        (1.5, MATRIX, "got shape []"),
        ([], MATRIX, "input 'x' got no rows"),
        ([[]], MATRIX, "input 'x' got no rows"),
        (np.zeros((0, 4)), MATRIX, "input 'x' got no rows"),
        (pd.DataFrame(columns=list("abcd")), MATRIX, "input 'x' got no rows"),
        ([[1, 2, 3, 4], [1, 2, 3]], MATRIX, "input 'x': row 1 has length 3, but row 0 has 4"),
        ([[1, 2, 3, 4], 5], MATRIX, "input 'x': row 1 has length 1, but row 0 has 4"),
        ([[1, 2, "c", 4]], MATRIX, "input 'x' takes FP32, got 'c' in row 0, value 2"),
        ([["1", "2", "3", "4"]], MATRIX, "input 'x' takes FP32, got '1' in row 0, value 0"),
        (np.array([["a"] * 4]), MATRIX, "input 'x' takes FP32, got text"),
        ([[1, 2, None, 4]], MATRIX, "input 'x' takes FP32, got None in row 0, value 2"),
        ([[1, 2, Fraction(1, 3), 4]], MATRIX, "got Fraction(1, 3) in row 0, value 2"),
        ([[1, 2, 3, 1e300]], MATRIX, "1e+300 in row 0, value 3 cannot be FP32"),
        (np.zeros((1, 4), complex), MATRIX, "got complex128"),
        (np.zeros((1, 4), "datetime64[s]"), MATRIX, "got datetime64[s]"),
        (None, MATRIX, "input 'x' takes FP32 of shape [-1, 4], got None"),
        (object(), MATRIX, "input 'x' takes FP32 of shape [-1, 4], got an object of type object"),
        ([[1.0], [float("nan")]], one("INT64", -1, 1), "nan in row 1, value 0 cannot be INT64"),
        ([[1.5]], one("INT64", -1, 1), "1.5 in row 0, value 0 cannot be INT64"),
        ([[2.0**63]], one("INT64", -1, 1), "cannot be INT64"),
        ([[300], [3]], one("UINT8", -1, 1), "300 in row 0, value 0 cannot be UINT8"),
        ([[-1]], one("UINT64", -1, 1), "-1 in row 0, value 0 cannot be UINT64"),
        ([[2**64]], one("UINT64", -1, 1), "x' takes UINT64, got object"),
        ([[2]], one("BOOL", -1, 1), "2 in row 0, value 0 cannot be BOOL"),
        ([["a"], [3]], one("BYTES", -1, 1), "input 'x' takes text, got 3 in row 1, value 0"),
        ([["a"], [float("nan")]], one("BYTES", -1, 1), "takes text, got nan in row 1"),
        ([["a"], ["b", "c"]], one("BYTES", -1, 1), "row 1 has length 2, but row 0 has 1"),
        ([["\ud800"]], one("BYTES", -1, 1), "cannot be written as UTF-8"),
        ([[1.0]], one("BF16", -1, 1), "numpy has no data type for BF16"),
        ([[1, 2]], PEOPLE, "the model takes 2 inputs (age, city), got one array"),
        ({"age": [1]}, PEOPLE, "(missing: 'city')"),
        ({"age": [1], "town": ["a"]}, PEOPLE, "(missing: 'city'; unknown: 'town')"),
        ({"age": [1], "city": ["a"], "x": [0]}, PEOPLE, "(unknown: 'x')"),
        ({"age": ["old"], "city": ["a"]}, PEOPLE, "input 'age' takes INT64, got 'old' in row 0"),
        (pd.DataFrame({"a": [1], "b": [2]}), MATRIX, "got 2 columns: 'a', 'b'"),
        (
            pd.DataFrame({"a": [1], "b": [2], "c": ["x"], "d": [4]}),
            MATRIX,
            "column 'c' takes FP32, got 'x' in row 0",
        ),
        (
            pd.DataFrame([[1, 2, 3, 4]], columns=list("aabc")),
            MATRIX,
            "columns of the same name: 'a'",
        ),
        ({"a": [1, 2], "b": [1], "c": [1], "d": [1]}, MATRIX, "a has 2, b has 1, c has 1"),
        ({"X": [[1, 2, 3, 4]]}, MATRIX, "got 1 columns: 'X'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_the_place(
    rows: object, inputs: list[TensorMetadata], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        to_tensors(rows, inputs)


@pytest.mark.parametrize(
    ("rows", "inputs", "expected"),
    [
        ([7, 8], one("INT64", -1, 1), [[7], [8]]),
        ([7, 8], one("INT64", -1), [7, 8]),
        (7, one("INT64", -1, 1), [[7]]),
        ([7.0, 8.0], one("INT32", -1, 1), [[7], [8]]),
        ([1, 0], one("BOOL", -1, 1), [[True], [False]]),
        ([True, False], one("FP32", -1, 1), [[1.0], [0.0]]),
        ([5, 6, 7], one("INT64", -1, -1), [[5, 6, 7]]),
        (pd.DataFrame({"x": [5, 6]}), one("INT64", -1, -1), [[5], [6]]),
        (np.zeros((3, 2, 2)), one("FP32", -1, 3, 2, 2), np.zeros((1, 3, 2, 2))),
        ([2**63 - 1, -(2**63)], one("INT64", -1, 1), [[2**63 - 1], [-(2**63)]]),
        (pd.DataFrame({"a": [1, 2], "b": [True, False]}), one("FP32", -1, 2), [[1, 1], [2, 0]]),
        (pd.DataFrame({"a": [1, 2]}, dtype="Int64"), one("INT64", -1, 1), [[1], [2]]),
        (np.array([[1, 2.5]], dtype=object), one("FP64", -1, 2), [[1.0, 2.5]]),
        ([np.inf, -np.inf, np.nan], one("FP32", -1, 3), [[np.inf, -np.inf, np.nan]]),
        (pd.Series(["a", "b"]), one("BYTES", -1, 1), [[b"a"], [b"b"]]),
        ([b"a\0"], one("BYTES", -1, 1), np.array([[b"a\0"]], dtype=object)),
    ],
)
def test_rows_take_the_shape_and_type_of_the_input(
    rows: object, inputs: list[TensorMetadata], expected: object
) -> None:
    tensor = to_tensors(rows, inputs)["x"]

    np.testing.assert_array_equal(tensor, expected)


def test_an_optional_input_may_be_missing() -> None:
    assert set(to_tensors({"age": [1]}, PEOPLE, optional={"city"})) == {"age"}


def test_an_array_that_fits_is_not_copied() -> None:
    rows = np.zeros((2, 4), dtype=np.float32)

    assert to_tensors(rows, MATRIX)["x"] is rows


def test_a_number_that_is_missing_among_integers_is_refused_with_advice() -> None:
    with pytest.raises(InvalidInputError, match="nan in row 1, value 0 cannot be INT64") as caught:
        to_tensors(pd.DataFrame({"age": [1, None], "city": ["a", "b"]}), PEOPLE)

    assert caught.value.hint == "INT64 has no missing value: fill it, or leave the row out"


FRAMES = pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])


@FRAMES
def test_columns_of_any_library_go_by_name_and_take_the_model_s_types(
    frame: Callable[[dict[str, Any]], object],
) -> None:
    tensors = to_tensors(frame({"city": ["Rome", "Köln"], "age": [34, 5]}), PEOPLE)

    assert list(tensors) == ["age", "city"]
    assert tensors["age"].dtype == np.int64
    assert tensors["age"].tolist() == [[34], [5]]
    assert tensors["city"].tolist() == [[b"Rome"], ["Köln".encode()]]


@FRAMES
def test_columns_of_one_input_go_in_the_order_the_model_was_trained_with(
    frame: Callable[[dict[str, Any]], object],
) -> None:
    rows = frame({"b": [2, None], "a": [1.5, 3.0]})

    tensor = to_tensors(rows, one("FP32", -1, 2), feature_names=("a", "b"))["x"]

    np.testing.assert_array_equal(tensor, [[1.5, 2.0], [3.0, np.nan]])


@FRAMES
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, 2], "c": [1, 2]}, "(missing: 'b'; unknown: 'c')"),
        ({"a": [1, 2]}, "(missing: 'b')"),
        ({"a": [1, 2], "b": [1, 2], "target": [0, 1]}, "(unknown: 'target')"),
        ({"a": [1, 2], "b": ["x", "y"]}, "column 'b' takes FP32, got 'x' in row 0"),
        ({"a": [1, 2], "b": [dt.datetime(2020, 1, 1)] * 2}, "got datetime64["),  # noqa: DTZ001
        ({"a": [1, 2], "b": [dt.timedelta(1)] * 2}, "got timedelta64["),
        ({"a": [1, 2], "b": [Decimal("1.5")] * 2}, "got Decimal('1.5') in row 0"),
        ({"a": [1, 2], "b": [[1, 2], [3]]}, "column 'b': row 1 has length 1, but row 0 has 2"),
        ({"a": [1, 2], "b": [[1], [3]]}, "column 'b' has shape [2, 1], not one value a row"),
        ({"a": [1, 2], "b": [True, None]}, "column 'b' takes FP32, got None in row 1"),
        ({"a": [1, 2], "b": [1e300, 0]}, "column 'b': 1e+300 in row 0 cannot be FP32"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    frame: Callable[[dict[str, Any]], object], columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        to_tensors(frame(columns), one("FP32", -1, 2), feature_names=("a", "b"))


@FRAMES
def test_a_column_of_lists_is_a_tensor(frame: Callable[[dict[str, Any]], object]) -> None:
    tensor = to_tensors(frame({"x": [[1, 2], [3, 4]]}), one("FP32", -1, 2))["x"]

    assert tensor.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_lazy_frame_is_refused_with_the_way_to_its_rows() -> None:
    with pytest.raises(InvalidInputError, match="a LazyFrame holds no rows yet") as caught:
        to_tensors(pl.LazyFrame({"a": [1], "b": [2]}), MATRIX)

    assert caught.value.hint == "give frame.collect()"


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None], dtype="Int64"),
        pd.array([1, None], dtype="Float64"),
        pd.array([True, None], dtype="boolean"),
        pd.array([1, None], dtype="int64[pyarrow]"),
        pd.arrays.SparseArray([1.0, np.nan]),
        pd.Categorical([1, None]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_value_missing_in_a_nullable_column_is_nan_to_a_float_and_refused_by_an_integer(
    column: Any,
) -> None:
    frame = pd.DataFrame({"x": column})

    np.testing.assert_array_equal(to_tensors(frame, one("FP64", -1, 1))["x"], [[1.0], [np.nan]])
    with pytest.raises(InvalidInputError, match="nan in row 1, value 0 cannot be INT64"):
        to_tensors(frame, one("INT64", -1, 1))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"age": [1, 2], "city": pd.Categorical(["b", "a"])}),
        pl.DataFrame(
            {"age": [1, 2], "city": ["b", "a"]}, schema_overrides={"city": pl.Categorical}
        ),
        pl.DataFrame(
            {"age": [1, 2], "city": ["b", "a"]}, schema_overrides={"city": pl.Enum(["a", "b"])}
        ),
        pa.table({"age": [1, 2], "city": pa.array(["b", "a"]).dictionary_encode()}),
        pa.RecordBatch.from_pydict({"age": [1, 2], "city": ["b", "a"]}),
        np.array([(1, "b"), (2, "a")], dtype=[("age", "i4"), ("city", "U4")]),
        [{"age": 1, "city": "b"}, {"city": "a", "age": 2}],
    ],
    ids=lambda frame: type(frame).__module__ + type(frame).__name__,
)
def test_categories_and_records_go_by_their_values(frame: object) -> None:
    tensors = to_tensors(frame, PEOPLE)

    assert {name: array.tolist() for name, array in tensors.items()} == {
        "age": [[1], [2]],
        "city": [[b"b"], [b"a"]],
    }


@pytest.mark.parametrize(
    "cities",
    [
        pd.DataFrame({"x": pd.Categorical(["b", None, "a"])}),
        pl.DataFrame({"x": pl.Series(["b", None, "a"], dtype=pl.Categorical)}),
        pa.table({"x": pa.array(["b", None, "a"]).dictionary_encode()}),
    ],
    ids=["pandas", "polars", "pyarrow"],
)
def test_a_missing_category_is_refused(cities: object) -> None:
    with pytest.raises(InvalidInputError, match=r"input 'x' takes text, got (nan|None) in row 1"):
        to_tensors(cities, one("BYTES", -1, 1))


def test_a_category_of_text_is_no_number() -> None:
    frame = pd.DataFrame({"x": pd.Categorical(["b", "a"])})

    with pytest.raises(InvalidInputError, match="input 'x' takes FP32, got 'b' in row 0"):
        to_tensors(frame, one("FP32", -1, 1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"age": 1, "city": "a"}, {"age": 2}], "row 1 lacks 'city'"),
        ([{"age": 1}, {"age": 2, "city": "a"}], "row 1 has 'city', which row 0 lacks"),
        ([{"age": 1, "city": "a"}, [2, "b"]], "row 1 is a list, but row 0 is a dict"),
        (pa.table([[1], [2]], names=["age", "age"]), "columns of the same name: 'age'"),
    ],
)
def test_records_that_differ_are_refused_by_their_row(rows: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        to_tensors(rows, PEOPLE)


@pytest.mark.parametrize(
    "row",
    [
        {"b": 2, "a": 1},
        [{"b": 2, "a": 1}],
        pd.Series({"b": 2, "a": 1}),
        [pd.Series({"b": 2, "a": 1})],
        [np.array([(2, 1.0)], dtype=[("b", "i4"), ("a", "f8")])[0]],
    ],
)
def test_one_row_goes_by_its_names(row: object) -> None:
    tensor = to_tensors(row, one("FP32", -1, 2), feature_names=("a", "b"))["x"]

    assert tensor.tolist() == [[1.0, 2.0]]


def test_a_series_of_other_names_than_the_model_s_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=re.escape("(missing: 'b'; unknown: 'c')")):
        to_tensors(pd.Series({"c": 2, "a": 1}), one("FP32", -1, 2), feature_names=("a", "b"))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1, 4),
        torch.ones(1, 4, requires_grad=True),
        torch.ones(1, 4, dtype=torch.bfloat16, requires_grad=True),
        torch.ones(1, 4, dtype=torch.int8),
        [torch.ones(4, requires_grad=True)],
        torch.ones(4, 1).T,
    ],
)
def test_a_tensor_of_torch_is_an_array(tensor: object) -> None:
    assert to_tensors(tensor, MATRIX)["x"].tolist() == [[1.0] * 4]
    assert to_tensors({"x": tensor}, MATRIX)["x"].tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.ones(1, 4, device="meta"), "got a tensor of torch.float32, torch.strided, on meta"),
        (torch.eye(4).to_sparse(), "got a tensor of torch.float32, torch.sparse_coo, on cpu"),
        (sparse.csr_array(np.eye(4)), "got a sparse matrix of shape [4, 4]"),
        (
            np.ma.array(np.ones((1, 4)), mask=[[False, True, False, False]]),
            "a masked array with 1 values masked",
        ),
        ((value for value in range(4)), "got an object of type generator"),
    ],
)
def test_what_is_no_plain_array_is_refused_in_one_line(rows: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        to_tensors(rows, MATRIX)


@pytest.mark.parametrize(
    ("given", "shape", "hint"),
    [
        ((2, 5), (-1, 4), "one column too many: the model was trained on 4; is the target"),
        ((5,), (-1, 4), "one column too many: the model was trained on 4"),
        ((2, 3), (-1, 4), "one column too few: the model was trained on 4; did one become"),
        ((2, 9), (-1, 4), "the model was trained on 4 columns, the rows have 9"),
        ((4, 9), (-1, 4), "rows and columns look exchanged: give rows.T"),
        ((28, 28), (-1, 784), "as many values as one row: give rows.reshape(1, -1)"),
        ((5, 28, 28), (-1, 784), "as many values a row, in other axes: give rows.reshape(-1, 784)"),
        ((5, 1, 4), (-1, 4), "an axis of length 1 too many: give rows.squeeze(1)"),
        ((5, 8, 9, 3), (-1, 3, 8, 9), "the channels come last: give rows.transpose(0, 3, 1, 2)"),
        ((5, 3, 8, 9), (-1, 8, 9, 3), "the channels come first: give rows.transpose(0, 2, 3, 1)"),
        ((8, 9, 3), (-1, 3, 8, 9), "the channels come last: give rows.transpose(2, 0, 1)[None]"),
        ((3, 8, 9), (-1, 8, 9, 3), "the channels come first: give rows.transpose(1, 2, 0)[None]"),
        ((5, 4), (1, 4), "the model's shape is likely wrong: it was exported for exactly 1 row,"),
        ((4,), (8, 4), "the model's shape is likely wrong: it was exported for exactly 8 rows,"),
    ],
)
def test_a_shape_that_does_not_fit_comes_with_what_is_likely_wrong(
    given: tuple[int, ...], shape: tuple[int, ...], hint: str
) -> None:
    rows = np.zeros(given, np.float32)
    expected = f"input 'x' takes FP32 of shape {list(shape)}, got shape {list(given)}"

    with pytest.raises(InvalidInputError, match=re.escape(expected)) as caught:
        to_tensors(rows, one("FP32", *shape))

    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)
    told = re.search(r"rows\.(T|\w+\(.*\)(\[None\])?)$", caught.value.hint)
    if told:  # the advice is right
        fixed = eval(told[0], {"rows": rows})  # noqa: S307
        assert to_tensors(fixed, one("FP32", *shape))["x"].shape == fixed.shape


def test_columns_beyond_the_model_s_come_with_what_is_likely_wrong() -> None:
    with pytest.raises(InvalidInputError, match="got 5 columns") as caught:
        to_tensors(pd.DataFrame([[1, 2, 3, 4, 0]], columns=list("abcdy")), MATRIX)

    assert caught.value.hint is not None
    assert caught.value.hint.startswith("one column too many: the model was trained on 4")


def test_a_column_may_have_the_name_of_the_input() -> None:
    frame = pd.DataFrame({"y": [2.0], "x": [1.0]})

    assert to_tensors(frame, one("FP32", -1, 2), feature_names=("x", "y"))["x"].tolist() == [[1, 2]]
