"""``toolkit perf run`` on a real server."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from perf import journal
from perf.measurement import Load, Measurement
from tests.cli import program
from tests.cli.program import Run
from toolkit import perf_run_command
from toolkit.deploy import embedded
from toolkit.deploy.state import Server

_SHORT = ("--measurement-interval", 100, "--max-trials", 3)


@pytest.fixture(scope="module")
def served(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the repository of a server with a model of texts and one that fails."""
    repository = tmp_path_factory.mktemp("perf-run") / "repository"
    models = Path(__file__).parents[1] / "client/models"
    for name in ("text", "raises"):
        shutil.copytree(models / name, repository / name)
    with embedded.client(serve(repository)) as control:
        control.load("text")
        control.load("raises")
    return repository


def test_a_range_is_one_row_each_in_two_tables(run: Run, served: Path) -> None:
    ended = run(
        "perf", "run", "text", "--repository", served, "--concurrency-range", "1:3:2", *_SHORT
    )

    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines if line.split()[:1] in (["1"], ["3"])] == [
        "1", "3", "1", "3",
    ]  # fmt: skip
    for title in ("inferences/s", "p99 ms", "batch", "failed", "queue", "network"):
        assert title in ended.out
    assert max(map(len, lines)) <= 90
    assert "made up" in ended.err


def test_figures_come_as_json_and_as_a_journal(run: Run, served: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"

    ended = run(
        "perf", "run", "text", "--repository", served, "-b", "1,2", "--json", "-o", path, *_SHORT
    )

    assert ended.code == 0, ended.err
    measured = json.loads(ended.out)["measurements"]
    assert [one["load"]["batch_size"] for one in measured] == [1, 2]
    header, points = journal.read(path)
    assert (header.command, header.model) == ("run", "text")
    assert [point.measurement.to_json() for point in points if point.measurement] == measured


def test_another_server_is_measured_by_its_url(run: Run, served: Path) -> None:
    server = embedded.require_running(served)

    ended = run("perf", "run", "text", "--url", server.grpc_url, "--repository", "none", *_SHORT)

    assert ended.code == 0, ended.err
    assert "inferences/s" in ended.out


def test_a_rate_has_its_own_column(run: Run, served: Path) -> None:
    ended = run(
        "perf", "run", "text", "--repository", served, "--request-rate-range", "40",
        "--request-distribution", "poisson", "--measurement-interval", 200, "--max-trials", 3,
    )  # fmt: skip

    assert ended.code == 0, ended.err
    assert "asked/s" in ended.out


def test_what_fails_is_one_error_with_the_words_of_the_model(run: Run, served: Path) -> None:
    ended = run("perf", "run", "raises", "--repository", served, *_SHORT)

    assert ended.code == 1
    assert "the sums do not add up" in ended.err
    assert "try:" in ended.err


def test_a_wrong_name_is_said(run: Run, served: Path) -> None:
    server = embedded.require_running(served)

    ended = run("perf", "run", "nobody", "--url", server.http_url, "--protocol", "http", *_SHORT)

    assert ended.code == 1
    assert "nobody" in ended.err


def test_without_a_server_the_next_command_is_said(run: Run, served: Path, tmp_path: Path) -> None:
    shutil.copytree(served / "text", tmp_path / "text")

    ended = run("perf", "run", "text", "--repository", tmp_path, *_SHORT)

    assert ended.code == 1
    assert "toolkit deploy" in ended.err


def test_a_server_that_is_not_there_is_said(
    run: Run, free_ports: Callable[[], tuple[int, ...]]
) -> None:
    ended = run("perf", "run", "text", "--url", f"grpc://127.0.0.1:{free_ports()[0]}", *_SHORT)

    assert ended.code == 1
    assert "connection refused" in ended.err


def test_ctrl_c_shows_what_was_measured_and_leaves_nothing(served: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.jsonl"
    running = program.start(
        "perf", "run", "text", "--repository", served, "--concurrency-range", "1,2",
        "--measurement-interval", 1000, "--max-trials", 3, "-o", figures,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not figures.exists() or figures.read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)

    assert running.returncode == 130, err
    assert "inferences/s" in out
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_a_rate_that_was_not_reached_and_windows_apart_are_said() -> None:
    measured = Measurement(
        load=Load(request_rate=1000), requests=600, inferences_per_second=600.0,
        mean_us=1000.0, p50_us=1.0, p90_us=1.0, p95_us=1.0, p99_us=1.0, stable=False,
    )  # fmt: skip

    told = perf_run_command.oddities(measured)

    assert any("did not agree" in line for line in told)
    assert any("1,000 requests/s were asked, 600 were answered" in line for line in told)


def test_windows_that_are_short_for_a_request_are_said() -> None:
    measured = Measurement(
        load=Load(concurrency=1), requests=6, inferences_per_second=5.0, mean_us=180_000.0,
        p50_us=1.0, p90_us=1.0, p95_us=1.0, p99_us=1.0,
    )  # fmt: skip

    told = perf_run_command.oddities(measured)

    assert len(told) == 1
    assert "takes 45% of a window" in told[0]
    assert "--measurement-interval 3600" in told[0]
