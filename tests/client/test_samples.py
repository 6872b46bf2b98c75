"""Row files of every kind are read as they stand, or refused with the place."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from toolkit.errors import SampleError
from toolkit.samples import Rows, read_rows


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def shown(rows: Rows) -> object:
    """Give dtype and values of each array in a form that compares."""
    if isinstance(rows, dict):
        return [(name, array.dtype.name, array.tolist()) for name, array in rows.items()]
    return rows.dtype.name, rows.tolist()


PEOPLE = [
    ("name", "object", ["Zoë", "Bo"]),
    ("age", "int64", [34, 51]),
    ("height", "float64", [1.7, 1.9]),
    ("member", "bool", [True, False]),
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "name,age,height,member\nZoë,34,1.7,true\nBo,51,1.9,False\n"),
        (
            "a.CSV",
            "\ufeffname, age, height, member\r\nZoë, 34, 1.7, TRUE\r\nBo, 51, 1.9, false\r\n",
        ),
        (
            "a.jsonl",
            (
                '{"name": "Zoë", "age": 34, "height": 1.7, "member": true}\n\n'
                '{"name": "Bo", "age": 51, "height": 1.9, "member": false}\n'
            ),
        ),
        (
            "a.json",
            (
                '{"name": ["Zoë", "Bo"], "age": [34, 51], "height": [1.7, 1.9],'
                ' "member": [true, false]}'
            ),
        ),
        (
            "a.json",
            (
                '[{"name": "Zoë", "age": 34, "height": 1.7, "member": true},'
                ' {"age": 51, "height": 1.9, "member": false, "name": "Bo"}]'
            ),
        ),
    ],
)
def test_named_columns_keep_their_order_and_types(tmp_path: Path, name: str, content: str) -> None:
    assert shown(read_rows(written(tmp_path / name, content))) == PEOPLE


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"age": 34, "city": "Rome"}', [("age", "int64", [34]), ("city", "object", ["Rome"])]),
        ('{"x": [[[1, 2]]]}', [("x", "int64", [[[1, 2]]])]),
        ('{"x": [true, 2]}', [("x", "float64", [1.0, 2.0])]),
    ],
)
def test_json_columns_may_be_single_values_tensors_or_mixed_numbers(
    tmp_path: Path, content: str, expected: object
) -> None:
    assert shown(read_rows(written(tmp_path / "a.json", content))) == expected


def test_a_parquet_file_gives_its_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({name: values for name, _, values in PEOPLE})
    frame.to_parquet(tmp_path / "a.parquet")

    assert shown(read_rows(tmp_path / "a.parquet")) == PEOPLE


def test_lists_in_a_parquet_column_become_a_tensor(tmp_path: Path) -> None:
    pd.DataFrame({"pixels": [[1.5, 2.0], [3.0, 4.0]]}).to_parquet(tmp_path / "a.parquet")

    assert shown(read_rows(tmp_path / "a.parquet")) == [
        ("pixels", "float64", [[1.5, 2.0], [3.0, 4.0]])
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "1,2\n3,4\n", ("int64", [[1, 2], [3, 4]])),
        ("a.csv", "1,2.5\n3,4\n", ("float64", [[1.0, 2.5], [3.0, 4.0]])),
        ("a.jsonl", "[1, 2]\n[3, 4]\n", ("int64", [[1, 2], [3, 4]])),
        ("a.json", "[[1, 2.5]]", ("float64", [[1.0, 2.5]])),
        ("a.json", "[1, 2]", ("int64", [1, 2])),
        ("a.json", '[["a", "b"]]', ("object", [["a", "b"]])),
        ("a.json", "[[5.1, 3.5, 1.4, 0.2]]", ("float64", [[5.1, 3.5, 1.4, 0.2]])),
        ("a.jsonl", '["line\u2028separator"]', ("object", [["line\u2028separator"]])),
    ],
)
def test_rows_without_names_are_a_matrix(
    tmp_path: Path, name: str, content: str, expected: object
) -> None:
    assert shown(read_rows(written(tmp_path / name, content))) == expected


def test_numpy_files_come_back_as_saved(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", matrix)
    np.savez(tmp_path / "a.npz", x=matrix, city=np.array(["Rome", "Köln"]))

    assert shown(read_rows(tmp_path / "a.npy")) == shown(matrix)
    assert shown(read_rows(str(tmp_path / "a.npz"))) == [
        ("x", "float32", matrix.tolist()),
        ("city", "object", ["Rome", "Köln"]),
    ]


def test_missing_numbers_are_nan_and_text_that_looks_missing_stays_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "dose,country\n1,NA\n,DE\nNA,\n")

    rows = read_rows(path)

    assert isinstance(rows, dict)
    np.testing.assert_array_equal(rows["dose"], [1.0, np.nan, np.nan])
    assert rows["country"].tolist() == ["NA", "DE", None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "city,dose,note\nRome,1,\n,2.5,\n"),
        (
            "a.jsonl",
            '{"city": "Rome", "dose": 1, "note": null}\n{"city": null, "dose": 2.5, "note": null}',
        ),
        ("a.json", '{"city": ["Rome", null], "dose": [1, 2.5], "note": [null, null]}'),
        ("a.parquet", ""),
    ],
)
def test_a_missing_text_is_none_and_a_column_of_nothing_is_nan_in_every_format(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    if content:
        path.write_text(content)
    else:
        frame = pd.DataFrame({"city": ["Rome", None], "dose": [1, 2.5], "note": [None, None]})
        frame.to_parquet(path)

    rows = read_rows(path)

    assert isinstance(rows, dict)
    assert rows["city"].dtype == object
    assert rows["city"].tolist() == ["Rome", None]
    assert rows["dose"].tolist() == [1.0, 2.5]
    assert rows["note"].dtype == np.float64
    assert np.isnan(rows["note"]).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "\n\n", "holds no rows"),
        ("a.csv", "a,b\n", "holds no rows"),
        ("a.csv", "a,b\n1,2\n3\n", "a.csv, line 3: 1 values, but the first line has 2"),
        ("a.csv", "a,b\n1,2,3\n", "a.csv, line 2: 3 values, but the first line has 2"),
        ("a.csv", "1,2\n3,x\n", "its first line is numbers, but column 2 holds text"),
        ("a.csv", ",a\n0,1\n", "line 1: a column has no name"),
        ("a.csv", "a,a\n0,1\n", "line 1: two columns are called 'a'"),
        ("a.csv", b"a\n\xff\n", "is not UTF-8 text"),
        ("a.json", "[[1, 2], [3]]", "ragged"),
        ("a.json", '{"a": [[1], 2]}', "'a': ragged"),
        ("a.json", "[[1, 2]", "line 1: not JSON"),
        ("a.json", "[\n1,\nx]", "line 3: not JSON"),
        ("a.json", "7", "neither a list nor an object: 7"),
        ("a.json", "null", "neither a list nor an object: null"),
        ("a.json", '"text"', 'neither a list nor an object: "text"'),
        ("a.json", "1,2,3", "line 1: not JSON"),
        ("a.json", "{'a': 1}", "line 1: not JSON"),
        ("a.json", "[]", "holds no rows"),
        ("a.json", "{}", "holds no rows"),
        ("a.json", '[{"a": 1}, 2]', "row 1 has other keys"),
        ("a.json", '{"a": ["x", {}]}', "'a': holds a dict"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", "[1]\n[1\n", "line 2: not JSON"),
        ("a.jsonl", "[1]\n7\n", "line 2: neither a list nor an object"),
        ("a.jsonl", '[1]\n{"a": 1}\n', "line 2: lists and objects are mixed"),
        ("a.jsonl", "[1, 2]\n[1]\n", "line 2: its length or its keys differ"),
        ("a.jsonl", '{"a": 1}\n{"b": 1}\n', "line 2: its length or its keys differ"),
        ("a.jsonl", "\n", "holds no rows"),
        ("a.npy", b"nonsense", "could run code"),
        ("a.npy", pickle.dumps([1, 2]), "could run code"),
        ("a.npz", b"PK\3\4nonsense", "numpy cannot load it"),
        ("a.parquet", b"nonsense", "is no Parquet file"),
        ("a.xlsx", b"PK", "rows cannot be read from a .xlsx"),
        ("data", b"1,2", "a file without a suffix"),
    ],
)
def test_a_file_that_holds_no_proper_rows_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    path = written(tmp_path / name, content)

    with pytest.raises(SampleError, match=re.escape(message)) as caught:
        read_rows(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arrays_of_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, None]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([{}, None]))

    for name in ("a.npy", "a.npz"):
        with pytest.raises(SampleError, match="could run code"):
            read_rows(tmp_path / name)


def test_dates_are_neither_numbers_nor_text(tmp_path: Path) -> None:
    pd.DataFrame({"day": pd.to_datetime(["2026-01-01"])}).to_parquet(tmp_path / "a.parquet")

    with pytest.raises(SampleError, match="'day'"):
        read_rows(tmp_path / "a.parquet")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="does not exist"):
        read_rows(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(SampleError, match="cannot be read"):
        read_rows(tmp_path / "b.csv")
