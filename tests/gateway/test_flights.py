"""Equal requests at once: one call, and nobody's leaving is the others' loss."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from toolkit.gateway.flights import Flights


class Model:
    """Answers when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = self.cancelled = 0
        self.free = asyncio.Event()
        self._error = error

    async def __call__(self) -> str:
        self.calls += 1
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._error:
            raise self._error
        return f"answer {self.calls}"


async def turns() -> None:
    """Let everything get as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(steps, debug=True)


def test_equal_requests_are_one_call() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        tasks = [asyncio.create_task(flights.once("a", model)) for _ in range(5)]
        await turns()
        assert len(flights) == 1
        model.free.set()

        assert await asyncio.gather(*tasks) == ["answer 1"] * 5
        assert (model.calls, flights.joined, len(flights)) == (1, 4, 0)

    run(steps())


def test_different_requests_and_later_ones_are_calls_of_their_own() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        model.free.set()
        await asyncio.gather(flights.once("a", model), flights.once("b", model))
        assert await flights.once("a", model) == "answer 3"
        assert flights.joined == 0

    run(steps())


def test_an_error_goes_to_all() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model(ValueError("broken"))
        tasks = [asyncio.create_task(flights.once("a", model)) for _ in range(3)]
        await turns()
        model.free.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)

        assert [str(error) for error in errors] == ["broken"] * 3
        assert (model.calls, len(flights)) == (1, 0)

    run(steps())


@pytest.mark.parametrize("leaver", [0, 1])
def test_one_who_leaves_leaves_the_call_to_the_others(leaver: int) -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        tasks = [asyncio.create_task(flights.once("a", model)) for _ in range(2)]
        await turns()
        tasks[leaver].cancel()
        await turns()
        assert tasks[leaver].cancelled()
        assert model.cancelled == 0
        model.free.set()

        assert await tasks[1 - leaver] == "answer 1"

    run(steps())


def test_the_last_one_to_leave_ends_the_call() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        tasks = [asyncio.create_task(flights.once("a", model)) for _ in range(2)]
        await turns()
        for task in tasks:
            task.cancel()
        await turns()

        assert (model.cancelled, len(flights)) == (1, 0)

    run(steps())


def test_one_who_comes_after_a_call_was_given_up_gets_a_fresh_one() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        first = asyncio.create_task(flights.once("a", model))
        await turns()
        first.cancel()
        await asyncio.sleep(0)  # its call is being cancelled and has not ended
        second = asyncio.create_task(flights.once("a", model))
        await turns()
        third = asyncio.create_task(flights.once("a", model))
        await turns()
        model.free.set()

        assert [await second, await third] == ["answer 2"] * 2
        assert len(flights) == 0

    run(steps())


def test_each_has_a_time_out_of_its_own() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        patient = asyncio.create_task(flights.once("a", model))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await flights.once("a", model)
        assert model.cancelled == 0
        model.free.set()

        assert await patient == "answer 1"

    run(steps())


def test_a_call_that_is_cancelled_from_outside_leaves_nobody_waiting() -> None:
    async def steps() -> None:
        flights, model = Flights[str](), Model()
        waiter = asyncio.create_task(flights.once("a", model))
        await turns()
        (flight,) = flights._flights.values()
        flight.task.cancel()
        await turns()

        assert waiter.cancelled()
        assert len(flights) == 0

    run(steps())


def test_an_error_that_meets_one_who_is_just_leaving_is_told_to_nobody() -> None:
    async def steps() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        flights, model = Flights[str](), Model(ValueError("broken"))
        waiter = asyncio.create_task(flights.once("a", model))
        await turns()
        (flight,) = flights._flights.values()
        (future,) = flight.waiting
        model.free.set()
        while not future.done():  # noqa: ASYNC110  an event would let the waiter run first
            await asyncio.sleep(0)
        waiter.cancel()
        await turns()
        del future, flight
        gc.collect()

        assert waiter.cancelled()
        assert told == []

    run(steps())
