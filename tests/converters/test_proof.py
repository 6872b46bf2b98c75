"""A conversion is believed only when its answers are the original's."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.linear_model import LogisticRegression

from converters import ConversionOptions, conversion, exact_onnx, parity, table
from converters.answers import Kind, Output
from converters.rows import Form, Rows
from converters.table import Converted, Question
from tests.converters.conftest import Convert, Data
from toolkit.errors import ConfigError, ParityError
from toolkit.spec import Road


@pytest.fixture
def sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the conversion lose a weight, as a faulty converter would."""
    honest = exact_onnx.to_onnx

    def lose_a_weight(question: Question, options: ConversionOptions, workdir: Path) -> Converted:
        converted = honest(question, options, workdir)
        model = onnx.load(converted.files["model.onnx"])
        weights = next(i for i in model.graph.initializer if list(i.dims) == [4, 3])
        changed = onnx.numpy_helper.to_array(weights).copy()
        changed[2, 0] += 0.75
        weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
        converted.files["model.onnx"].write_bytes(model.SerializeToString())
        return converted

    monkeypatch.setattr(exact_onnx, "to_onnx", lose_a_weight)


@pytest.fixture
def model(iris: Data) -> Any:
    return LogisticRegression(max_iter=1000).fit(*iris)


@pytest.mark.usefixtures("sabotage")
def test_a_converted_model_with_a_wrong_weight_is_refused_with_its_worst_row(
    convert_model: Convert, model: Any, iris: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ENTRIES", table.ENTRIES[:1])
    with pytest.raises(ParityError, match=r"another label for .*; worst row: \{") as caught:
        convert_model(model, iris[0], road=Road.ONNX)
    shown = json.loads(caught.value.message.partition("worst row: ")[2])
    row = np.array([shown["inputs"]["input"]])
    assert shown["original"]["label"] == model.predict(row)[0]
    assert shown["converted"]["label"] != shown["original"]["label"]


@pytest.mark.usefixtures("sabotage")
def test_the_ladder_goes_on_after_a_failed_proof_and_says_so(
    convert_model: Convert, model: Any, iris: Data
) -> None:
    artifact = convert_model(model, iris[0])
    assert (artifact.road, artifact.rung) == (Road.ONNX, "skl2onnx")
    assert artifact.refused[0].startswith("onnx (exact): the converted model ")


def test_the_report_is_stored_with_versions_and_digests(
    convert_model: Convert, model: Any, iris: Data
) -> None:
    artifact = convert_model(model, iris[0], seed=7)
    stored = json.loads(artifact.files["parity.json"].read_text())
    assert stored["report"]["rows"] == artifact.parity.rows
    assert stored["report"]["passed"] is True
    assert stored["seed"] == 7
    assert stored["road"] == "onnx"
    assert len(stored["source_sha256"]) == len(stored["model_sha256"]) == 64
    assert {"scikit-learn", "skl2onnx", "onnxruntime"} <= stored["report"]["versions"].keys()


def test_other_seeds_generate_other_rows(convert_model: Convert, model: Any, iris: Data) -> None:
    first, second = (
        np.load(convert_model(model, iris[0][:10], seed=seed).files["proof.npz"])["input:input"]
        for seed in (1, 2)
    )
    np.testing.assert_array_equal(first[:10], second[:10])
    assert not np.array_equal(first[10:], second[10:])


def answers(
    kind: Kind,
    original: list[Any],
    converted: list[Any],
    atol: float = 1e-4,
    rtol: float = 1e-4,
) -> parity.Comparison:
    expected, given = np.array(original), np.array(converted)
    rows = Rows(Form.MATRIX, (), {"input": np.zeros((len(original), 1))}, len(original))
    output = Output("x", kind, expected)
    return parity.compare((output,), {"x": given}, rows, atol=atol, rtol=rtol)


@pytest.mark.parametrize(
    ("kind", "original", "converted", "passed"),
    [
        (Kind.LABEL, [1, 2], [1, 2], True),
        (Kind.LABEL, [1, 2], [1, 3], False),
        (Kind.LABEL, ["a", "b"], ["a", "c"], False),
        (Kind.PROBABILITY, [0.5, 1e-9], [0.50009, 0.0], True),
        (Kind.PROBABILITY, [0.5], [0.5002], False),
        (Kind.VALUE, [1000.0], [1000.09], True),
        (Kind.VALUE, [1000.0], [1000.2], False),
        (Kind.VALUE, [0.0], [0.00009], True),
        (Kind.VALUE, [np.nan, np.inf], [np.nan, np.inf], True),
        (Kind.VALUE, [np.nan], [0.0], False),
        (Kind.VALUE, [0.0], [np.nan], False),
        (Kind.VALUE, [np.inf], [-np.inf], False),
    ],
)
def test_differences_are_judged_by_what_the_output_means(
    kind: Kind, original: list[Any], converted: list[Any], passed: bool
) -> None:
    assert answers(kind, original, converted).passed is passed


def test_zero_tolerance_asks_for_equal_numbers() -> None:
    assert answers(Kind.VALUE, [1.5, 0.0], [1.5, 0.0], atol=0.0, rtol=0.0).passed
    one_step_off = [np.nextafter(1.5, 2.0), 0.0]
    assert not answers(Kind.VALUE, [1.5, 0.0], one_step_off, atol=0.0, rtol=0.0).passed


def test_another_shape_is_a_difference() -> None:
    assert not answers(Kind.VALUE, [[1.0]], [[1.0, 2.0]]).passed


def test_the_worst_row_is_the_one_farthest_over_its_tolerance() -> None:
    found = answers(Kind.VALUE, [1.0, 1.0, 1.0], [1.0, 1.5, 1.1])
    assert found.worst_row is not None
    assert found.worst_row["row"] == 1
    assert found.worst_absolute == pytest.approx(0.5)
    assert found.rows_over == 2


def test_options_refuse_a_negative_tolerance() -> None:
    with pytest.raises(ConfigError, match="atol"):
        ConversionOptions(name="m", atol=-1.0)
    with pytest.raises(ConfigError, match="rtol"):
        dataclasses.replace(ConversionOptions(name="m"), rtol=float("nan"))


def test_convert_is_what_the_package_exports() -> None:
    import converters

    assert converters.convert is conversion.convert
