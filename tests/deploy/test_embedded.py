import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import urllib3

from toolkit import repository
from toolkit.client import Client
from toolkit.deploy import embedded, models, state
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server
from toolkit.errors import (
    ConfigError,
    DeployError,
    ModelNotServedError,
    PermissionDeniedError,
    PortInUseError,
    RepositoryError,
    ServerDiedError,
    ServerNotRunningError,
)

Ports = Callable[[], tuple[int, int, int]]
Start = Callable[[Path], Server]
SHM = Path("/dev/shm")  # noqa: S108 - where Triton's stubs keep their memory

DOUBLE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)]) for x in inputs]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
"""


def add_model(repo: Path, name: str, code: str = DOUBLE) -> None:
    version = repo / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version / "model.py").write_text(code)
    (repo / name / "config.pbtxt").write_text(CONFIG)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "repo"
    add_model(path, "double")
    yield path
    embedded.stop(path)


@pytest.fixture
def options(free_ports: Ports) -> ServerOptions:
    http, grpc, metrics = free_ports()
    return ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def left_behind(repo: Path) -> list[object]:
    regions = list(SHM.glob(f"{embedded._shm_prefix(repo)}*"))
    return [*regions, *embedded._stubs(repo)]


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


def test_all_ports_in_use_are_named_at_once_with_their_owner(
    repo: Path, options: ServerOptions
) -> None:
    with socket.socket() as first, socket.socket() as second:
        for taken, port in ((first, options.http_port), (second, options.metrics_port)):
            taken.bind(("127.0.0.1", port))
            taken.listen()
        with pytest.raises(PortInUseError) as caught:
            embedded.start(repo, options)
    assert str(options.http_port) in caught.value.message
    assert str(options.metrics_port) in caught.value.message
    assert str(options.grpc_port) not in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert "--http-port" in str(caught.value.hint)
    assert embedded.running(repo) is None


def test_asking_a_running_server_for_other_ports_says_that_it_runs_already(
    repo: Path, options: ServerOptions
) -> None:
    server = embedded.start(repo, options)
    embedded.require_same(repo, {"http_port": options.http_port, "log_verbose": 1})
    with pytest.raises(DeployError, match=f"runs already, at {server.http_url}") as caught:
        embedded.require_same(repo, {"http_port": options.http_port + 1})
    assert "toolkit stop" in str(caught.value.hint)


def test_a_model_whose_queue_refuses_the_first_request_is_asked_again(
    repo: Path, options: ServerOptions
) -> None:
    # Busy with a request of its own when it is asked first, and nobody may wait.
    busy = DOUBLE.replace("return [pb", "import time; time.sleep(0.3)\n        return [pb")
    add_model(repo, "busy", busy)
    config = repo / "busy/config.pbtxt"
    policy = "default_queue_policy { default_timeout_microseconds: 1000 }"
    config.write_text(CONFIG + f"dynamic_batching {{ {policy} }}")
    rows = np.ones((4, 2), np.float32)
    arrays: dict[str, Any] = {"input:x": rows, "expected:y": rows * 2}
    np.savez(repo / "busy/1/proof.npz", **arrays)
    server, _ = embedded.deploy(repo, models.choose(repo, ["double"]), options)
    with embedded.client(server) as client, ThreadPoolExecutor(1) as pool:
        client.load("busy")
        other = pool.submit(client.predict, "busy", rows)
        (result,) = models.load(client, models.choose(repo, ["busy"]))
        other.result()
    assert (result.error, result.rows) == (None, 4)


def test_a_server_that_was_killed_is_noticed_and_cleaned_up_and_can_start_again(
    repo: Path, options: ServerOptions
) -> None:
    server, _ = embedded.deploy(repo, models.choose(repo, []), options)
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: server.process() is None)
    assert embedded.running(repo) is None
    assert left_behind(repo) == []
    with pytest.raises(ServerNotRunningError, match="no embedded server is running"):
        embedded.require_running(repo)
    again, results = embedded.deploy(repo, models.choose(repo, []), options)
    assert again.pid != server.pid
    assert results[0].error is None


def test_a_state_file_of_a_process_that_is_another_by_now_is_not_believed(
    repo: Path, options: ServerOptions
) -> None:
    embedded.start(repo, options)
    embedded.stop(repo)
    stale = Server(
        pid=os.getpid(),
        created=1.0,
        address="127.0.0.1",
        http_port=1,
        grpc_port=2,
        metrics_port=3,
        token="t",
        repository=str(repo),
        triton_version="0",
    )
    state.write(repo, stale)
    assert embedded.running(repo) is None
    assert not embedded.stop(repo)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', None])
def test_a_damaged_state_file_hides_no_server_that_runs_and_invents_none(
    repo: Path, options: ServerOptions, text: str | None
) -> None:
    server = embedded.start(repo, options)
    path = state.folder(repo) / "state.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert embedded.running(repo) == server
    assert embedded.stop(repo)
    if text is not None:
        path.write_text(text)
    assert embedded.running(repo) is None


def test_a_state_file_with_other_types_in_it_is_not_believed(repo: Path) -> None:
    path = state.folder(repo) / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = dict.fromkeys(Server.__dataclass_fields__, "x")
    path.write_text(json.dumps(values))
    assert embedded.running(repo) is None


def test_two_deployments_at_once_share_one_server(repo: Path, options: ServerOptions) -> None:
    script = f"""
from pathlib import Path
from toolkit.deploy import embedded, models
repo = Path({str(repo)!r})
options = embedded.ServerOptions(http_port={options.http_port}, grpc_port={options.grpc_port},
    metrics_port={options.metrics_port})
server, results = embedded.deploy(repo, models.choose(repo, []), options)
assert not any(result.error for result in results), results
print(server.pid)
"""
    programs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    pids = {program.communicate(timeout=60)[0] for program in programs}
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert len(pids) == 1


def test_ctrl_c_while_models_load_stops_the_server_that_was_started_for_them(
    repo: Path, options: ServerOptions
) -> None:
    add_model(repo, "endless", "import time\ntime.sleep(600)\n")
    script = f"""
from pathlib import Path
from toolkit.deploy import embedded, models
repo = Path({str(repo)!r})
options = embedded.ServerOptions(http_port={options.http_port}, grpc_port={options.grpc_port},
    metrics_port={options.metrics_port})
embedded.deploy(repo, models.choose(repo, ["endless"]), options)
"""
    program = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    wait_for(lambda: bool(list(embedded._stubs(repo))))
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert b"KeyboardInterrupt" in err
    assert embedded.running(repo) is None
    assert left_behind(repo) == []


def test_a_model_whose_process_died_is_started_anew_by_the_next_deployment(
    repo: Path, options: ServerOptions
) -> None:
    rows = np.ones((4, 2), np.float32)
    arrays: dict[str, Any] = {"input:x": rows, "expected:y": rows * 2}
    np.savez(repo / "double/1/proof.npz", **arrays)
    server, _ = embedded.deploy(repo, models.choose(repo, []), options)
    for stub in embedded._stubs(repo):
        stub.kill()
    wait_for(lambda: not list(embedded._stubs(repo)))
    with embedded.client(server) as client:
        (result,) = models.load(client, models.choose(repo, []))
    assert (result.error, result.rows) == (None, 4)


def test_an_address_of_another_machine_is_not_called_a_port_in_use(
    repo: Path, options: ServerOptions
) -> None:
    with pytest.raises(DeployError, match=r"cannot listen on 192\.0\.2\.1") as caught:
        embedded.start(repo, replace(options, address="192.0.2.1"))
    assert not isinstance(caught.value, PortInUseError)


def test_a_server_that_dies_while_it_loads_is_reported_as_dead(
    repo: Path, options: ServerOptions
) -> None:
    # The model ends the server from inside, as a crash in a native library would.
    killer = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(60)"
    add_model(repo, "killer", killer)
    with pytest.raises(ServerDiedError, match="the server ended by itself"):
        embedded.deploy(repo, models.choose(repo, ["killer"]), options)
    assert left_behind(repo) == []


def test_ctrl_c_while_the_server_starts_leaves_no_server(
    repo: Path, options: ServerOptions
) -> None:
    script = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from toolkit.deploy import embedded
def interrupt(*arguments):
    raise KeyboardInterrupt
embedded._wait_until_live = interrupt
embedded.start(Path({str(repo)!r}), embedded.ServerOptions(http_port={options.http_port},
    grpc_port={options.grpc_port}, metrics_port={options.metrics_port}))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert b"KeyboardInterrupt" in result.stderr
    assert embedded.running(repo) is None
    assert left_behind(repo) == []


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
        (model,) = models.served(client)
    assert (model.name, model.state, model.requests, model.rows) == ("double", "READY", 3, 6)
    assert model.mean_compute_us > 0


def test_a_written_entry_never_needs_another_form_for_the_server(repo: Path) -> None:
    assert [entry.name for entry in repository.entries(repo)] == ["double"]
