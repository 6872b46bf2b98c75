"""More requests than there is room for: they wait, wait a while, or are sent away."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

from toolkit.gateway.exchange import Refused
from toolkit.gateway.pressure import Pressure, Strategy


async def queued(pressure: Pressure, count: int) -> None:
    async with asyncio.timeout(5):
        while pressure.queue_length < count:  # noqa: ASYNC110  nothing tells when it grows
            await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


def test_the_semaphore_lets_them_wait_and_come_in_in_their_order() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        order: list[int] = []

        async def visit(number: int) -> None:
            async with pressure:
                order.append(number)

        assert await pressure.acquire()
        visits = [asyncio.create_task(visit(number)) for number in range(5)]
        await queued(pressure, 5)
        assert (pressure.current_load, pressure.free, order) == (1, 0, [])
        pressure.release()
        await asyncio.gather(*visits)
        assert order == [0, 1, 2, 3, 4]
        assert (pressure.current_load, pressure.queue_length, pressure.free) == (0, 0, 1)

    run(main)


def test_a_queue_refuses_whoever_finds_it_full() -> None:
    async def main() -> None:
        pressure = Pressure(1, strategy="queue", queue_size=2, timeout_seconds=60)
        assert await pressure.acquire()
        waiting = [asyncio.create_task(pressure.acquire()) for _ in range(2)]
        await queued(pressure, 2)
        assert not await pressure.acquire()
        pressure.release()
        assert await waiting[0]
        assert not waiting[1].done()
        pressure.release()
        assert await waiting[1]

    run(main)


def test_a_queue_refuses_whoever_waited_too_long_and_lets_in_the_next() -> None:
    async def main() -> None:
        pressure = Pressure(1, strategy="queue", timeout_seconds=0.02)
        assert await pressure.acquire()
        assert not await pressure.acquire()
        assert (pressure.current_load, pressure.queue_length) == (1, 0)
        pressure.release()
        assert await pressure.acquire()

    run(main)


def test_reject_refuses_at_once() -> None:
    async def main() -> None:
        pressure = Pressure(2, strategy="reject")
        assert await pressure.acquire()
        async with pressure:
            assert not await pressure.acquire()
            with pytest.raises(Refused, match="busy with 2 requests") as refused:
                await pressure.__aenter__()
            assert refused.value.status == 503
            assert refused.value.headers == ((b"retry-after", b"1"),)
        assert await pressure.acquire()

    run(main)


def test_the_place_is_given_back_when_the_work_fails() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        with pytest.raises(ZeroDivisionError):
            async with pressure:
                raise ZeroDivisionError
        assert pressure.current_load == 0

    run(main)


def test_more_room_lets_in_who_waits_and_less_keeps_who_is_inside() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        assert await pressure.acquire()
        waiting = [asyncio.create_task(pressure.acquire()) for _ in range(3)]
        await queued(pressure, 3)
        pressure.resize(3)
        await asyncio.gather(waiting[0], waiting[1])
        assert (pressure.current_load, pressure.queue_length) == (3, 1)
        pressure.resize(1)
        assert (pressure.current_load, pressure.free) == (3, 0)
        pressure.release()
        pressure.release()
        assert pressure.queue_length == 1, "one is still inside, and there is room for one"
        pressure.release()
        assert await waiting[2]

    run(main)


def test_a_shutdown_refuses_who_waits_and_who_comes_and_lets_the_others_finish() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        async with pressure:
            waiting = asyncio.create_task(pressure.acquire())
            await queued(pressure, 1)
            pressure.shutdown()
            assert not await waiting
            assert (pressure.current_load, pressure.queue_length) == (1, 0)
        pressure.resize(5)
        with pytest.raises(Refused, match="shutting down") as refused:
            await pressure.__aenter__()
        assert (refused.value.status, pressure.current_load) == (503, 0)

    run(main)


def test_who_leaves_the_queue_takes_no_place_with_him() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        assert await pressure.acquire()
        first, second = (asyncio.create_task(pressure.acquire()) for _ in range(2))
        await queued(pressure, 2)
        first.cancel()
        await asyncio.wait([first])
        assert pressure.queue_length == 1
        pressure.release()
        assert await second

    run(main)


def test_who_left_in_the_moment_before_is_not_called() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        assert await pressure.acquire()
        first, second = (asyncio.create_task(pressure.acquire()) for _ in range(2))
        await queued(pressure, 2)
        first.cancel()
        pressure.release()  # the first has not run yet
        assert await second
        await asyncio.wait([first])
        assert pressure.current_load == 1

    run(main)


def test_who_leaves_in_the_moment_of_being_called_passes_the_place_on() -> None:
    async def main() -> None:
        pressure = Pressure(1)
        assert await pressure.acquire()
        first, second = (asyncio.create_task(pressure.acquire()) for _ in range(2))
        await queued(pressure, 2)
        pressure.release()  # calls the first, who has not run yet
        first.cancel()
        await asyncio.wait([first])
        assert await second
        assert pressure.current_load == 1

    run(main)


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_places_are_neither_lost_nor_made_up_whatever_happens(strategy: Strategy) -> None:
    chance = random.Random(1)

    async def main() -> None:
        pressure = Pressure(4, strategy=strategy, queue_size=30, timeout_seconds=0.005)
        most = served = 0

        async def visit() -> None:
            nonlocal most, served
            await asyncio.sleep(chance.random() * 0.02)
            async with pressure:
                most = max(most, pressure.current_load)
                await asyncio.sleep(chance.random() * 0.002)
                served += 1

        visits = [asyncio.create_task(visit()) for _ in range(600)]
        for task in chance.sample(visits, 150):
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(chance.random() * 0.05, task.cancel)
        await asyncio.wait(visits)
        assert (pressure.current_load, pressure.queue_length) == (0, 0)
        assert most == 4
        assert served > 4

    run(main)
