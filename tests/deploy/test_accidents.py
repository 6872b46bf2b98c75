"""What may go wrong with a server, and that nothing of it is left or believed."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.deploy.doubling import CONFIG, DOUBLE, add_model, left_behind, wait_for
from toolkit.deploy import embedded, models, state
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server
from toolkit.errors import (
    DeployError,
    PortInUseError,
    ServerDiedError,
    ServerNotRunningError,
)


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
    # Busy with another request when it is asked first, and nobody may wait.
    started = repo.parent / "started"
    work = f"import time; open({str(started)!r}, 'w').close(); time.sleep(0.5)"
    busy = DOUBLE.replace("return [pb", work + "\n        return [pb")
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
        wait_for(started.exists)
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


def test_a_server_that_is_about_to_end_is_not_taken_for_one_that_runs(
    repo: Path, options: ServerOptions
) -> None:
    embedded.start(repo, options)
    dead = embedded.require_running(repo)
    embedded.stop(repo)
    with subprocess.Popen(["sleep", "0.5"]) as dying:
        state.write(
            repo, replace(dead, pid=dying.pid, created=psutil.Process(dying.pid).create_time())
        )
        server = embedded.start(repo, options)

    assert server.pid != dying.pid
    with embedded.client(server) as client:
        assert client.is_ready()


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
