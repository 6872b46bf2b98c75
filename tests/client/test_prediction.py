"""An answer can be read as arrays, as records and as a DataFrame, whole or row by row."""

import pickle
import re
import sys
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from toolkit.client.prediction import Labels, Prediction
from toolkit.errors import InvalidInputError, MissingDependencyError

PETS = Prediction(
    "pets",
    "2",
    "r1",
    {
        "label": np.array([1, 0]),
        "probabilities": np.array([[0.25, 0.75], [0.5, 0.5]], np.float32),
        "name": np.array(["Rex", "Tom"], dtype=object),
    },
)
NAMES = ["cat", "dog"]


def test_an_answer_is_a_mapping_of_output_to_array() -> None:
    assert list(PETS) == ["label", "probabilities", "name"]
    assert len(PETS) == 3
    assert "label" in PETS
    assert PETS["label"].tolist() == [1, 0]
    assert dict(PETS) == dict(PETS.outputs)
    assert (PETS.model, PETS.version, PETS.request_id, PETS.rows) == ("pets", "2", "r1", 2)
    assert not PETS.single
    assert pickle.loads(pickle.dumps(PETS)).records() == PETS.records()


def test_records_are_plain_values_one_dict_a_row() -> None:
    records = PETS.records()

    assert records == [
        {"label": 1, "probabilities": [0.25, 0.75], "name": "Rex"},
        {"label": 0, "probabilities": [0.5, 0.5], "name": "Tom"},
    ]
    assert [type(value) for value in records[0].values()] == [int, list, str]


def test_a_model_that_tells_its_classes_needs_no_labels() -> None:
    told = replace(PETS, class_names=("cat", "dog"))
    assert told.records() == PETS.records(NAMES)
    assert told.row(0).records() == PETS.records(NAMES)[:1]
    assert list(told.to_pandas()) == ["label", "probabilities_cat", "probabilities_dog", "name"]
    assert told.records({}) == PETS.records()
    assert replace(PETS, class_names=("a", "b", "c")).records() == PETS.records()


def test_labels_name_the_classes_of_an_answer() -> None:
    assert PETS.records(NAMES)[0] == {
        "label": 1,
        "probabilities": {"cat": 0.25, "dog": 0.75},
        "name": "Rex",
    }
    assert PETS.records({"label": NAMES})[0]["label"] == "dog"
    assert PETS.records({"label": {1: "hund", 0: "katze"}})[1]["label"] == "katze"
    assert PETS.records({"label": NAMES, "probabilities": NAMES})[1] == {
        "label": "cat",
        "probabilities": {"cat": 0.5, "dog": 0.5},
        "name": "Tom",
    }


def test_a_data_frame_has_a_column_for_each_value_of_a_row() -> None:
    frame = PETS.to_pandas()

    assert list(frame.columns) == ["label", "probabilities_0", "probabilities_1", "name"]
    assert frame["probabilities_1"].tolist() == [0.75, 0.5]
    assert frame["probabilities_1"].dtype == np.float32
    assert frame["name"].tolist() == ["Rex", "Tom"]
    named = PETS.to_pandas({"label": NAMES, "probabilities": NAMES})
    assert list(named.columns) == ["label", "probabilities_cat", "probabilities_dog", "name"]
    assert named["label"].tolist() == ["dog", "cat"]


def test_polars_gets_the_same_data_frame() -> None:
    for labels in ((), NAMES, {"label": NAMES}):
        frame, same = PETS.to_polars(labels), PETS.to_pandas(labels)
        assert frame.columns == list(same.columns)
        assert frame.rows() == [tuple(row) for row in same.astype(object).to_numpy().tolist()]


def test_without_polars_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)

    with pytest.raises(MissingDependencyError, match="needs polars") as caught:
        PETS.to_polars()
    assert caught.value.hint == "pip install polars, or use to_pandas()"


def test_an_output_of_more_axes_is_one_column_of_arrays() -> None:
    boxes = np.arange(12.0).reshape(2, 3, 2)
    answer = Prediction("m", "1", "", {"boxes": boxes, "score": np.array([[0.5], [1.0]])})

    frame = answer.to_pandas()

    assert list(frame.columns) == ["boxes", "score"]
    np.testing.assert_array_equal(frame["boxes"][1], boxes[1])
    assert frame["score"].tolist() == [0.5, 1.0]
    assert answer.to_polars()["boxes"].to_list() == boxes.tolist()
    assert answer.records()[1] == {"boxes": boxes[1].tolist(), "score": [1.0]}


def test_a_row_of_an_answer_has_no_axis_of_rows() -> None:
    row = PETS.row(0)

    assert row.single
    assert {name: array.shape for name, array in row.items()} == {
        "label": (),
        "probabilities": (2,),
        "name": (),
    }
    assert row["label"] == 1
    assert row["label"].item() == 1
    assert row["name"].item() == "Rex"
    assert (row.model, row.version, row.request_id, row.rows) == ("pets", "2", "r1", 1)
    assert row.records(NAMES) == PETS.records(NAMES)[:1]
    assert row.to_pandas(NAMES).equals(PETS.to_pandas(NAMES)[:1])
    assert PETS.row(-1)["name"].item() == "Tom"
    assert row.row(0) is row
    assert np.shares_memory(row["probabilities"], PETS["probabilities"])
    for place in (2, -3):
        with pytest.raises(IndexError):
            PETS.row(place)
    with pytest.raises(IndexError):
        row.row(1)


def test_a_part_of_an_answer_is_a_view_of_its_rows() -> None:
    part = PETS.part(1, 2)

    assert part.records() == PETS.records()[1:]
    assert np.shares_memory(part["probabilities"], PETS["probabilities"])
    assert PETS.row(1).part(0, 1).records() == part.records()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog", "bird"], "3 labels, but no output of 'pets' has as many values a row"),
        ({"labels": NAMES}, "labels for 'labels', but the outputs are label [2], probabilities"),
        ({"probabilities": ["cat"]}, "1 labels do not fit output 'probabilities' of shape [2, 2]"),
        ({"probabilities": {0: "cat", 1: "dog"}}, "2 labels do not fit output 'probabilities'"),
        ({"label": ["cat"]}, "output 'label' holds 1, which the labels do not name"),
        ({"label": {1: "dog"}}, "output 'label' holds 0, which the labels do not name"),
        ("cat", "labels are a list of names, not one text: 'cat'"),
        (["cat", "cat"], "labels repeat: 'cat', 'cat'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Labels, message: str) -> None:
    for read in (PETS.records, PETS.to_pandas, PETS.to_polars):
        with pytest.raises(InvalidInputError, match=re.escape(message)):
            read(labels)


def test_outputs_of_different_length_have_no_records() -> None:
    answer = Prediction("m", "1", "", {"a": np.zeros(3), "b": np.zeros(5)})

    with pytest.raises(InvalidInputError, match="number of rows: a has 3, b has 5"):
        answer.records()
    with pytest.raises(InvalidInputError, match="number of rows: a has 3, b has 5"):
        answer.to_pandas()


def test_two_outputs_never_share_a_column() -> None:
    outputs: dict[str, Any] = {"p_1": np.zeros(2), "p": np.zeros((2, 2))}

    with pytest.raises(InvalidInputError, match="make two columns 'p_1'"):
        Prediction("m", "1", "", outputs).to_pandas()


def test_an_answer_without_outputs_is_empty() -> None:
    answer = Prediction("m", "1", "", {})

    assert answer.rows == 0
    assert answer.records() == []
    assert answer.to_pandas().empty


def test_a_hundred_thousand_rows_are_taken_apart_quickly() -> None:
    count = 100_000
    answer = Prediction(
        "m", "1", "", {"label": np.arange(count), "probabilities": np.zeros((count, 3))}
    )

    started = perf_counter()
    rows = [answer.row(place) for place in range(count)]

    assert perf_counter() - started < 5
    assert rows[-1]["label"] == count - 1
