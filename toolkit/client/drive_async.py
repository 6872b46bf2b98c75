"""Run the steps of a policy on the running event loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from toolkit.client.drive import addresses
from toolkit.client.effects import (
    Close,
    Effect,
    Enter,
    Race,
    Resolve,
    Result,
    Send,
    Sleep,
    Steps,
)


class AsyncDriver:
    """What the tasks of one client share: places in flight, anew in each event loop."""

    def __init__(self, max_in_flight: int | None) -> None:
        self._max_in_flight = max_in_flight or 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._bind(None)

    def _bind(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._places = asyncio.Semaphore(self._max_in_flight)
        self._closed = asyncio.Event()
        if self._is_closed:
            self._closed.set()

    async def run(self, steps: Steps[Result]) -> Result:
        """Do what the steps ask for and return what they come to."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop and (self._loop is None or self._loop.is_closed()):
            self._bind(loop)
        try:
            effect = next(steps)
            while True:
                try:
                    result = await self._done(effect)
                except BaseException as error:  # noqa: BLE001  cancellation too: counted, then raised on
                    effect = steps.throw(error)
                else:
                    effect = steps.send(result)
        except StopIteration as end:
            returned: Result = end.value
            return returned

    def leave(self) -> None:
        """Give back a place in flight."""
        self._places.release()

    def close(self) -> None:
        """End all pauses."""
        self._is_closed = True
        self._closed.set()

    async def _done(self, effect: Effect) -> Any:
        match effect:
            case Send():
                return await _sent(effect)
            case Sleep():
                await self._within(self._closed.wait(), effect.seconds)
            case Enter():
                return await self._within(self._places.acquire(), effect.timeout)
            case Resolve():
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(effect.timeout):
                    found = await loop.getaddrinfo(effect.host, None, type=socket.SOCK_STREAM)
                return addresses(found)
            case Close():
                await effect.replica.transport.close()
            case Race():
                return await _raced(effect)
        return None

    @staticmethod
    async def _within(waiting: Any, seconds: float) -> bool:
        # Not wait_for: before Python 3.12 a place can get lost in it.
        try:
            async with asyncio.timeout(seconds):
                await waiting
        except TimeoutError:
            return False
        return True


async def _sent(send: Send) -> Any:
    return await send.replica.transport.send(send.call, send.timeout, send.headers)


async def _raced(race: Race) -> Any:
    first = asyncio.create_task(_counted(race.first, race.ended))
    running = {first}
    try:
        await asyncio.wait(running, timeout=race.delay)
        if not first.done() and (second := race.second()) is not None:
            running.add(asyncio.create_task(_counted(second, race.ended)))
        pending = set(running)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    return task.result()
        return first.result()
    finally:
        for task in running:
            if not task.cancel() and not task.cancelled():
                task.exception()  # seen: asyncio need not complain of the slower one's


async def _counted(send: Send, ended: Callable[[Send, BaseException | None], None]) -> Any:
    try:
        answer = await _sent(send)
    except BaseException as error:
        ended(send, error)
        raise
    ended(send, None)
    return answer
