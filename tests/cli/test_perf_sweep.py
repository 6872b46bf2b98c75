"""``toolkit perf sweep`` and ``toolkit perf tune`` on a real server."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from perf import journal
from tests.cli import program
from tests.cli.program import Run
from toolkit.deploy import embedded
from toolkit.deploy.state import Server

SHORT = ("-p", 120, "-r", 3, "-s", 999)
GRID = ("--concurrency-range", "1,2", "--instance-count", "1,2", "--max-batch-size", "4,8")


@pytest.fixture(scope="module")
def served(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the repository of a server with a small model."""
    repository = tmp_path_factory.mktemp("perf-sweep") / "repository"
    shutil.copytree(Path(__file__).parents[1] / "client/models/echo", repository / "echo")
    with embedded.client(serve(repository)) as control:
        control.load("echo")
    return repository


def configuration(repository: Path) -> Mapping[str, Any]:
    with embedded.client(embedded.require_running(repository)) as control:
        return control.config("echo")


def asked(path: Path) -> list[tuple[str, str]]:
    points = journal.read(path)[1]
    assert [point.failure for point in points if point.failure] == []
    return sorted((str(point.candidate), str(point.load)) for point in points)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_sweep_shows_each_configuration_under_each_load_and_leaves_the_model_as_it_was(
    run: Run, served: Path, tmp_path: Path
) -> None:
    before, path = configuration(served), tmp_path / "echo.jsonl"

    ended = run("perf", "sweep", "echo", "--repository", served, *GRID, *SHORT, "-o", path)

    assert ended.code == 0, ended.err
    assert len(asked(path)) == 8
    for title in ("max batch", "instances", "load", "inferences/s", "p99 ms"):
        assert title in ended.out
    assert f"8 measurement(s) in {path}" in ended.out
    assert configuration(served) == before


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_that_was_ended_goes_on_and_ends_with_the_same_table(
    run: Run, served: Path, tmp_path: Path, blow: signal.Signals
) -> None:
    before, path = configuration(served), tmp_path / "echo.jsonl"
    command = ("perf", "sweep", "echo", "--repository", served, *GRID, *SHORT, "-o", path)

    process = program.start(*command, start_new_session=True)
    until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
    process.send_signal(blow)
    process.communicate(timeout=60)
    assert process.returncode == (130 if blow == signal.SIGINT else -signal.SIGKILL)
    if blow == signal.SIGINT:
        assert configuration(served) == before
    made = len(asked(path))
    assert 2 <= made < 8

    ended = run(*command)

    assert ended.code == 0, ended.err
    assert f"{made} measurement(s) are there" in ended.err
    assert len(asked(path)) == len(set(asked(path))) == 8
    assert configuration(served) == before


def test_a_killed_sweep_is_put_right_by_restore(run: Run, served: Path, tmp_path: Path) -> None:
    before, path = configuration(served), tmp_path / "echo.jsonl"
    process = program.start(
        "perf", "sweep", "echo", "--repository", served, "--instance-count", "2", *SHORT,
        "-o", path, start_new_session=True,
    )  # fmt: skip
    until(lambda: configuration(served) != before)
    process.kill()
    process.communicate(timeout=60)
    assert configuration(served) != before

    ended = run("perf", "restore", "echo", "--repository", served)

    assert (ended.code, ended.err) == (0, "echo is served as it was\n")
    assert configuration(served) == before
    assert run("perf", "restore", "echo", "--repository", served).err == "echo was not changed\n"


def test_a_journal_of_another_sweep_is_not_mixed_up(run: Run, served: Path, tmp_path: Path) -> None:
    path = tmp_path / "echo.jsonl"
    command = ("perf", "sweep", "echo", "--repository", served, *SHORT, "-o", path)
    assert run(*command, "--concurrency-range", 1).code == 0

    ended = run(*command, "--concurrency-range", 2)
    assert ended.code == 1
    assert "another plan" in ended.err

    assert run(*command, "--concurrency-range", 2, "--fresh").code == 0
    assert [load for _, load in asked(path)] == ["concurrency 2"]


def test_the_winner_of_a_tuning_is_shown_as_a_diff_and_written_when_asked(
    run: Run, served: Path, tmp_path: Path
) -> None:
    path = served / "echo/config.pbtxt"
    text, before = path.read_text(), configuration(served)
    # The one candidate with batches of two rows cannot win; the others may.
    command = (
        "perf", "tune", "echo", "--repository", served, "--instance-count", "2,3",
        "--concurrency-range", 4, *SHORT, "-o", tmp_path / "echo.jsonl",
    )  # fmt: skip

    shown = run(*command)
    assert shown.code == 0, shown.err
    for word in ("as served", "winner", "stopped"):
        assert word in shown.out
    assert path.read_text() == text
    assert configuration(served) == before

    applied = run(*command, "--apply")
    assert applied.code == 0, applied.err
    winner = winning_count(applied.out)
    try:
        assert winning_count(shown.out) == winner
        assert configuration(served)["instance_group"][0]["count"] == winner
    finally:
        path.write_text(text)
        with embedded.client(embedded.require_running(served)) as control:
            control.load("echo")


def winning_count(out: str) -> int:
    """Return the instances of the winner, 1 where the model stays as it was."""
    return next((n for n in (2, 3) if f"\n              instance_count={n}" in out), 1)


def test_limits_that_nothing_keeps_are_told_and_nothing_is_written(
    run: Run, served: Path, tmp_path: Path
) -> None:
    text = (served / "echo/config.pbtxt").read_text()

    ended = run(
        "perf", "tune", "echo", "--repository", served, "--instance-count", "1,2", "--apply",
        "--max-p99-ms", "0.001", "-o", tmp_path / "echo.jsonl", *SHORT,
    )  # fmt: skip

    assert ended.code == 1
    assert "keeps the limits" in ended.err
    assert (served / "echo/config.pbtxt").read_text() == text


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("nobody",), 1, "holds no model 'nobody'"),
        (("echo", "--concurrency-range", "0"), 2, "the least is 1"),
        (("echo", "--concurrency-range", "4:1"), 2, "start:end:step"),
        (("echo", "--intra-op-thread-count", "2"), 1, "has no thread count"),
        (("echo", "--preferred-batch-size", "x"), 2, "none of 8"),
        (("echo", "--dynamic-batching", "yes"), 2, "on,off"),
    ],
)
def test_what_cannot_be_swept_is_one_line(  # noqa: PLR0917
    run: Run, served: Path, tmp_path: Path, flags: tuple[object, ...], code: int, said: str
) -> None:
    path = tmp_path / "journal.jsonl"
    ended = run("perf", "sweep", *flags, "--repository", served, "-o", path)

    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_the_journal_is_json_that_others_can_read(run: Run, served: Path, tmp_path: Path) -> None:
    path = tmp_path / "echo.jsonl"
    ended = run(
        "perf", "sweep", "echo", "--repository", served, "--concurrency-range", 1, *SHORT,
        "-o", path,
    )  # fmt: skip

    assert ended.code == 0, ended.err
    head, point = map(json.loads, path.read_text().splitlines())
    assert head["command"] == "sweep"
    assert point["measurement"]["inferences_per_second"] > 0


def test_a_rate_takes_the_place_of_the_usual_callers(
    run: Run, served: Path, tmp_path: Path
) -> None:
    path = tmp_path / "echo.jsonl"
    command = ("perf", "sweep", "echo", "--repository", served, "-o", path, "-r", 3, "-s", 999)

    ended = run(*command, "-p", 300, "--request-rate-range", "40")
    assert ended.code == 0, ended.err
    assert asked(path) == [("as served", "40 requests/s")]

    both = run(*command, "--request-rate-range", "40", "--concurrency-range", "4")
    assert both.code == 2
    assert "exclude each other" in both.err


def test_a_killed_search_goes_on_from_what_was_served_first(
    run: Run, served: Path, tmp_path: Path
) -> None:
    before, path = configuration(served), tmp_path / "echo.jsonl"
    # Without flags for settings the space follows from the configuration.
    command = (
        "perf", "tune", "echo", "--repository", served, "--concurrency-range", 4,
        "--measurements", 12, *SHORT, "-o", path,
    )  # fmt: skip
    process = program.start(*command, start_new_session=True)
    until(lambda: configuration(served)["max_batch_size"] != before["max_batch_size"])
    process.kill()
    process.communicate(timeout=60)
    made = len(asked(path))

    ended = run(*command)

    assert ended.code == 0, ended.err
    assert made < len(asked(path)) <= 12 + 1
    assert configuration(served) == before
