import json
import threading
from pathlib import Path

import psutil
import pytest
import urllib3

from tests.deploy.doubling import DOUBLE, add_model, left_behind, wait_for
from toolkit.client import Client
from toolkit.deploy import embedded, models, state
from toolkit.deploy.embedded import ServerOptions
from toolkit.errors import (
    ConfigError,
    ModelNotServedError,
    PermissionDeniedError,
    RepositoryError,
)


def test_a_deployed_model_answers_and_a_stopped_server_leaves_nothing(
    repo: Path, options: ServerOptions
) -> None:
    server, results = embedded.deploy(repo, models.choose(repo, []), options)
    assert [result.error for result in results] == [None]
    with Client(server.http_url) as client:
        assert client.predict("double", [[1.0, 2.0]])["y"].tolist() == [[2.0, 4.0]]
    family = [server.process(), *server.process().children(recursive=True)]  # type: ignore[union-attr]
    assert len(family) > 1
    assert left_behind(repo)
    assert embedded.stop(repo)
    assert not any(member.is_running() for member in family if member)
    assert left_behind(repo) == []
    assert embedded.running(repo) is None


def test_a_connection_somebody_keeps_open_does_not_hold_up_the_stop(
    repo: Path, options: ServerOptions
) -> None:
    server = embedded.start(repo, options)
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", f"{server.http_url}/v2/health/live").status == 200
        process = server.process()
        assert process is not None
        # Triton alone would wait its whole exit time-out of 30 s.
        stopper = threading.Thread(target=embedded.stop, args=(repo,))
        stopper.start()
        process.wait(15)
        stopper.join()


def test_deploying_again_reloads_without_a_restart(repo: Path, options: ServerOptions) -> None:
    first, _ = embedded.deploy(repo, models.choose(repo, []), options)
    add_model(repo, "double", DOUBLE.replace("x * 2", "x * 3"))
    second, _ = embedded.deploy(repo, models.choose(repo, ["double"]), options)
    assert second == first
    with Client(second.grpc_url) as client:
        assert client.predict("double", [[1.0, 2.0]])["y"].tolist() == [[3.0, 6.0]]


def test_a_model_that_does_not_load_is_reported_with_tritons_own_reason_and_stops_no_other(
    repo: Path, options: ServerOptions
) -> None:
    add_model(repo, "broken", "import no_such_library\n")
    server, results = embedded.deploy(repo, models.choose(repo, []), options)
    errors = {result.name: result.error for result in results}
    assert errors["double"] is None
    assert isinstance(errors["broken"], ModelNotServedError)
    assert "No module named 'no_such_library'" in errors["broken"].message
    assert "\n" not in errors["broken"].message
    assert embedded.running(repo) == server


def test_a_configuration_that_does_not_parse_is_told_with_its_line(
    repo: Path, options: ServerOptions
) -> None:
    add_model(repo, "typo")
    (repo / "typo/config.pbtxt").write_text('backend: "python"\nmax_batch: 8\n')
    _, results = embedded.deploy(repo, models.choose(repo, ["typo"]), options)
    (error,) = [result.error for result in results]
    assert isinstance(error, ConfigError)
    assert "model 'typo': config.pbtxt does not parse: 2:1" in error.message
    assert "max_batch" in error.message


def test_an_unloaded_model_is_gone_and_the_server_goes_on(
    repo: Path, options: ServerOptions
) -> None:
    server, _ = embedded.deploy(repo, models.choose(repo, []), options)
    with embedded.client(server) as client:
        client.unload("double")
        wait_for(lambda: not client.is_model_ready("double"))
        assert client.is_ready()


def test_model_control_is_closed_to_those_without_the_token(
    repo: Path, options: ServerOptions
) -> None:
    server = embedded.start(repo, options)
    for url in (server.http_url, server.grpc_url):
        with Client(url) as client, pytest.raises(PermissionDeniedError):
            client.load("double")
        with Client(url, token="guessed") as client, pytest.raises(PermissionDeniedError):
            client.repository_index()
        with Client(url, token=server.token) as client:
            assert [model.name for model in client.repository_index()] == ["double"]
    shared_memory = f"{server.http_url}/v2/systemsharedmemory/status"
    response = urllib3.request("GET", shared_memory)
    assert response.status == 403 or b"restricted" in response.data


def test_the_server_listens_on_loopback_alone(repo: Path, options: ServerOptions) -> None:
    server = embedded.start(repo, options)
    process = server.process()
    assert process is not None
    listening = {
        connection.laddr.ip
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_only_the_owner_can_read_the_token(repo: Path, options: ServerOptions) -> None:
    server = embedded.start(repo, options)
    path = state.folder(repo) / "state.json"
    assert json.loads(path.read_text())["token"] == server.token
    assert path.stat().st_mode & 0o077 == 0
    assert state.folder(repo).stat().st_mode & 0o077 == 0


def test_an_empty_repository_and_an_unknown_name_are_refused_before_anything_starts(
    tmp_path: Path, repo: Path
) -> None:
    with pytest.raises(RepositoryError, match="holds no models"):
        models.choose(tmp_path / "nothing", [])
    with pytest.raises(RepositoryError, match="no model 'tripple'"):
        models.choose(repo, ["tripple"])


def test_the_log_is_kept_and_read_from_its_end(repo: Path, options: ServerOptions) -> None:
    embedded.start(repo, options)
    assert any("Started HTTPService" in line for line in embedded.log_tail(repo, 200))
    assert len(embedded.log_tail(repo, 3)) == 3


def test_statistics_count_what_was_asked(repo: Path, options: ServerOptions) -> None:
    server, _ = embedded.deploy(repo, models.choose(repo, []), options)
    with embedded.client(server) as client:
        for _ in range(3):
            client.predict("double", [[1.0, 2.0], [3.0, 4.0]])
        # Triton counts a request once it has answered it.
        wait_for(lambda: models.served(client)[0].requests == 3)
        (model,) = models.served(client)
    assert (model.name, model.state, model.requests, model.rows) == ("double", "READY", 3, 6)
    assert model.mean_compute_us > 0
