"""A journal outlives whatever ends its writer."""

import json
import math
from pathlib import Path

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


def test_a_damaged_line_in_the_middle_is_named(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({"candidate": {"colour": "red"}})
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(ConfigError, match="line 2"):
        read(path)


def test_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        read(tmp_path / "missing.jsonl")
