"""The CSV table in Model Analyzer's columns."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from perf.candidates import AS_SERVED, Candidate
from perf.journal import Header, Point
from perf.measurement import Load
from perf.report import csv_text, write_csv
from tests.perf.report import journals
from tests.perf.report.journals import failed, header, measured, point

MODEL_ANALYZERS_OWN = [
    "Model", "Batch", "Concurrency", "Model Config Path", "Instance Group", "Max Batch Size",
    "Satisfies Constraints", "Throughput (infer/sec)", "p99 Latency (ms)",
]  # fmt: skip


def table(*written: tuple[Header, list[Point]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(written))))


def test_model_analyzers_own_columns_come_first_and_in_its_order() -> None:
    first = csv_text([]).splitlines()[0]
    assert first.split(",")[:9] == MODEL_ANALYZERS_OWN


def test_a_row_has_the_figures_in_milliseconds() -> None:
    [row] = table((header(), [point(AS_SERVED, 1234.56, 4, 16)]))
    assert row["Model"] == "churn"
    assert row["Batch"] == "1"
    assert row["Concurrency"] == "16"
    assert row["Throughput (infer/sec)"] == "1234.6"
    assert row["p99 Latency (ms)"] == "4.0"
    assert row["p50 Latency (ms)"] == "2.2"
    assert row["Avg Latency (ms)"] == "2.4"
    assert row["Client Send/Recv (ms)"] == "0.12"
    assert row["Response Wait Time (ms)"] == "2.28"
    assert row["Server Queue time (ms)"] == "0.84"
    assert row["RAM Usage (MB)"] == "157.3"
    assert row["Instance Group"] == "1:CPU"
    assert row["Max Batch Size"] == "64"


def test_each_configuration_has_a_name_and_says_what_it_changes() -> None:
    faster = Candidate(instance_count=4, max_batch_size=8)
    rows = table((header(), [point(one, 100, 1) for one in (AS_SERVED, faster, faster)]))
    assert [row["Model Config Path"] for row in rows] == [
        "churn_config_default", "churn_config_0", "churn_config_0",
    ]  # fmt: skip
    assert rows[1]["Configuration"] == "max_batch_size=8 instance_count=4"
    assert rows[1]["Instance Group"] == "4:CPU"
    assert rows[1]["Max Batch Size"] == "8"


@pytest.mark.parametrize(("p99", "answer"), [(4.0, "Yes"), (4.1, "No"), (float("nan"), "No")])
def test_constraints_are_the_limits_that_were_asked_for(p99: float, answer: str) -> None:
    [row] = table((header(plan={"max_p99_ms": 4}), [point(AS_SERVED, 100, p99)]))
    assert row["Satisfies Constraints"] == answer


def test_a_failed_point_has_a_row_and_its_reason() -> None:
    [row] = table((header(), [failed(AS_SERVED, 'the "server" ended,\nby itself')]))
    assert row["Satisfies Constraints"] == "No"
    assert row["Throughput (infer/sec)"] == row["p99 Latency (ms)"] == ""
    assert row["Failure"] == 'the "server" ended,\nby itself'


def test_a_request_rate_stands_in_its_own_column() -> None:
    load = Load(request_rate=250.5, batch_size=4)
    one = Point(candidate=AS_SERVED, load=load, measurement=measured(load, 1002, 3))
    [row] = table((header(), [one]))
    assert (row["Request Rate"], row["Concurrency"], row["Batch"]) == ("250.5", "", "4")


def test_pandas_reads_the_file_with_numbers_in_the_columns_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics-model-inference.csv"
    write_csv(path, [(header(), [*journals.grid(callers=(1, 8)), failed(AS_SERVED, "gone")])])
    read = pd.read_csv(path)
    assert len(read) == 121
    numbers = read[["Throughput (infer/sec)", "p99 Latency (ms)", "Server Queue time (ms)"]]
    assert all(kind == "float64" for kind in numbers.dtypes)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
