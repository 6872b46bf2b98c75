"""Callers that keep asking, each for values of its own, and what became of every request."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tests.faults.replica import MODEL
from toolkit.client import Prediction
from toolkit.errors import RequestError

Result = TypeVar("Result")

GRACE = 0.5
"""Seconds after its deadline when a call must be over, on a machine busy with other tests."""


class Caller(Protocol):
    """What threads and asyncio have in common: ask, wait, get an answer."""

    def predict(self, model: str, rows: object, *, timeout: float | None = None) -> Prediction: ...

    def close(self) -> None: ...


class OnLoop:
    """An ``AsyncClient`` on an event loop of its own, for callers that are threads."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()
        self.client = self.run(_made(make))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def predict(self, model: str, rows: object, *, timeout: float | None = None) -> Prediction:
        answer: Prediction = self.run(self.client.predict(model, rows, timeout=timeout))
        return answer

    def close(self) -> None:
        self.run(self.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _made(make: Callable[[], Any]) -> Any:
    return make()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request; ``replica`` is None where nothing was answered."""

    started: float
    elapsed: float
    replica: int | None = None
    right: bool = False
    error: BaseException | None = None


def ask(caller: Caller, value: int, *, seconds: float = 0.0, timeout: float) -> Outcome:
    """Ask for twice ``value``, which the model gives after ``seconds``."""
    started = time.monotonic()
    try:
        answer = caller.predict(MODEL, [[value, seconds]], timeout=timeout)
    except Exception as error:  # noqa: BLE001 - an error of another library is a finding
        return Outcome(started, time.monotonic() - started, error=error)
    elapsed = time.monotonic() - started
    right = answer["y"].tolist() == [2 * value]
    return Outcome(started, elapsed, int(answer["replica"][0]), right)


@dataclass
class Load:
    """Threads that ask one caller again and again while the ``with`` lasts."""

    caller: Caller
    threads: int = 8
    timeout: float = 5.0
    pause: float = 0.01
    outcomes: list[Outcome] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._values = itertools.count(1)
        self._asked = 0
        self._workers = [threading.Thread(target=self._work) for _ in range(self.threads)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for worker in self._workers:
            worker.join(self.timeout + 10)
        assert not any(worker.is_alive() for worker in self._workers), "a call never ended"

    def _work(self) -> None:
        while not self._over.wait(self.pause):
            value = next(self._values)  # a float32 holds it exactly, and so its double
            self.outcomes.append(ask(self.caller, value, timeout=self.timeout))

    def wait(self, seconds: float) -> None:
        """Let the load go on for a while."""
        self._over.wait(seconds)

    def wait_for_answers_of(self, replica: int, seconds: float = 10.0) -> None:
        """Wait until a request that is asked from now on is answered by ``replica``."""
        start = time.monotonic()
        while not any(o.replica == replica and o.started > start for o in self.outcomes[-200:]):
            late = time.monotonic() > start + seconds
            assert not late, f"replica {replica} got no traffic again: {self.errors[-3:]}"
            self._over.wait(0.02)

    @property
    def errors(self) -> list[BaseException]:
        return [outcome.error for outcome in self.outcomes if outcome.error is not None]

    def replicas(self, since: float = 0.0) -> set[int | None]:
        """Return the replicas that answered what was asked after ``since``."""
        return {o.replica for o in self.outcomes if o.started >= since and not o.error}

    def check(self, *allowed: type[RequestError]) -> None:
        """No wrong answer, none after its deadline, no error but of the ``allowed`` classes."""
        assert self.outcomes
        assert [o for o in self.outcomes if not o.error and not o.right] == []
        assert [o for o in self.outcomes if o.elapsed > self.timeout + GRACE] == []
        assert [repr(error) for error in self.errors if type(error) not in allowed] == []


def as_url(urls: Sequence[str]) -> str | Sequence[str]:
    """Give one URL as it is."""
    return urls[0] if len(urls) == 1 else urls
