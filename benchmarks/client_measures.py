"""What the benchmark of the client measures, each on a server that runs already."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks import client_rivals
from toolkit.client import AsyncClient, Client
from toolkit.client.options import ClientOptions
from toolkit.deploy.state import Server
from toolkit.errors import RequestError

MODEL = "double"
WIRES = ("http", "grpc")
_BLOCK = 25
_LOOP_ROWS = 4_000
_MANY_ROWS, _MILLION = 100_000, 1_000_000
_THREADS, _TASKS = 64, 1_000
_DEADLINES = 10

Row = NDArray[np.float32]
Ask = Callable[[Row], Any]
AskAsync = Callable[[Row], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; ``reached`` is None where there is nothing to judge."""

    what: str
    figure: str
    goal: str = ""
    reached: bool | None = None


def url_of(server: Server, wire: str) -> str:
    """Return where the server answers on the wire."""
    return server.http_url if wire == "http" else server.grpc_url


def latency(server: Server, seconds: float) -> Iterator[Line]:
    """Ask for one row after the other, ours and tritonclient in turns."""
    for wire, goal in (("http", 1.0), ("grpc", 1.15)):
        url = url_of(server, wire)
        for style, measured in (("sync", _turns), ("async", _turns_async)):
            what = f"one row, {wire}, {style}"
            try:
                ours, theirs = measured(url, min(seconds, 15))
            except client_rivals.NotInstalledError as error:
                yield Line(what, str(error), f"≤ {goal:g}x")
                continue
            ratio = np.percentile(ours, 50) / np.percentile(theirs, 50)
            yield Line(
                what,
                f"{_spread(ours)} to {_spread(theirs)} of tritonclient: {ratio:.2f}x",
                f"≤ {goal:g}x",
                bool(ratio <= goal),
            )


def _spread(seconds: Sequence[float]) -> str:
    middle, high = np.percentile(seconds, (50, 99)) * 1e6
    return f"p50 {middle:.0f} µs, p99 {high:.0f} µs"


def _turns(url: str, seconds: float) -> tuple[list[float], list[float]]:
    with Client(url) as client, client_rivals.sync(url, MODEL) as theirs:
        asked: list[tuple[Ask, list[float]]] = [
            (lambda row: client.predict(MODEL, row)["y"], []),
            (theirs, []),
        ]
        for ask, _ in asked:
            _block(ask)
        until = time.monotonic() + seconds
        for turn in itertools.count():
            for ask, times in asked if turn % 2 else reversed(asked):
                times.extend(_block(ask))
            if time.monotonic() > until:
                return asked[0][1], asked[1][1]
    raise AssertionError


def _block(ask: Ask) -> list[float]:
    times = []
    for value in range(_BLOCK):
        row = np.array([[value, 0]], np.float32)
        started = time.perf_counter()
        answer = ask(row)
        times.append(time.perf_counter() - started)
        _require(answer, value)
    return times


def _turns_async(url: str, seconds: float) -> tuple[list[float], list[float]]:
    return asyncio.run(_turns_on_loop(url, seconds))


async def _turns_on_loop(url: str, seconds: float) -> tuple[list[float], list[float]]:
    async with AsyncClient(url) as client, client_rivals.on_loop(url, MODEL) as theirs:

        async def ours(row: Row) -> Any:
            return (await client.predict(MODEL, row))["y"]

        asked: list[tuple[AskAsync, list[float]]] = [(ours, []), (theirs, [])]
        for ask, _ in asked:
            await _block_async(ask)
        until = time.monotonic() + seconds
        for turn in itertools.count():
            for ask, times in asked if turn % 2 else reversed(asked):
                times.extend(await _block_async(ask))
            if time.monotonic() > until:
                return asked[0][1], asked[1][1]
    raise AssertionError


async def _block_async(ask: AskAsync) -> list[float]:
    times = []
    for value in range(_BLOCK):
        row = np.array([[value, 0]], np.float32)
        started = time.perf_counter()
        answer = await ask(row)
        times.append(time.perf_counter() - started)
        _require(answer, value)
    return times


def _require(answer: Any, value: int) -> None:
    if answer.item() != 2 * value:
        raise SystemExit(f"error: a wrong answer: {answer} to {value}")


def many(server: Server, _: float) -> Iterator[Line]:
    """Ask for many single rows at once, and one after the other with tritonclient."""
    for wire in WIRES:
        url = url_of(server, wire)
        what = f"predict_many of {_MANY_ROWS:,} rows, {wire}"
        try:
            before = _loop_rate(url)
            with Client(url) as client:
                started = time.perf_counter()
                wrong, errors = _consume(client, _MANY_ROWS)
                rate = _MANY_ROWS / (time.perf_counter() - started)
            theirs = median((before, _loop_rate(url)))
        except client_rivals.NotInstalledError as error:
            yield Line(what, str(error), "≥ 4x")
            continue
        yield Line(
            what,
            f"{rate:,.0f} rows/s to {theirs:,.0f} of a tritonclient loop: {rate / theirs:.1f}x;"
            f" {wrong} wrong, {errors} errors",
            "≥ 4x",
            rate >= 4 * theirs and not wrong and not errors,
        )


def _loop_rate(url: str) -> float:
    with client_rivals.sync(url, MODEL) as ask:
        _block(ask)
        started = time.perf_counter()
        for value in range(_LOOP_ROWS):
            _require(ask(np.array([[value, 0]], np.float32)), value)
        return _LOOP_ROWS / (time.perf_counter() - started)


def _consume(client: Client, count: int) -> tuple[int, int]:
    """Ask for rows as they are made, forget each answer; return how many were wrong, failed."""
    wrong = errors = answered = 0
    rows = (np.array([value, 0], np.float32) for value in range(count))
    for value, answer in enumerate(client.predict_many(MODEL, rows)):
        answered += 1
        if isinstance(answer, RequestError):
            errors += 1
        elif float(answer["y"].item()) != 2 * value:
            wrong += 1
    return wrong, errors + count - answered


def million(server: Server, _: float) -> Iterator[Line]:
    """Send a million rows through ``predict_many`` and watch the memory."""
    for wire in WIRES:
        with Client(url_of(server, wire)) as client:
            _consume(client, 20_000)
            with _memory() as growth:
                started = time.perf_counter()
                wrong, errors = _consume(client, _MILLION)
                seconds = time.perf_counter() - started
        yield Line(
            f"a million rows, {wire}",
            f"{growth[0] / 2**20:.0f} MiB more at the peak, {seconds:.0f} s,"
            f" {wrong} wrong, {errors} errors",
            "≤ 64 MiB",
            growth[0] <= 64 * 2**20 and not wrong and not errors,
        )


@contextmanager
def _memory() -> Iterator[list[int]]:
    """Give the growth of this process's memory at its highest, in bytes, in a list of one."""
    process, over, growth = psutil.Process(), threading.Event(), [0]
    start = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.02):
            growth[0] = max(growth[0], process.memory_info().rss - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        over.set()
        watcher.join()


@dataclass(slots=True)
class _Count:
    answered: int = 0
    wrong: int = 0
    errors: int = 0

    def line(self, what: str, seconds: float) -> Line:
        return Line(
            what,
            f"{self.answered:,} answers, {self.answered / seconds:,.0f}/s;"
            f" {self.wrong} wrong, {self.errors} errors",
            "0 wrong, 0 errors",
            not self.wrong and not self.errors and self.answered > 0,
        )

    def add(self, answer: Any, value: int) -> None:
        self.answered += 1
        self.wrong += float(answer["y"][0]) != 2 * value


def threads(server: Server, seconds: float) -> Iterator[Line]:
    """Let threads share one client, each row's answer checked against its own value."""
    for wire in WIRES:
        counts = [_Count() for _ in range(_THREADS)]
        values = itertools.count(1)
        until = time.monotonic() + seconds
        with Client(url_of(server, wire)) as client:
            workers = [
                threading.Thread(target=_keep_asking, args=(client, values, until, count))
                for count in counts
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        total = _Count(*(sum(getattr(c, n) for c in counts) for n in _Count.__slots__))
        yield total.line(f"{_THREADS} threads for {seconds:g} s, {wire}", seconds)


def _keep_asking(client: Client, values: Iterator[int], until: float, count: _Count) -> None:
    while time.monotonic() < until:
        value = next(values) % 2**23
        try:
            count.add(client.predict(MODEL, [[value, 0]]), value)
        except Exception:  # noqa: BLE001 - whatever is raised here is counted
            count.errors += 1


def tasks(server: Server, seconds: float) -> Iterator[Line]:
    """Let tasks share one asynchronous client, in the same way."""
    for wire in WIRES:
        count = asyncio.run(_many_tasks(url_of(server, wire), seconds))
        yield count.line(f"{_TASKS:,} tasks for {seconds:g} s, {wire}", seconds)


async def _many_tasks(url: str, seconds: float) -> _Count:
    count, values = _Count(), itertools.count(1)

    async def keep_asking() -> None:
        while time.monotonic() < until:
            value = next(values) % 2**23
            try:
                count.add(await client.predict(MODEL, [[value, 0]]), value)
            except Exception:  # noqa: BLE001 - whatever is raised here is counted
                count.errors += 1

    async with AsyncClient(url) as client:
        until = time.monotonic() + seconds
        await asyncio.gather(*(keep_asking() for _ in range(_TASKS)))
    return count


def deadlines(server: Server, _: float) -> Iterator[Line]:
    """Ask servers that hang or are not there; see how far from its deadline each call ends.

    Without a breaker, which would tell of such a server at once; where no other attempt fits
    into the time that is left, a call ends before its deadline.
    """
    hangs = "a frozen server"
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        (hangs, {}),
        (
            f"{hangs}, an attempt every 50 ms",
            {"attempt_timeout": 0.05, "retries": 1000, "max_backoff": 0.02},
        ),
        ("a closed port", {"retries": 1000, "max_backoff": 0.02}),
    )
    for wire, (where, options), style in itertools.product(WIRES, cases, ("sync", "async")):
        url = url_of(server, wire) if where.startswith(hangs) else _nobody(wire)
        measured = _overshoots if style == "sync" else _overshoots_async
        chosen = ClientOptions(breaker=False, retry_reserve=10_000, **options)
        over = np.array(measured(server, url, chosen)) * 1e3
        yield Line(
            f"deadlines, {where}, {wire}, {style}",
            f"{np.median(over):+.0f} ms at the median, {over.min():+.0f} to {over.max():+.0f} ms",
            "within 50 ms",
            bool(np.abs(over).max() <= 50),
        )


def _nobody(wire: str) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"{wire}://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def _frozen(server: Server) -> Iterator[None]:
    process = server.process()
    assert process is not None
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def _moments() -> list[float]:
    return [0.1 + 0.4 * number / _DEADLINES for number in range(_DEADLINES)]


def _overshoots(server: Server, url: str, options: ClientOptions) -> list[float]:
    over = []
    with Client(url, options=options) as client:
        with suppress(RequestError):
            client.predict(MODEL, [[1, 0]], timeout=1)
        with _frozen(server):
            for timeout in _moments():
                started = time.perf_counter()
                with suppress(RequestError):
                    client.predict(MODEL, [[1, 0]], timeout=timeout)
                over.append(time.perf_counter() - started - timeout)
    return over


def _overshoots_async(server: Server, url: str, options: ClientOptions) -> list[float]:
    async def ask() -> list[float]:
        over = []
        async with AsyncClient(url, options=options) as client:
            with suppress(RequestError):
                await client.predict(MODEL, [[1, 0]], timeout=1)
            with _frozen(server):
                for timeout in _moments():
                    started = time.perf_counter()
                    with suppress(RequestError):
                        await client.predict(MODEL, [[1, 0]], timeout=timeout)
                    over.append(time.perf_counter() - started - timeout)
        return over

    return asyncio.run(ask())
