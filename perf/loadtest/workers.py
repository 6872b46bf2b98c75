"""Processes that load side by side, and the counts they hand over."""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import cast

from perf.loadtest.plan import Plan
from perf.loadtest.recorder import Recorder, Second
from toolkit.errors import ToolkitError

_START_SECONDS = 60.0
_HEAD_START_SECONDS = 0.1
_STOP_SECONDS = 5.0
_FAREWELL_SECONDS = 1.0
_PACE_SECONDS = 0.1
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Done:
    """A worker's last word: how long it measured, and how many seconds it handed over."""

    elapsed_seconds: float


@dataclass(slots=True)
class Stop:
    """Whether somebody pressed Ctrl-C."""

    asked: bool = False


def run(plan: Plan, take: Callable[[Second], None]) -> tuple[float, bool]:
    """Load as planned; ``take`` gets every second of every worker.

    Returns how many seconds were measured, and whether the run was interrupted. Raises
    ``ToolkitError`` if a worker died.
    """
    elapsed = 0.0
    with _listening() as stop, _started(plan) as pipes:
        _await_ready(pipes, stop)
        if not stop.asked:
            start = time.monotonic() + _HEAD_START_SECONDS + plan.warmup_seconds
            for pipe in pipes:
                _tell(pipe, start)
            elapsed = _collect(plan, pipes, stop, take)
    return elapsed, stop.asked


@contextmanager
def _started(plan: Plan) -> Iterator[list[Pipe]]:
    """Start the workers, give a pipe to each, and end them."""
    # They share no state with this process, whatever threads it has.
    context = multiprocessing.get_context("spawn")
    pipes: list[Pipe] = []
    processes: list[SpawnProcess] = []
    try:
        with _deaf():
            for worker in range(plan.workers):
                here, there = context.Pipe()
                pipes.append(here)
                process = context.Process(target=work, args=(there, plan, worker), daemon=True)
                process.start()
                processes.append(process)
                there.close()
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()  # A worker that still listens ends at this.
        for process in processes:
            process.join(_FAREWELL_SECONDS)
            if process.is_alive():
                process.kill()
            process.join()


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that hear no Ctrl-C, which reaches the whole group of a terminal.

    What is blocked here stays blocked in them; here it is only put off.
    """
    # On its first start the tracker of multiprocessing unblocks what is blocked (3.11).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _listening() -> Iterator[Stop]:
    """Note Ctrl-C, and end at once at the second."""
    stop = Stop()

    def note(_number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    for number, handler in before.items():
        # SIG_DFL ends the process as it always did; what is ignored stays ignored.
        if handler not in {signal.SIG_IGN, signal.SIG_DFL, None}:
            signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _await_ready(pipes: list[Pipe], stop: Stop) -> None:
    deadline = time.monotonic() + _START_SECONDS
    for pipe in pipes:
        while not stop.asked and not pipe.poll(_PACE_SECONDS):
            if time.monotonic() > deadline:
                raise ToolkitError("a worker of the load generator did not start")
        if not stop.asked:
            _receive(pipe)


def _collect(plan: Plan, pipes: list[Pipe], stop: Stop, take: Callable[[Second], None]) -> float:
    running, told, elapsed = list(pipes), False, 0.0
    deadline = time.monotonic() + _bound_seconds(plan)
    while running:
        if stop.asked and not told:
            told, deadline = True, time.monotonic() + _STOP_SECONDS
            for pipe in running:
                _tell(pipe, None)
        if time.monotonic() > deadline:
            raise ToolkitError("a worker of the load generator hangs")
        for ready in wait(running, _PACE_SECONDS):
            pipe = cast("Pipe", ready)
            match _receive(pipe):
                case Second() as second:
                    take(second)
                case Done(elapsed_seconds=seconds):
                    elapsed = max(elapsed, seconds)
                    running.remove(pipe)
    return elapsed


def _bound_seconds(plan: Plan) -> float:
    known = plan.warmup_seconds + plan.seconds + plan.timeout_seconds
    return known + _START_SECONDS


def _receive(pipe: Pipe) -> object:
    try:
        return pipe.recv()
    except (EOFError, ConnectionError) as error:
        raise ToolkitError(
            "a worker of the load generator died",
            hint="what it printed stands above; the system may have run out of memory",
        ) from error


def _tell(pipe: Pipe, word: object) -> None:
    try:
        pipe.send(word)
    except OSError:
        return  # It has ended; that is seen when it is listened to.


def work(pipe: Pipe, plan: Plan, worker: int) -> None:
    """Be a worker: wait for the time to start at, load, hand over each second."""
    import uvloop

    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(pipe, plan, worker))
    pipe.close()


async def _work(pipe: Pipe, plan: Plan, worker: int) -> None:
    from perf.loadtest.generator import generate

    try:
        pipe.send("ready")
        start = pipe.recv()
    except (EOFError, OSError):
        return  # It was interrupted before it began.
    stopped = asyncio.Event()

    def hear() -> None:
        try:
            pipe.recv()
        except EOFError:
            os._exit(1)
        stopped.set()

    asyncio.get_running_loop().add_reader(pipe.fileno(), hear)
    end = start + plan.seconds
    recorder = Recorder(start, end, partial(_hand_over, pipe), closed=plan.closed)
    await generate(plan, worker, start, recorder, stopped)
    asyncio.get_running_loop().remove_reader(pipe.fileno())
    _hand_over(pipe, Done(max(0.0, min(time.monotonic(), end) - start)))


def _hand_over(pipe: Pipe, what: Second | Done) -> None:
    try:
        pipe.send(what)
    except OSError:
        os._exit(1)  # The parent is gone, and nobody will read the counts.
