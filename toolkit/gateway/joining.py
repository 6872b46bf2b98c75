"""Concurrent requests to one model, joined into one call to Triton.

A hop costs a Python process several times what a row costs the model. So requests that wait
for the same model, version, priority and time-out go together, as rows of one call. Nothing
waits for company: a call starts as soon as fewer than ``at_once`` are under way, with all
that came until then; Triton's own dynamic batching joins what still comes apart.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from copy import copy
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from toolkit.client import telemetry
from toolkit.errors import DeadlineExceededError, InvalidInputError, RequestError, ServerError
from toolkit.gateway.features import Tensors


class Group(NamedTuple):
    """What requests must have in common to go together; ``form`` is that of their arrays."""

    model: str
    version: str | None
    priority: int | None
    timeout: float
    form: Hashable


class Answered(NamedTuple):
    """The rows of one request in the answer to the call it went with; ``seconds`` of the call."""

    outputs: Tensors
    version: str
    seconds: float


Infer = Callable[[Group, Tensors, float], Awaitable[tuple[Tensors, str]]]
"""Ask for ``tensors`` within so many seconds: the outputs and the version that answered."""


@dataclass(slots=True, eq=False)
class _Waiting:
    tensors: Tensors
    rows: int
    deadline: float
    future: "asyncio.Future[Answered]"
    context: Context | None


@dataclass(slots=True, eq=False)
class _Line:
    waiting: deque[_Waiting] = field(default_factory=deque)
    running: int = 0
    woken: bool = False


class Joiner:
    """Joins the requests of one event loop."""

    def __init__(self, infer: Infer, *, at_once: int = 2) -> None:
        self._infer = infer
        self._at_once = at_once
        self._lines: dict[Group, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for their call to start."""
        return sum(len(line.waiting) for line in self._lines.values())

    async def ask(self, group: Group, tensors: Tensors, rows: int, most: int) -> Answered:
        """Return the answer to ``rows`` rows, in a call of ``most`` rows at most.

        Raises what the call raises, about these rows alone where the fault may be theirs.
        """
        loop = asyncio.get_running_loop()
        line = self._lines.get(group)
        if line is None:
            line = self._lines[group] = _Line()
        future: asyncio.Future[Answered] = loop.create_future()
        # With the span of its first request, not with that of whoever ended before it.
        context = copy_context() if telemetry.in_use() else None
        deadline = monotonic() + group.timeout
        line.waiting.append(_Waiting(tensors, rows, deadline, future, context))
        if line.running < self._at_once and not line.woken:
            line.woken = True
            # Not at once: what else arrived in this turn of the loop comes along.
            loop.call_soon(self._wake, group, line, most)
        return await future

    def _wake(self, group: Group, line: _Line, most: int) -> None:
        line.woken = False
        while line.waiting and line.running < self._at_once:
            batch = _taken(line.waiting, most)
            if batch:
                line.running += 1
                run = self._run(group, line, batch, most)
                task = asyncio.create_task(run, context=batch[0].context)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not line.waiting and not line.running:
            self._lines.pop(group, None)

    async def _run(self, group: Group, line: _Line, batch: list[_Waiting], most: int) -> None:
        try:
            await self._settle(group, batch)
        finally:
            line.running -= 1
            self._wake(group, line, most)

    async def _settle(self, group: Group, batch: list[_Waiting]) -> None:
        began = monotonic()
        try:
            outputs, version = await self._infer(group, _joined(batch), batch[0].deadline - began)
            parts = _parts(outputs, batch)
        except (InvalidInputError, ServerError) as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            # It may be one of them: each alone, so that none takes another with it.
            half = len(batch) // 2
            await asyncio.gather(
                self._settle(group, batch[:half]), self._settle(group, batch[half:])
            )
            return
        except BaseException as error:
            _fail(batch, error)
            if not isinstance(error, Exception):
                raise
            return
        seconds = monotonic() - began
        for one, part in zip(batch, parts, strict=True):
            if not one.future.done():
                one.future.set_result(Answered(part, version, seconds))


def _taken(waiting: deque[_Waiting], most: int) -> list[_Waiting]:
    """Take the next requests, ``most`` rows at most but at least one; drop who gave up."""
    batch: list[_Waiting] = []
    rows, now = 0, monotonic()
    while waiting and (not batch or rows + waiting[0].rows <= most):
        one = waiting.popleft()
        if one.future.done():
            continue
        if one.deadline <= now:
            one.future.set_exception(DeadlineExceededError("no answer in time: it waited in line"))
            continue
        batch.append(one)
        rows += one.rows
    return batch


def _joined(batch: Sequence[_Waiting]) -> Tensors:
    first = batch[0].tensors
    if len(batch) == 1:
        return first
    return {name: np.concatenate([one.tensors[name] for one in batch]) for name in first}


def _parts(outputs: Tensors, batch: Sequence[_Waiting]) -> list[Tensors]:
    if len(batch) == 1:
        return [outputs]
    total = sum(one.rows for one in batch)
    if any(len(array) != total for array in outputs.values()):
        raise ServerError(f"the model answered {total} rows with another number of them")
    parts: list[Tensors] = []
    start = 0
    for one in batch:
        stop = start + one.rows
        parts.append({name: array[start:stop] for name, array in outputs.items()})
        start = stop
    return parts


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for one in batch:
        if not one.future.done():
            if isinstance(error, asyncio.CancelledError):
                one.future.cancel()
            else:
                one.future.set_exception(_own(error))


def _own(error: Any) -> BaseException:
    """Return an exception for one waiter: raised by several, its traceback would grow."""
    own: BaseException = copy(error) if isinstance(error, RequestError) else error
    return own
