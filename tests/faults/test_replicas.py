"""Servers that die, hang and come back while callers keep asking."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tests.deploy.doubling import wait_for
from tests.faults.conftest import Connect, crosswise
from tests.faults.load import Load, ask
from tests.faults.replica import MODEL, Replica
from toolkit.client import Client
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    RequestError,
    UnavailableError,
)

PATIENT: dict[str, Any] = {
    "retries": 60,
    "max_backoff": 0.3,
    "retry_reserve": 2000,
    "breaker_reset": 0.2,
}
"""For callers whose deadline is the only thing that makes them give up."""


@crosswise
def test_a_server_killed_and_restarted_under_load_loses_nothing(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    patient = Load(connect(replica.url(scheme), **PATIENT), threads=4, timeout=20)
    hurried = Load(connect(replica.url(scheme)), threads=4, timeout=0.5)
    with patient, hurried:
        patient.wait_for_answers_of(1)
        hurried.wait_for_answers_of(1)
        replica.kill()
        replica.start()
        patient.wait_for_answers_of(1)
        hurried.wait_for_answers_of(1)

    patient.check()
    hurried.check(ConnectionFailedError, DeadlineExceededError, UnavailableError)
    assert hurried.errors


@crosswise
def test_one_of_three_replicas_killed_under_load_fails_no_request(
    replicas: list[Replica], scheme: str, connect: Connect
) -> None:
    caller = connect(*(replica.url(scheme) for replica in replicas))
    with Load(caller) as load:
        for replica in replicas:
            load.wait_for_answers_of(replica.number)
        replicas[1].kill()
        killed = time.monotonic()
        load.wait(1)
        assert load.replicas(since=killed) == {1, 3}
        replicas[1].start()
        load.wait_for_answers_of(2)

    load.check()


@pytest.mark.parametrize(
    ("scheme", "mode"), [("http", "threads"), ("grpc", "async")], indirect=["scheme"]
)
def test_one_of_three_replicas_killed_under_predict_many_fails_no_row(
    replicas: list[Replica], scheme: str, mode: Literal["threads", "async"]
) -> None:
    killed = threading.Event()
    values = itertools.count()

    def kill() -> None:
        try:
            before = replicas[1].executed()
            wait_for(lambda: replicas[1].executed() > before + 4)
        finally:
            replicas[1].kill()
            killed.set()

    def rows() -> Iterator[list[float]]:
        while not killed.is_set():
            yield [next(values), 0.01]
        for _ in range(200):
            yield [next(values), 0.01]

    answers: list[Any] = []
    with Client([replica.url(scheme) for replica in replicas]) as client:
        killer = threading.Thread(target=kill)
        killer.start()
        answers += client.predict_many(MODEL, rows(), mode=mode, batch_size=4)
        killer.join()

    assert [answer for answer in answers if isinstance(answer, RequestError)] == []
    told = [(float(answer["y"]), int(answer["replica"])) for answer in answers]
    assert [doubled for doubled, _ in told] == [2.0 * value for value in range(next(values))]
    assert {number for _, number in told[:-200]} == {1, 2, 3}
    assert {number for _, number in told[-100:]} == {1, 3}


def test_a_replica_that_hangs_holds_up_no_request_and_is_asked_again_when_it_is_back(
    replicas: list[Replica], scheme: str, connect: Connect
) -> None:
    urls = [replica.url(scheme) for replica in replicas]
    patient = Load(connect(*urls, attempt_timeout=0.3), timeout=5, threads=4)
    hurried = Load(connect(*urls), timeout=0.7, threads=4)
    with patient, hurried:
        patient.wait_for_answers_of(2)
        hurried.wait_for_answers_of(2)
        replicas[1].freeze()
        frozen = time.monotonic()
        patient.wait(1.5)
        assert patient.replicas(since=frozen) == {1, 3}
        replicas[1].thaw()
        patient.wait_for_answers_of(2)
        hurried.wait_for_answers_of(2)

    patient.check()
    hurried.check(DeadlineExceededError)


@crosswise
def test_a_hedged_request_does_not_wait_for_the_replica_that_hangs(
    replicas: list[Replica], scheme: str, connect: Connect
) -> None:
    caller = connect(*(replica.url(scheme) for replica in replicas), hedge_after=0.1)
    with Load(caller, timeout=1, threads=4) as load:
        load.wait_for_answers_of(2)
        replicas[1].freeze()
        frozen = time.monotonic()
        load.wait(2)  # Longer than the deadlines of those that were sent there.
        assert load.replicas(since=frozen) == {1, 3}
        replicas[1].thaw()
        load.wait_for_answers_of(2)

    load.check()


@crosswise
def test_a_model_whose_process_died_is_unavailable_and_says_how_to_get_it_back(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    caller = connect(replica.url(scheme), retries=1)
    assert ask(caller, 1, timeout=10).right
    replica.kill_model()

    outcome = ask(caller, 2, timeout=10)

    assert type(outcome.error) is UnavailableError
    assert (outcome.error.kind, outcome.error.attempts) == ("HTTP", 2)
    assert "unload and load the model" in str(outcome.error.hint)
    assert outcome.elapsed < 10


@crosswise
def test_callers_of_a_model_whose_process_died_are_answered_when_it_is_loaded_again(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    caller = connect(replica.url(scheme), **PATIENT)
    assert ask(caller, 1, timeout=10).right
    replica.kill_model()
    with Load(caller, threads=4, timeout=20) as load:
        load.wait(0.2)
        replica.load_model()
        load.wait_for_answers_of(1)

    load.check()


@crosswise
def test_a_model_whose_process_died_on_one_of_three_replicas_fails_no_request(
    replicas: list[Replica], scheme: str, connect: Connect
) -> None:
    caller = connect(*(replica.url(scheme) for replica in replicas))
    with Load(caller, timeout=10) as load:
        load.wait_for_answers_of(2)
        replicas[1].kill_model()
        died = time.monotonic()
        load.wait(1.5)
        assert load.replicas(since=died) == {1, 3}

    load.check()
