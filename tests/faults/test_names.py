"""Names whose addresses change while callers keep asking."""

import time

import pytest

from tests.faults.conftest import ADDRESSES, Connect
from tests.faults.load import Load, ask
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
