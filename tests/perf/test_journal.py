"""A journal outlives whatever ends its writer."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perf.candidates import Candidate
from perf.journal import Header, Point, begin, read
from perf.measurement import Load, Measurement
from toolkit.errors import ConfigError

HEADER = Header(
    command="sweep", model="m", plan={"loads": ["concurrency 1"]}, configuration={"name": "m"},
    machine={}, server={},
)  # fmt: skip
LOAD = Load(concurrency=1)
MEASURED = Measurement(
    load=LOAD, requests=5, inferences_per_second=10.5, mean_us=math.nan, p50_us=1, p90_us=2,
    p95_us=3, p99_us=4, batch_sizes={1: 3, 8: 2},
)  # fmt: skip
POINTS = (
    Point(candidate=Candidate(instance_count=2), load=LOAD, measurement=MEASURED),
    Point(candidate=Candidate(preferred_batch_size=(8, 16)), load=LOAD, failure="refused"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    with begin(path, HEADER) as journal:
        for point in POINTS:
            journal.append(point)
    return path


def test_what_was_written_is_read_again(path: Path) -> None:
    header, points = read(path)

    assert header == HEADER
    assert points[1] == POINTS[1]
    assert points[0].measurement is not None
    assert math.isnan(points[0].measurement.mean_us)
    assert points[0].measurement.batch_sizes == {1: 3, 8: 2}
    assert points[0].measurement.mean_batch_size == pytest.approx(19 / 5)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_that_was_cut_off_is_cut_away_and_the_rest_goes_on(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])

    assert read(path)[1] == POINTS[:1] or len(read(path)[1]) == 1
    with begin(path, HEADER) as journal:
        assert len(journal.points) == 1
        journal.append(POINTS[1])

    assert [point.candidate for point in read(path)[1]] == [one.candidate for one in POINTS]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model": "n"}, "model"),
        ({"plan": {}}, "plan"),
        ({"configuration": {"name": "m", "max_batch_size": 1}}, "configuration"),
    ],
)
def test_a_journal_about_something_else_is_left_alone(
    path: Path, other: dict[str, object], named: str
) -> None:
    before = path.read_bytes()
    fields = {name: getattr(HEADER, name) for name in Header.__slots__}

    with pytest.raises(ConfigError, match=f"another {named}"):
        begin(path, Header(**{**fields, **other}))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"\xff\xfe", 1),
        (b"", 1),
        (b"[]\n", 1),
        (b'{"format": 9}\n', 1),
        (b"name,age\n", 1),
    ],
)
def test_a_file_that_is_no_journal_is_refused_with_its_line(
    tmp_path: Path, text: bytes, line: int
) -> None:
    path = tmp_path / "other"
    path.write_bytes(text)

    with pytest.raises(ConfigError, match=f"line {line}"):
        read(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}", "it has no 'candidate'"),
        (b"[1]", "is no JSON object"),
        (b"3", "is no JSON object"),
        (b"not JSON", "Expecting value"),
        (b'{"candidate": "\xff"}', "it is no text"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"candidate": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
    ],
)
def test_a_damaged_line_in_the_middle_is_named(path: Path, line: bytes, reason: str) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join((lines[0], line, lines[2], b"")))

    with pytest.raises(ConfigError, match=f"line 2, .*{reason}"):
        read(path)


LATENCIES = {"mean_us", "p50_us", "p90_us", "p95_us", "p99_us"}
COUNTS = {"requests", "failures", "executions", "cache_hits"}
NUMBERS = [
    name
    for name in Measurement.__slots__
    if name not in {"load", "batch_sizes", "memory_bytes", "stable"}
]
NO_NUMBERS = (True, "3", [3], {"a": 3}, math.inf, math.nan, 10**400)
WRONG = [
    *(("measurement", name, value) for name in NUMBERS for value in NO_NUMBERS),
    *(("measurement", name, None) for name in NUMBERS if name not in LATENCIES),
    *(("measurement", name, 1.5) for name in COUNTS),
    ("measurement", "memory_bytes", 1.5),
    ("measurement", "stable", 1),
    ("measurement", "stable", None),
    ("measurement", "load", None),
    ("measurement", "batch_sizes", None),
    ("measurement", "batch_sizes", [1, 2]),
    ("measurement", "batch_sizes", {"many": 2}),
    ("measurement", "batch_sizes", {"1": None}),
    ("measurement", "batch_sizes", {"1": 2.5}),
    ("load", "concurrency", 1.5),
    ("load", "concurrency", "1"),
    ("load", "concurrency", None),
    ("load", "concurrency", 0),
    ("load", "request_rate", 5),
    ("load", "batch_size", True),
    ("load", "protocol", "ftp"),
    ("load", "protocol", ["grpc"]),
    ("load", "shared_memory", None),
    ("load", "colour", "red"),
    ("candidate", "instance_count", "2"),
    ("candidate", "instance_count", 2.5),
    ("candidate", "instance_count", True),
    ("candidate", "dynamic_batching", 1),
    ("candidate", "preferred_batch_size", 8),
    ("candidate", "preferred_batch_size", "8"),
    ("candidate", "preferred_batch_size", [8, None]),
    ("candidate", "colour", "red"),
    ("point", "failure", 3),
    ("point", "at", None),
    ("point", "load", "concurrency 1"),
    ("point", "candidate", []),
    ("point", "measurement", 3),
]


@pytest.mark.parametrize(("part", "name", "value"), WRONG)
def test_a_value_of_another_type_is_refused_with_its_line(
    path: Path, part: str, name: str, value: object
) -> None:
    lines = path.read_text().splitlines()
    record = json.loads(lines[1])
    {"point": record, **record}[part][name] = value
    path.write_text("\n".join((lines[0], json.dumps(record), lines[2], "")))

    with pytest.raises(ConfigError, match="line 2, is not of a journal") as error:
        read(path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", None), ("command", 3), ("plan", []), ("plan", None), ("configuration", "text"),
        ("machine", 3), ("server", None), ("started", 20261121), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_header_of_other_types_is_refused(path: Path, name: str, value: object) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join((json.dumps({**json.loads(lines[0]), name: value}), lines[1], "")))

    with pytest.raises(ConfigError, match="line 1, is not of a journal"):
        read(path)


def rewritten(path: Path, **changes: Any) -> Measurement:
    """Change a written measurement, and read it."""
    lines = path.read_text().splitlines()
    record = json.loads(lines[1])
    record["measurement"].update(changes)
    path.write_text("\n".join((lines[0], json.dumps(record), "")))
    measured = read(path)[1][0].measurement
    assert measured is not None
    return measured


@pytest.mark.parametrize("name", sorted(LATENCIES))
def test_a_latency_may_be_missing(path: Path, name: str) -> None:
    assert math.isnan(getattr(rewritten(path, **{name: None}), name))


def test_a_whole_number_serves_as_a_float_and_what_is_not_known_is_passed_over(path: Path) -> None:
    read_again = rewritten(path, inferences_per_second=10, mean_us=7, colour="red")

    assert read_again == replace(MEASURED, inferences_per_second=10.0, mean_us=7.0)


@pytest.mark.parametrize("reason", ["naïve", "one\u2028two", "one\x85two\x0bthree", "caf\udce9"])
def test_any_words_may_be_the_reason_of_a_failure(path: Path, reason: str) -> None:
    with begin(path, HEADER) as journal:
        journal.append(replace(POINTS[1], failure=reason))

    assert read(path)[1][-1].failure == reason


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_line_that_was_cut_off_within_a_letter_is_passed_over(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"failure": "' + "\N{GRINNING FACE}".encode()[:cut])

    assert len(read(path)[1]) == len(POINTS)
    with begin(path, HEADER) as journal:
        journal.append(POINTS[1])
    assert len(read(path)[1]) == len(POINTS) + 1


def test_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        read(tmp_path / "missing.jsonl")
