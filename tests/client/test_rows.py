"""What does not fit a model is refused by name, row and value; what fits is not bent."""

import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

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
        (None, MATRIX, "got shape []"),
        (object(), MATRIX, "got shape []"),
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
