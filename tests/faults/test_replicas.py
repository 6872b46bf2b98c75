"""Servers that die, hang and come back while callers keep asking."""

import time
from typing import Any

import pytest

from tests.faults.conftest import Connect
from tests.faults.load import Load
from tests.faults.replica import Replica
from toolkit.errors import ConnectionFailedError, DeadlineExceededError, UnavailableError

PATIENT: dict[str, Any] = {
    "retries": 60,
    "max_backoff": 0.3,
    "retry_reserve": 2000,
    "breaker_reset": 0.2,
}
"""For callers whose deadline is the only thing that makes them give up."""


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


def test_a_hedged_request_does_not_wait_for_the_replica_that_hangs(
    replicas: list[Replica], scheme: str, connect: Connect
) -> None:
    caller = connect(*(replica.url(scheme) for replica in replicas), hedge_after=0.1)
    with Load(caller, timeout=5, threads=4) as load:
        load.wait_for_answers_of(2)
        replicas[1].freeze()
        frozen = time.monotonic()
        load.wait(1)
        assert load.replicas(since=frozen) == {1, 3}
        replicas[1].thaw()

    load.check()
    asked = [outcome for outcome in load.outcomes if outcome.started > frozen]
    assert max(outcome.elapsed for outcome in asked) < 2


@pytest.mark.parametrize("back", [False, True], ids=["gone for good", "loaded again"])
def test_a_model_whose_process_died_is_unavailable_until_it_is_loaded_again(
    replica: Replica, scheme: str, connect: Connect, *, back: bool
) -> None:
    # Triton 2.51 takes a second to refuse, and never answers what it held when the model is
    # loaded again: only the time of an attempt ends that.
    caller = connect(replica.url(scheme), **PATIENT, attempt_timeout=2)
    load = Load(caller, threads=2, timeout=20 if back else 2.5)
    caller.predict("double", [[1, 0]])
    replica.kill_model()
    with load:
        load.wait(0.2)
        if back:
            replica.load_model()
            load.wait_for_answers_of(1)

    if back:
        load.check()
    else:
        load.check(UnavailableError, DeadlineExceededError)
        assert len(load.errors) == len(load.outcomes)


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
