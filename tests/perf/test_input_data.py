"""The rows that a measurement sends are those of the model, bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf import input_data, target
from perf.analyzer import Settings
from perf.measurement import Load, Protocol
from perf.measuring import measure
from tests.perf.proof_rows import SAMPLE_ROWS, write_proof
from toolkit import proof
from toolkit.errors import ConfigError, SampleError

_SHORT = Settings(measurement_interval_ms=100, max_trials=3)


def _hexadecimal(row: dict[str, Any]) -> str:
    return json.dumps(
        {
            name: [
                item.encode().hex() if isinstance(item, str) else item.tobytes().hex()
                for item in values
            ]
            for name, values in sorted(row.items())
        }
    )


@pytest.mark.parametrize(("protocol", "rows"), [(Protocol.GRPC, 1), (Protocol.HTTP, 2)])
def test_every_data_type_arrives_as_the_sample_holds_it(
    measured: Path, protocol: Protocol, rows: int
) -> None:
    kept = measured / "keeper/kept.jsonl"
    kept.unlink(missing_ok=True)

    measure(
        target.of_repository(measured, "keeper"),
        "keeper",
        Load(concurrency=1, batch_size=rows, protocol=protocol),
        _SHORT,
    )

    with np.load(measured / "keeper/1/proof.npz") as stored:
        arrays = {n.removeprefix("input:"): stored[n] for n in stored.files if "input:" in n}
    sample = {
        _hexadecimal({name: array[row] for name, array in arrays.items()})
        for row in range(SAMPLE_ROWS)
    }
    arrived = kept.read_text().splitlines()
    assert len(arrived) > SAMPLE_ROWS
    assert set(arrived) == sample


def test_rows_that_a_proof_made_up_are_told_from_a_sample(measured: Path, tmp_path: Path) -> None:
    keeper = target.of_repository(measured, "keeper")

    data = input_data.prepare(keeper, "keeper", tmp_path)

    assert data.rows == SAMPLE_ROWS
    assert "sample" in data.told


def test_of_a_proof_without_a_sample_the_rows_before_the_hard_ones_are_sent(
    tmp_path: Path,
) -> None:
    write_proof(tmp_path)
    report = {"rows": 60, "sample_rows": 0, "kinds": {"sample": 20, "scaled": 40}}
    (tmp_path / "parity.json").write_text(json.dumps({"report": report}))
    rows = proof.read_rows(tmp_path)
    assert rows is not None

    chosen, told = input_data._ordinary(tmp_path, rows)

    # Of the six kept rows, evenly spaced over the 60, the first two are of the first 20.
    assert len(chosen["FP64"]) == 2
    assert "invented" in told


def test_a_model_without_a_sample_gets_small_values_and_that_is_said(
    measured: Path, tmp_path: Path
) -> None:
    server = target.of_repository(measured, "unbatched")

    data = input_data.prepare(server, "unbatched", tmp_path)

    steps = json.loads(Path(data.source).read_text())["data"]
    assert steps[0]["x"]["shape"] == [1, 2]
    assert "made up" in data.told


def test_a_model_without_a_batch_axis_is_asked_with_all_rows_of_a_file(
    measured: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.json"
    file.write_text("[[1, 2], [3, 4], [5, 6]]")

    data = input_data.prepare(
        target.of_repository(measured, "unbatched"), "unbatched", tmp_path, given=file
    )

    steps = json.loads(Path(data.source).read_text())["data"]
    assert [step["x"]["shape"] for step in steps] == [[3, 2]]


def test_a_table_of_rows_becomes_a_step_a_row(measured: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text\nred\n\u00e9t\u00e9\n")

    data = input_data.prepare(target.of_repository(measured, "text"), "text", tmp_path, given=file)

    steps = json.loads(Path(data.source).read_text())["data"]
    assert [step["text"]["shape"] for step in steps] == [[1], [1]]
    assert steps[1]["text"]["b64"] == "BQAAAMOpdMOp"  # 5 as four bytes, then the UTF-8


def test_json_of_perf_analyzer_is_handed_on(measured: Path, tmp_path: Path) -> None:
    file = tmp_path / "theirs.json"
    file.write_text('{"data": [{"text": ["a"]}]}')

    data = input_data.prepare(target.of_repository(measured, "text"), "text", tmp_path, given=file)

    assert data.source == file


def test_rows_that_do_not_fit_are_refused_with_their_place(measured: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text("[[0.1], [0.2, 0.3]]")

    with pytest.raises(ConfigError, match="row 1"):
        input_data.prepare(target.of_repository(measured, "slow"), "slow", tmp_path, given=file)


def test_a_file_that_is_not_there_is_said(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="does not exist"):
        input_data.prepare(
            target.of_repository(measured, "slow"), "slow", tmp_path, given=tmp_path / "no.csv"
        )
