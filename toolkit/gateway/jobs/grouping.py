"""Writes that wait together go in one transaction, for a commit costs more than a row."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

_MOST = 256

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Grouped(Generic[Item, Outcome]):
    """Calls ``write`` with all that gathered during its last call; nobody waits for company.

    ``write`` returns one outcome an item, in their order; an exception among them is raised
    to the caller of that item, one raised by ``write`` to all callers of the group.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]]
    ) -> None:
        self._write = write
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Outcome:
        """Return the outcome once the item is committed."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await future

    async def settled(self) -> None:
        """Return when nothing is under way."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _drain(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            outcomes: Sequence[Outcome | Exception]
            try:
                outcomes = await self._write([item for item, _ in group])
            except Exception as error:  # noqa: BLE001  each caller gets one of its own
                outcomes = [copy.copy(error) for _ in group]
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if future.done():  # its caller went away
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
