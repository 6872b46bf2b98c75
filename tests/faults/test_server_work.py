"""What the server does not do any more for a caller who has gone."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.conftest import Connect, caller_of
from tests.faults.load import GRACE, OnLoop, Outcome, ask
from tests.faults.replica import MODEL, Replica
from toolkit.errors import DeadlineExceededError

BUSY = 1.0
only_asyncio = pytest.mark.parametrize("style", ["asyncio"], indirect=True)


@contextmanager
def occupied(replica: Replica) -> Iterator[list[Outcome]]:
    """Keep the model busy with one request and have another wait, so that all else queues.

    The next in line is handed to the model ahead of its time: no longer is it in the queue
    that drops what nobody waits for any more (2.51).
    """
    occupant = caller_of("threads", [replica.url("grpc")])
    ask(occupant, 1, timeout=10)
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(
            target=lambda s=s: outcomes.append(ask(occupant, 7, seconds=s, timeout=10))
        )
        for s in (BUSY, 0.01)
    ]
    for thread in threads:
        thread.start()
        threading.Event().wait(0.1)
    try:
        yield outcomes
    finally:
        for thread in threads:
            thread.join()
        occupant.close()


def test_a_request_whose_time_is_up_is_not_executed(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    caller = connect(replica.url(scheme))
    ask(caller, 1, timeout=10)
    with occupied(replica) as occupants, ThreadPoolExecutor(3) as pool:
        before = replica.executed()
        expired = list(pool.map(lambda value: ask(caller, value, timeout=0.3), (21, 22, 23)))
    after = ask(caller, 24, timeout=10)

    assert {type(outcome.error) for outcome in expired} == {DeadlineExceededError}
    assert max(outcome.elapsed for outcome in expired) < 0.3 + GRACE
    assert [occupant.right for occupant in occupants] == [True, True]
    assert after.right
    assert replica.executed() - before == 3  # The two occupants and the one asked afterwards.


@only_asyncio
@pytest.mark.parametrize("scheme", ["grpc"], indirect=True)
def test_a_cancelled_task_takes_its_request_out_of_the_servers_queue(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    caller = connect(replica.url(scheme))
    assert isinstance(caller, OnLoop)
    client = caller.client

    async def give_up() -> None:
        task = asyncio.create_task(client.predict(MODEL, [[21, 0]], timeout=30))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    ask(caller, 1, timeout=10)
    with occupied(replica) as occupants:
        before = replica.executed()
        started = time.monotonic()
        caller.run(give_up())
        assert time.monotonic() - started < 0.2 + GRACE
    after = ask(caller, 22, timeout=10)

    assert [occupant.right for occupant in occupants] == [True, True]
    assert after.right
    assert replica.executed() - before == 3


@only_asyncio
def test_a_cancelled_task_leaves_the_client_fit_for_the_others(
    replica: Replica, scheme: str, connect: Connect
) -> None:
    caller = connect(replica.url(scheme), max_in_flight=4)
    assert isinstance(caller, OnLoop)
    client = caller.client

    async def cancel_half() -> list[Any]:
        tasks = [
            asyncio.create_task(client.predict(MODEL, [[value, 0.01]], timeout=20))
            for value in range(40)
        ]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        return list(await asyncio.gather(*tasks[1::2]))

    kept = caller.run(cancel_half())

    assert [answer["y"].tolist() for answer in kept] == [[2 * v] for v in range(1, 40, 2)]
    assert ask(caller, 5, timeout=5).right
