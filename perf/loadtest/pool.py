"""The connections of one worker."""

import asyncio
import itertools
import ssl
import time
from collections.abc import Callable
from functools import partial

from perf.loadtest.connection import Connection
from perf.loadtest.plan import Plan
from perf.loadtest.recorder import Recorder

_clock = time.monotonic

Free = Callable[[Connection, float], None]
"""Called with an idle connection and the time."""
Vacant = Callable[[bool], None]
"""Called when there is room for a connection; with whether the last could not be made."""


class Pool:
    """Opens connections, sends on them, and records how each request ended."""

    def __init__(self, plan: Plan, recorder: Recorder, first: int) -> None:
        self._plan = plan
        self._recorder = recorder
        self._requests = itertools.cycle(plan.requests)
        for _ in range(first % len(plan.requests)):
            next(self._requests)
        self._timeout = plan.timeout_seconds
        self._expected = plan.expected
        self._tls = plan.target.tls_context()
        self._connections: set[Connection] = set()
        self._opening: dict[asyncio.Task[None], float] = {}
        self.on_free: Free = lambda _connection, _now: None
        self.on_vacant: Vacant = lambda _failed: None

    @property
    def size(self) -> int:
        """How many connections there are, those being opened included."""
        return len(self._connections) + len(self._opening)

    @property
    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._opening) or any(one.busy for one in self._connections)

    def send(self, connection: Connection, due: float, now: float) -> None:
        """Send the next request on an idle connection."""
        connection.again = False
        connection.send(next(self._requests), due, now, now + self._timeout)

    def open(self, due: float, *, again: bool = False) -> None:
        """Open a connection and send the next request on it."""
        task = asyncio.get_running_loop().create_task(self._open(due, again=again))
        self._opening[task] = due

    def sweep(self, now: float) -> None:
        """Give up requests that have had their time."""
        for connection in [one for one in self._connections if one.deadline <= now]:
            self._give_up(connection, now)

    def close(self, now: float, *, interrupted: bool) -> None:
        """Close everything; requests under way have timed out or are ``interrupted``."""
        for connection in list(self._connections):
            if connection.busy and interrupted:
                self._recorder.unfinished(connection.due)
                connection.give_up()
            elif connection.busy:
                self._give_up(connection, now)
            connection.close()
        for task, due in self._opening.items():
            task.cancel()
            if interrupted:
                self._recorder.unfinished(due)
            else:
                self._recorder.timed_out(due, due, now, "no connection in time")

    def answered(self, connection: Connection, status: int) -> None:
        """Record an answer; see ``connection.Owner``."""
        now = _clock()
        expected = self._expected
        if status in expected if expected else 200 <= status < 300:  # noqa: PLR2004
            self._recorder.succeeded(
                connection.due, connection.sent, now, status,
                (connection.size, connection.received),
            )  # fmt: skip
        else:
            self._recorder.refused(status, connection.due, now, connection.shown)
        if connection.open:
            self.on_free(connection, now)

    def broke(self, connection: Connection, kind: str, why: str) -> None:
        """Record a failure, or send again what met a closing connection."""
        idle_too_long = kind in {"closed", "reset"} and connection.received == 0
        if idle_too_long and connection.used and not connection.again:
            self._recorder.sent_again(connection.due)
            self.open(connection.due, again=True)
        else:
            self._recorder.failed(kind, connection.due, _clock(), why)

    def gone(self, connection: Connection) -> None:
        """Forget a closed connection."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.on_vacant(False)

    def _give_up(self, connection: Connection, now: float) -> None:
        due, sent = connection.due, connection.sent
        connection.give_up()
        self._recorder.timed_out(due, sent, now, f"no answer within {self._timeout:g} s")

    async def _open(self, due: float, *, again: bool) -> None:
        began = _clock()
        connection = Connection(self)
        failure: partial[None] | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect(connection)
        except TimeoutError:
            failure = partial(self._recorder.timed_out, due, began, example="no connection in time")
        except ssl.SSLError as error:
            failure = partial(self._recorder.failed, "tls", due, example=str(error))
        except OSError as error:
            failure = partial(self._recorder.failed, "connect", due, example=str(error))
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._opening.pop(task, None)
        now = _clock()
        if failure is None and not connection.open:
            why = "the server closed the connection at once"
            failure = partial(self._recorder.failed, "closed", due, example=why)
        if failure is not None:
            failure(now=now)
            self.on_vacant(True)
            return
        self._connections.add(connection)
        connection.again = again
        connection.send(next(self._requests), due, now, began + self._timeout)

    async def _connect(self, connection: Connection) -> None:
        plan = self._plan
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            plan.address,
            plan.target.port,
            ssl=self._tls,
            server_hostname=plan.target.host if self._tls else None,
        )
