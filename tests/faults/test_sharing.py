"""One client for many callers at once: each gets the answer to its own question."""

import asyncio
import itertools
import time

import pytest

from tests.faults.conftest import Connect, caller_of
from tests.faults.load import Load, OnLoop
from tests.faults.replica import MODEL, Replica

SECONDS = 2.0


@pytest.mark.parametrize("style", ["threads"], indirect=True)
def test_64_threads_share_a_client_without_a_wrong_answer_or_an_error(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    with Load(connect(replica.url(scheme)), threads=64, timeout=20, pause=0) as load:
        load.wait(SECONDS)

    load.check()
    assert len(load.outcomes) > 64


def test_1000_tasks_share_a_client_without_a_wrong_answer_or_an_error(
    replica: Replica, scheme: str
) -> None:
    caller = caller_of("asyncio", [replica.url(scheme)])
    assert isinstance(caller, OnLoop)
    client = caller.client
    values = itertools.count(1)
    right = []

    async def keep_asking(until: float) -> None:
        while time.monotonic() < until:
            value = next(values)
            answer = await client.predict(MODEL, [[value, 0]], timeout=30)
            right.append(answer["y"].tolist() == [2 * value])

    async def all_at_once() -> None:
        until = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            for _ in range(1000):
                group.create_task(keep_asking(until))

    try:
        caller.run(all_at_once())
    finally:
        caller.close()

    assert len(right) >= 1000
    assert all(right)
