"""``toolkit perf compare`` and ``toolkit perf gate`` on a real server."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perf import journal, measuring
from perf.comparison_journal import comparison
from perf.measurement import Load, Measurement
from perf.target import Target
from tests.cli import program
from tests.cli.program import Ended, Run
from tests.conftest import Serve
from tests.deploy.doubling import CONFIG, add_model, wait_for
from toolkit.client import Client
from toolkit.deploy import embedded

BATCHED = CONFIG + "dynamic_batching { }\ninstance_group [{ count: 1 kind: KIND_CPU }]\n"
TWO_INSTANCES = '{"instance_count": 2}'
QUICK = ("--rounds", 7, "--warm-up", 0, "--measurement-interval", 100)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, serve: Serve) -> Path:
    """A repository whose server serves ``double``, and both versions of ``twice``."""
    repository = tmp_path_factory.mktemp("compare") / "repository"
    add_model(repository, "double")
    (repository / "double" / "config.pbtxt").write_text(BATCHED)
    shutil.copytree(repository / "double", repository / "twice")
    shutil.copytree(repository / "twice" / "1", repository / "twice" / "2")
    (repository / "twice" / "config.pbtxt").write_text(BATCHED + "version_policy { all { } }\n")
    with embedded.client(serve(repository)) as client:
        client.load("double")
        client.load("twice")
    return repository


@pytest.fixture
def perf(run: Run, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``toolkit perf ARGUMENTS`` in an empty folder, against the repository's server."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run("perf", *arguments, "--repository", repository)


def control(repository: Path) -> Client:
    return embedded.client(embedded.require_running(repository))


def instances(client: Client, model: str = "double") -> int:
    return int(client.config(model)["instance_group"][0]["count"])


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Measurements by a rule instead of a clock: two instances halve the speed, version 1 is old.

    What is served is real, and asked for each time; the versions asked for are returned.
    """
    versions: list[str | None] = []

    def measure(target: Target, model: str, load: Load, settings: Any, _: Any) -> Measurement:
        versions.append(settings.version)
        with target.client() as client:
            rate = (800.0 if settings.version == "1" else 1000.0) / instances(client, model)
        latency = 1e6 / rate
        return Measurement(
            load=load, requests=100, inferences_per_second=rate, mean_us=latency,
            p50_us=latency, p90_us=latency, p95_us=latency, p99_us=latency,
        )  # fmt: skip

    monkeypatch.setattr(measuring, "measure", measure)
    return versions


def test_a_model_is_compared_with_itself_by_real_measurements(perf: Run) -> None:
    ended = perf("compare", "twice", "twice:1", *QUICK, "--output", "rounds.jsonl")
    assert ended.code == 0, ended.err
    assert "median throughput, inferences/s" in ended.out
    assert "98.4 % interval" in ended.out
    header, points = journal.read(Path("rounds.jsonl"))
    assert len(points) == 14
    again = comparison(header, points)
    assert again is not None
    assert again.names == ("twice", "twice:1")
    assert again.sentence in ended.out


def test_a_configuration_is_loaded_for_its_turns_and_what_was_served_is_put_back(
    perf: Run, repository: Path, made_up: list[str | None]
) -> None:
    Path("two.json").write_text(TWO_INSTANCES)
    ended = perf("compare", "double", "double@two.json", *QUICK, "--fail-if", "slower")
    assert "double@two.json is slower than double: throughput -50.0 %" in ended.out
    assert "error: double@two.json is slower than double" in ended.err
    assert ended.code == 1
    assert len(made_up) == 14
    with control(repository) as client:
        assert instances(client) == 1


def test_each_version_is_asked_for_by_its_number(perf: Run, made_up: list[str | None]) -> None:
    ended = perf("compare", "twice:2", "twice:1", *QUICK, "--json")
    assert sorted(map(str, made_up)) == ["1"] * 7 + ["2"] * 7
    record = json.loads(ended.out)
    assert record["verdict"] == "slower"
    assert record["ratio"]["value"] == pytest.approx(0.8)
    assert ended.code == 0  # Without --fail-if.


def test_a_configuration_that_triton_refuses_ends_it_with_one_line(
    perf: Run, repository: Path, made_up: list[str | None]
) -> None:
    Path("bad.pbtxt").write_text(BATCHED.replace("TYPE_FP32", "TYPE_INVALID"))
    ended = perf("compare", "double", "double@bad.pbtxt", *QUICK)
    assert ended.code == 1
    assert ended.err.startswith("error: double@bad.pbtxt, in round 1: Triton does not serve")
    assert len(ended.err.splitlines()) <= 2
    with control(repository) as client:
        assert client.is_model_ready("double")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "double", "nothing"), "holds no model 'nothing'"),
        (("compare", "double", "double:9"), "double:9, in the warm-up: "),
        (("compare", "double", "double@there.pbtxt"), "there.pbtxt cannot be read"),
        (("gate", "--baseline", "there.json"), "there is no there.json"),
    ],
)
def test_what_cannot_be_measured_is_said(perf: Run, arguments: tuple[str, ...], said: str) -> None:
    ended = perf(*arguments)
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "double", "double", "--concurrency-range", "1,4"),
        ("compare", "double", "double", "--rounds", "6"),
        ("gate", "double"),
        ("gate", "--save", "baseline.json"),
        ("gate", "--baseline", "baseline.json", "--concurrency-range", "4"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(perf: Run, arguments: tuple[str, ...]) -> None:
    assert perf(*arguments).code == 2


Gate = Callable[..., Ended]


@pytest.fixture
def gate(perf: Run, made_up: list[str | None]) -> Gate:
    """Record a baseline, then hold what is served against it."""
    saved = perf("gate", "double", "--save", "baseline.json", *QUICK, "--concurrency-range", 3)
    assert saved.code == 0, saved.err
    assert "double version 1, 7 measurements at concurrency 3" in saved.err
    made_up.clear()
    quick = ("--rounds", 7, "--warm-up", 0)
    return lambda *flags: perf("gate", "--baseline", "baseline.json", *quick, *flags)


def load(repository: Path, count: int) -> None:
    with control(repository) as client:
        config = dict(client.config("double"))
        group = {**config["instance_group"][0], "count": count}
        client.load("double", config={**config, "instance_group": [group]})


def test_the_gate_lets_through_what_is_as_fast_as_before(
    gate: Gate, made_up: list[str | None]
) -> None:
    ended = gate()
    assert ended.code == 0
    assert "gate passed: double is not shown to be slower than its baseline" in ended.err
    assert "the version and the configuration are those of the baseline" in ended.out
    # In turns, though nothing was to be loaded.
    assert len(made_up) == 14


def test_the_gate_stops_what_is_slower_than_is_allowed(gate: Gate, repository: Path) -> None:
    load(repository, 2)
    try:
        failed, allowed = (
            gate("--output", "gate.jsonl"),
            gate("--recorded", "--allow", 51, "--json"),
        )
        with control(repository) as client:
            assert instances(client) == 2
    finally:
        load(repository, 1)
    assert failed.code == 1
    assert "gate failed: double is slower than its baseline" in failed.err
    header, points = journal.read(Path("gate.jsonl"))
    found = comparison(header, points)
    assert found is not None
    assert found.outcome.value == "slower"
    assert allowed.code == 0
    record = json.loads(allowed.out)
    assert record["gate"] == {"passed": True, "allowed_percent": 51.0}
    assert record["verdict"] == "slower"


def changed(**values: object) -> None:
    path = Path("baseline.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_baseline_of_another_machine_counts_only_if_that_is_wanted(gate: Gate) -> None:
    changed(machine={"processor": "abacus", "cores": 1}, files="0" * 64)
    refused = gate()
    assert refused.code == 1
    assert "the baseline is of another machine (processor abacus" in refused.err
    assert "the files of version 1 are others now" in refused.err
    wanted = gate("--other-machine")
    assert wanted.code == 0
    assert "the figures are of another machine" in wanted.out


def test_a_baseline_that_can_be_served_again_is_of_any_machine(
    gate: Gate, made_up: list[str | None]
) -> None:
    changed(machine={"processor": "abacus", "cores": 1})
    assert gate().code == 0
    assert len(made_up) == 14


def test_recorded_figures_are_used_when_asked_for(gate: Gate, made_up: list[str | None]) -> None:
    record = json.loads(Path("baseline.json").read_text())["measurements"]
    changed(measurements=[{**one, "inferences_per_second": 2000.0} for one in record])
    ended = gate("--recorded")
    assert len(made_up) == 7
    assert ended.code == 1
    assert "against figures recorded on" in ended.out


def test_a_baseline_that_is_none_is_refused(perf: Run) -> None:
    Path("baseline.json").write_text('{"format": 1, "model": "double"}')
    ended = perf("gate", "--baseline", "baseline.json")
    assert ended.code == 1
    assert "baseline.json is no baseline of toolkit perf gate" in ended.err


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_ctrl_c_puts_back_what_was_served(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text(TWO_INSTANCES)
    rounds = tmp_path / "rounds.jsonl"
    process = program.start(
        "perf", "compare", "double@two.json", "double@two.json", *QUICK, "--output", rounds,
        "--repository", repository, cwd=tmp_path,
    )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or lines(rounds) > 1, 60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 130, err
    with control(repository) as client:
        assert instances(client) == 1
