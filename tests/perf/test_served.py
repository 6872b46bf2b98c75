"""A served model under changing configurations is left as it was found, whatever happens."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from perf import applying, configuration
from perf.candidates import Candidate
from perf.journal import Header, begin
from perf.measurement import Load, Measurement
from perf.served import ServedModel
from perf.target import Target, of_repository
from perf.trials import Trials, sweep, table
from toolkit.deploy import embedded
from toolkit.deploy.state import Server
from toolkit.errors import (
    ConfigError,
    DeployError,
    ModelNotServedError,
    RepositoryError,
    ServerDiedError,
)

TWO, FOUR = Candidate(instance_count=2), Candidate(max_batch_size=4)


def deploy(serve: Callable[[Path], Server], repository: Path) -> Server:
    shutil.copytree(Path(__file__).parents[1] / "client/models/echo", repository / "echo")
    server = serve(repository)
    with embedded.client(server) as control:
        control.load("echo")
    return server


@pytest.fixture(scope="module")
def deployed(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("served") / "repository"
    deploy(serve, repository)
    return repository


@pytest.fixture
def target(deployed: Path) -> Iterator[Target]:
    """Give a server that serves ``echo``; the file and the model are put right afterwards."""
    target = of_repository(deployed, "echo")
    assert target.entry is not None
    path = target.entry.path / "config.pbtxt"
    before = path.read_text()
    yield target
    if path.read_text() != before:
        path.write_text(before)
        with target.client() as client:
            client.load("echo")


def served_now(target: Target) -> dict[str, object]:
    with target.client() as client:
        return dict(client.config("echo"))


def test_candidates_are_served_in_turn_and_what_was_there_comes_back(target: Target) -> None:
    before = served_now(target)

    with ServedModel(target, "echo") as model:
        for candidate in (TWO, FOUR, Candidate(dynamic_batching=False)):
            model.load(candidate)
            wanted = configuration.changed(before, candidate)
            assert served_now(target)["max_batch_size"] == wanted["max_batch_size"]
            assert ("dynamic_batching" in served_now(target)) == ("dynamic_batching" in wanted)

    assert served_now(target) == before


def test_what_was_there_comes_back_after_an_error(target: Target) -> None:
    before = served_now(target)

    def fails() -> None:
        with ServedModel(target, "echo") as model:
            model.load(TWO)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert served_now(target) == before


def test_a_configuration_that_triton_refuses_leaves_the_model_serving(target: Target) -> None:
    with ServedModel(target, "echo") as model:
        with pytest.raises(ModelNotServedError, match="does not serve 'echo' so"):
            model.load_config({**model.original, "backend": "nobody"})
        with target.client() as client:
            assert client.is_model_ready("echo")


def test_only_one_may_change_a_model_at_a_time(target: Target) -> None:
    with ServedModel(target, "echo"), pytest.raises(DeployError, match="just now"):
        ServedModel(target, "echo")
    with ServedModel(target, "echo") as model:
        assert not model.changed


_KILLED = """
import os, signal, sys
from pathlib import Path
from perf.candidates import Candidate
from perf.served import ServedModel
from perf.target import of_repository

with ServedModel(of_repository(Path(sys.argv[1]), "echo"), "echo") as model:
    model.load(Candidate(instance_count=2, max_batch_size=4))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(target: Target) -> None:
    assert target.entry is not None
    command = [sys.executable, "-c", _KILLED, str(target.entry.path.parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_put_right_by_the_next(target: Target) -> None:
    before = served_now(target)
    killed(target)
    assert served_now(target) != before

    with ServedModel(target, "echo") as model:
        assert model.original == before

    assert served_now(target) == before


def test_what_the_owner_wrote_after_a_kill_is_kept(target: Target) -> None:
    assert target.entry is not None
    killed(target)
    config = target.entry.path / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 6"))
    with target.client() as client:
        client.load("echo")

    with ServedModel(target, "echo") as model:
        model.load(TWO)
    assert served_now(target)["max_batch_size"] == 6


def measurement(load: Load) -> Measurement:
    return Measurement(
        load=load, requests=1, inferences_per_second=1, mean_us=1, p50_us=1, p90_us=1, p95_us=1,
        p99_us=1,
    )  # fmt: skip


def header_of(target: Target) -> Header:
    return Header(
        command="sweep", model="echo", plan={}, configuration=served_now(target), machine={},
        server={},
    )  # fmt: skip


LOADS = (Load(concurrency=1), Load(concurrency=2))


def test_a_candidate_that_fails_is_a_point_with_its_reason_and_the_rest_goes_on(
    target: Target, tmp_path: Path
) -> None:
    refused = Candidate(preferred_batch_size=(99,))
    with (
        ServedModel(target, "echo") as model,
        begin(tmp_path / "journal.jsonl", header_of(target)) as journal,
    ):
        points = list(sweep(Trials(model, measurement, journal), [refused, TWO], LOADS))

    assert [bool(point.failure) for point in points] == [True, True, False, False]
    assert "99" in (points[0].failure or "")
    assert [point.candidate for point in table(points)] == [TWO, TWO, refused, refused]


def test_a_server_that_dies_ends_the_sweep_and_a_later_one_goes_on(
    serve: Callable[[Path], Server], tmp_path: Path, free_ports: Callable[[], tuple[int, int, int]]
) -> None:
    repository = tmp_path / "repository"
    deploy(serve, repository)
    target = of_repository(repository, "echo")
    header = header_of(target)
    path, measured = tmp_path / "journal.jsonl", []

    def dies(load: Load, *, at: int) -> Measurement:
        measured.append(load)
        if len(measured) == at:
            assert target.process is not None
            os.kill(target.process, signal.SIGKILL)
            with target.client(timeout=5) as client:  # perf_analyzer would fail so, too.
                client.statistics("echo")
        return measurement(load)

    with (
        pytest.raises(ServerDiedError, match=r"1 measurement\(s\) are in"),
        ServedModel(target, "echo") as model,
        begin(path, header) as journal,
    ):
        list(sweep(Trials(model, partial(dies, at=2), journal), [TWO, FOUR], LOADS))

    again = _deployed_again(repository, target, free_ports()[2])
    with ServedModel(again, "echo") as model, begin(path, header) as journal:
        points = list(sweep(Trials(model, partial(dies, at=-1), journal), [TWO, FOUR], LOADS))

    assert len(points) == 4
    assert all(point.measurement for point in points)
    assert len(measured) == 2 + 3


def _deployed_again(repository: Path, target: Target, free_metrics: int) -> Target:
    def port(url: str | None) -> int:
        return int(str(url).rpartition(":")[2])

    http, grpc = port(target.http_url), port(target.grpc_url)
    ports = embedded.ServerOptions(http_port=http, grpc_port=grpc, metrics_port=free_metrics)
    with embedded.client(embedded.start(repository, ports)) as control:
        control.load("echo")
    return of_repository(repository, "echo")


def test_a_winner_is_written_into_the_entry_and_nothing_else_changes(target: Target) -> None:
    assert target.entry is not None
    path = target.entry.path / "config.pbtxt"
    path.write_text(path.read_text() + "# what a person noted\n")

    change = applying.edit(target.entry, Candidate(max_batch_size=4))
    assert [line for line in change.diff().splitlines() if line[:1] in "+-"][2:] == [
        "-max_batch_size: 8",
        "+max_batch_size: 4",
    ]
    kept = applying.apply(change)

    assert kept is not None
    assert "# what a person noted" in kept.read_text()
    with target.client() as client:
        client.load("echo")
    assert served_now(target)["max_batch_size"] == 4


def test_a_file_that_changed_meanwhile_is_not_written_over(target: Target) -> None:
    assert target.entry is not None
    change = applying.edit(target.entry, Candidate(max_batch_size=4))
    change.path.write_text("max_batch_size: 7\n")

    with pytest.raises(RepositoryError, match="changed meanwhile"):
        applying.apply(change)
    assert change.path.read_text() == "max_batch_size: 7\n"


def test_what_the_file_leaves_to_triton_is_not_written_blindly(target: Target) -> None:
    assert target.entry is not None
    (target.entry.path / "config.pbtxt").write_text('backend: "python"\n')

    with pytest.raises(ConfigError, match="leaves to Triton"):
        applying.edit(target.entry, Candidate(max_batch_size=4))
