"""Any number of rows: a few batches under way at a time, answers in the order of the rows."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from toolkit.client.asking import Asking, Part, Question, Signature, taken
from toolkit.client.drive import Driver
from toolkit.client.drive_async import AsyncDriver
from toolkit.client.prediction import Prediction
from toolkit.client.workers import Workers
from toolkit.errors import ConfigError, InvalidInputError, RequestError

if TYPE_CHECKING:
    from toolkit.client.async_client import AsyncClient

Outcome = Prediction | RequestError
Batches = Generator[list[Part], None, None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of ``predict_many``."""

    question: Question
    rows: Iterable[object]
    max_in_flight: int
    batch_size: int | None

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "batch_size"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be a whole number from 1 on, got {value!r}")
        if isinstance(self.rows, (str, bytes)):
            raise ConfigError("rows is a single text", hint="give a list, or use predict_one")
        if row_count(self.rows) is None and not hasattr(self.rows, "__iter__"):
            raise ConfigError(f"rows must be some rows, got {self.rows!r}")

    def batches(self, largest: int) -> Iterator[tuple[object, int]]:
        """Yield some rows and their number; ``largest`` is what the model takes at once."""
        size = min(self.batch_size or largest, largest)
        if (count := row_count(self.rows)) is not None:
            for start in range(0, count, size):
                stop = min(start + size, count)
                yield taken(self.rows, start, stop), stop - start
            return
        rows = iter(self.rows)
        while batch := list(itertools.islice(rows, size)):
            yield batch, len(batch)


def row_count(rows: object) -> int | None:
    """Return the number of rows of what can be cut, None for what can only be gone through.

    Raises ``InvalidInputError`` for columns of several lengths.
    """
    if isinstance(rows, Mapping):
        counts = {name: len(values) for name, values in rows.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise InvalidInputError(f"the columns differ in their number of rows: {listed}")
        return next(iter(counts.values()), 0)
    return len(rows) if hasattr(rows, "__getitem__") and hasattr(rows, "__len__") else None


def lone(row: object) -> object:
    """Return one row as rows."""
    if isinstance(row, Mapping):
        return {name: [value] for name, value in row.items()}
    return [row]


def each(batches: Batches) -> Iterator[Outcome]:
    """Yield the outcomes row by row."""
    with closing(batches):
        for parts in batches:
            for part in parts:
                yield from part.rows()


def with_threads(driver: Driver, asking: Asking, plan: Plan) -> Batches:
    """Yield what becomes of each batch, ``plan.max_in_flight`` at a time; 1 needs no thread."""
    question, ahead = plan.question, plan.max_in_flight
    largest = _largest(driver.run(asking.known(question.model, question.version, question.timeout)))
    batches = plan.batches(largest)
    if ahead == 1:
        for rows, count in batches:
            yield driver.run(asking.predict_parts(question, rows, count))
        return
    workers = Workers("predict-many", ahead)
    running: deque[Future[list[Part]]] = deque()
    try:
        for rows, count in batches:
            ask = partial(_asked, driver, asking, question, rows, count)
            running.append(workers.submit(ask))
            if len(running) > ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        # Nobody waits for requests whose answers are not wanted any more.
        for future in running:
            future.cancel()


async def with_tasks(
    driver: AsyncDriver, asking: Asking, plan: Plan
) -> AsyncGenerator[list[Part], None]:
    """Yield what becomes of each batch, ``plan.max_in_flight`` being asked at a time."""
    question = plan.question
    known = await driver.run(asking.known(question.model, question.version, question.timeout))
    running: deque[asyncio.Task[list[Part]]] = deque()
    try:
        for rows, count in plan.batches(_largest(known)):
            steps = asking.predict_parts(question, rows, count)
            running.append(asyncio.create_task(driver.run(steps)))
            if len(running) >= plan.max_in_flight:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def in_a_loop(open_client: "Callable[[], AsyncClient]", plan: Plan) -> Batches:
    """Yield what ``with_tasks`` does, from an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="predict-many", daemon=True)
    thread.start()

    async def batches() -> AsyncGenerator[list[Part], None]:
        async with open_client() as client, aclosing(client.batches(plan)) as asked:
            async for parts in asked:
                yield parts

    answers = batches()
    try:
        while True:
            try:
                yield asyncio.run_coroutine_threadsafe(_next(answers), loop).result()
            except StopAsyncIteration:
                return
    finally:
        asyncio.run_coroutine_threadsafe(_end(answers), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _next(answers: AsyncGenerator[list[Part], None]) -> list[Part]:
    return await anext(answers)


async def _end(answers: AsyncGenerator[list[Part], None]) -> None:
    """End what a Ctrl-C has left under way, then close the client."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await answers.aclose()


def watched(answers: Iterator[Outcome], rows: object) -> Iterator[Outcome]:
    """Show a bar on the terminal while the answers go by."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(answers, total=row_count(rows))


def _asked(
    driver: Driver, asking: Asking, question: Question, rows: object, count: int
) -> list[Part]:
    return driver.run(asking.predict_parts(question, rows, count))


def _largest(signature: Signature) -> int:
    """Return how many rows a request may carry; a model without a batch axis takes one."""
    return max(1, signature.max_batch_size)
