"""``toolkit perf report``: from journals to files, and what is refused."""

from pathlib import Path

import pytest

from perf.candidates import AS_SERVED, Candidate
from tests.cli.program import Run
from tests.perf.report import journals
from tests.perf.report.journals import header, point


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    points = [point(AS_SERVED, 1000, 4), point(Candidate(instance_count=2), 2300, 3)]
    return journals.write(tmp_path / "sweep.jsonl", header(), points)


def test_a_journal_becomes_a_page_pictures_and_a_table(run: Run, sweep: Path) -> None:
    ended = run("perf", "report", sweep, "--png", "charts", "--csv", "all.csv")
    assert ended.code == 0
    assert ended.out == (
        "churn with 2 instances serves 2,300 inferences/s at p99 3.00 ms, 2.3 times the"
        " configuration as served.\n"
    )
    assert ended.err.split() == [
        "report.html", "charts/churn-front.png", "charts/churn-time.png", "all.csv",
    ]  # fmt: skip
    assert Path("report.html").read_text().startswith("<!doctype html>")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in Path("charts").iterdir())
    assert len(Path("all.csv").read_text().splitlines()) == 3


def test_an_older_report_is_replaced_and_nothing_else_is_left(run: Run, sweep: Path) -> None:
    Path("report.html").write_text("old")
    assert run("perf", "report", sweep).code == 0
    assert Path("report.html").stat().st_size > 500_000
    assert sorted(path.name for path in Path().iterdir()) == ["report.html", "sweep.jsonl"]


def test_a_journal_that_is_named_twice_counts_once(run: Run, sweep: Path) -> None:
    ended = run("perf", "report", sweep, f"./{sweep.name}", "--csv", "all.csv")
    assert ended.code == 0
    assert len(Path("all.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("gone.jsonl",), "there is no gone.jsonl", "toolkit perf sweep MODEL"),
        (("notes.txt",), "notes.txt, line 1, is not of a journal", "name a file that"),
        (("sweep.jsonl", "--output", "no/report.html"), "there is no folder no", "mkdir -p no"),
        (("sweep.jsonl", "--csv", "no/all.csv"), "there is no folder no", "mkdir -p no"),
        (("sweep.jsonl", "--png", "no/charts"), "there is no folder no", "mkdir -p no"),
        (("sweep.jsonl", "--png", "notes.txt"), "notes.txt is a file", "name a folder"),
        (("sweep.jsonl", "--output", "."), ". is a folder", "name a file"),
        (("sweep.jsonl", "--output", "sweep.jsonl"), "would be lost", "name another file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    run: Run, sweep: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    Path("notes.txt").write_text("not a journal\n")
    before = sweep.read_bytes()
    ended = run("perf", "report", *arguments)
    assert ended.code == 1
    assert message in ended.err
    assert f"try: {hint}" in ended.err
    assert sweep.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["notes.txt", "sweep.jsonl"]


def test_without_a_journal_the_command_line_is_wrong(run: Run) -> None:
    assert run("perf", "report").code == 2
