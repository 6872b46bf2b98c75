"""Names whose addresses change while callers keep asking."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.deploy.doubling import wait_for
from tests.faults.conftest import ADDRESSES, Connect, caller_of, crosswise
from tests.faults.load import Load, OnLoop, ask
from tests.faults.replica import Replica
from toolkit.errors import ConnectionFailedError

NAME = "replicas.test"
FIRST, SECOND, THIRD = ADDRESSES


@pytest.fixture
def url(replicas: list[Replica], scheme: str) -> str:
    port = replicas[0].url(scheme).rpartition(":")[2]
    return f"dns:///{NAME}:{port}" if scheme == "grpc" else f"dns+http:///{NAME}:{port}"


def test_every_address_of_a_name_is_asked(
    url: str, names: dict[str, list[str]], connect: Connect
) -> None:
    names[NAME] = [FIRST, SECOND, THIRD]
    with Load(connect(url)) as load:
        for number in (1, 2, 3):
            load.wait_for_answers_of(number)

    load.check()


def test_addresses_that_come_and_go_are_followed(
    url: str, names: dict[str, list[str]], connect: Connect
) -> None:
    names[NAME] = [FIRST]
    with Load(connect(url, resolve_every=0.2)) as load:
        load.wait_for_answers_of(1)
        names[NAME] = [SECOND, THIRD]
        load.wait_for_answers_of(2)
        load.wait_for_answers_of(3)
        followed = time.monotonic()
        load.wait(0.3)

    load.check()
    assert load.replicas(since=followed) == {2, 3}


@crosswise
def test_a_server_that_moved_is_found_at_once_because_its_old_address_is_dead(
    replicas: list[Replica], url: str, names: dict[str, list[str]], connect: Connect
) -> None:
    names[NAME] = [FIRST]
    with Load(connect(url, resolve_every=60), timeout=10) as load:
        load.wait_for_answers_of(1)
        names[NAME] = [SECOND]
        replicas[0].kill()
        load.wait_for_answers_of(2)

    load.check()


def test_a_server_that_left_answers_what_it_was_asked_and_is_then_let_go(
    replicas: list[Replica], url: str, names: dict[str, list[str]], connect: Connect
) -> None:
    names[NAME] = [FIRST]
    first = f"{FIRST}:{url.rpartition(':')[2]}"
    caller = connect(url, resolve_every=0.1)
    ask(caller, 1, timeout=10)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, caller, 7, seconds=1, timeout=10)
        time.sleep(0.1)
        names[NAME] = [SECOND]
        time.sleep(0.1)
        with Load(caller) as load:
            load.wait_for_answers_of(2)
            assert connected_to(first)
            assert (slow.result().right, slow.result().replica) == (True, 1)
            wait_for(lambda: not connected_to(first))

    load.check()


def connected_to(address: str) -> bool:
    peers = [c.raddr for c in psutil.Process().net_connections() if c.status == "ESTABLISHED"]
    return any(f"{peer.ip}:{peer.port}".endswith(address) for peer in peers)  # or ::ffff:…


def test_a_client_that_is_closed_while_it_asks_for_a_name_opens_nothing_more(
    replicas: list[Replica],
    url: str,
    style: str,
    names: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names[NAME] = [FIRST]
    asked, closed = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        asked.set()
        closed.wait(10)
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    caller = caller_of(style, [url])
    client: Any = caller.client if isinstance(caller, OnLoop) else caller
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, caller, 1, timeout=10)
        asked.wait(10)
        if isinstance(caller, OnLoop):
            caller.run(client.close())
        else:
            client.close()
        closed.set()
        outcome = waiting.result()
    caller.close()

    assert type(outcome.error) is ConnectionFailedError
    assert "the client was closed" in str(outcome.error)
    assert client._policy.replicas.all == ()


def test_a_name_service_that_fails_for_a_while_takes_no_address_away(
    url: str, names: dict[str, list[str]], connect: Connect
) -> None:
    names[NAME] = [FIRST]
    with Load(connect(url, resolve_every=0.1)) as load:
        load.wait_for_answers_of(1)
        names[NAME] = []
        load.wait(0.5)

    load.check()


def test_a_name_without_addresses_is_a_failed_connection_in_time(
    url: str, names: dict[str, list[str]], connect: Connect
) -> None:
    names[NAME] = []

    outcome = ask(connect(url), 1, timeout=0.5)

    assert type(outcome.error) is ConnectionFailedError
    assert NAME in str(outcome.error)
    assert outcome.elapsed < 1
