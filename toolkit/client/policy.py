"""What becomes of one call: which replica, how often, how long. It knows no wire.

Written once, as generators of effects, for the clients with threads and with asyncio.
"""

import itertools
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Generic

import numpy as np

from toolkit.client import telemetry
from toolkit.client.effects import Close, Enter, Race, Resolve, Send, Sleep, Steps
from toolkit.client.options import ClientOptions
from toolkit.client.records import OPERATIONS, Hook, RequestRecord
from toolkit.client.replicas import Replica, Replicas
from toolkit.client.retries import Budget, pause_after
from toolkit.client.transport import (
    NO_HEADERS,
    Answer,
    Call,
    InferRequest,
    InferResponse,
    IsServerLive,
)
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    RequestError,
    UnavailableError,
    UnexpectedError,
)

_IS_BACK_WITHIN = 0.25


@dataclass(slots=True, eq=False)
class Asked(Generic[Answer]):
    """One call on its way; ``deadline`` and ``started`` are times of the monotonic clock."""

    call: Call[Answer]
    deadline: float
    request_id: str
    headers: Mapping[str, str]
    span: Any = None
    started: float = field(default_factory=monotonic)
    attempts: int = 0
    tried: list[Replica] = field(default_factory=list)
    replica: Replica | None = None
    error: RequestError | None = None

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - monotonic()


class Policy:
    """What all calls of one client share. ``leave`` gives back a place of ``Enter``."""

    def __init__(
        self,
        replicas: Replicas,
        options: ClientOptions,
        hooks: Sequence[Hook],
        leave: Callable[[], None],
    ) -> None:
        self.replicas = replicas
        self.closed = False
        self._options = options
        self._hooks = tuple(hooks)
        self._failed_hooks: set[int] = set()
        self._leave = leave
        self._budget = Budget(options)
        self.retired: list[Replica] = []
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """The URL of the first replica, for messages."""
        first = next(iter(self.replicas.all), None)
        return first.url if first else "no replica"

    def new_id(self) -> str:
        """Return an id for a request that has none."""
        return f"{self._prefix}-{next(self._numbers)}"

    def ask(self, call: Call[Answer], deadline: float) -> Steps[Answer]:
        """Return the answer to ``call``, in as many attempts as it takes and may.

        Raises classes below ``RequestError`` that say where, how often and how long.
        """
        own = getattr(call, "request_id", None) or self.new_id()
        span = None
        if telemetry.in_use():
            span = telemetry.start(OPERATIONS[type(call)], getattr(call, "model", None), self.url)
        headers = {"x-request-id": own}
        if span:
            headers |= telemetry.headers(span)
        asked = Asked(call, deadline, own, headers, span)
        self._budget.earn()
        try:
            answer = yield from self._attempts(asked)
        except RequestError as error:
            self._tell(asked, None, self._placed(error, asked))
            raise
        except Exception as error:
            failure = UnexpectedError(
                f"{type(error).__name__}: {error}",
                hint="this is a fault of the client or of a library below it",
            )
            self._tell(asked, None, self._placed(failure, asked))
            raise failure from error
        except BaseException:
            self._tell(asked, None, self._placed(UnexpectedError("given up by its caller"), asked))
            raise
        self._tell(asked, answer, None)
        return answer

    def refuse(self, call: InferRequest, error: RequestError) -> RequestError:
        """Return an error that came before anything was sent, filled in and told to hooks."""
        asked = Asked(call, monotonic(), call.request_id or self.new_id(), NO_HEADERS)
        self._tell(asked, None, self._placed(error, asked))
        return error

    def check(self, call: Call[bool], deadline: float) -> Steps[bool]:
        """Return whether any replica says yes, now: nothing is waited for or tried again."""
        try:
            yield from self._resolve(deadline)
        except ConnectionFailedError:
            return False
        replicas = self.replicas.all
        for place, replica in enumerate(replicas):
            # One that hangs does not take the time of the others.
            timeout = (deadline - monotonic()) / (len(replicas) - place)
            try:
                if (yield Send(replica, call, max(timeout, 0.001))):
                    return True
            except RequestError:
                continue
        return False

    def _attempts(self, asked: Asked[Answer]) -> Steps[Answer]:
        limit = self._options.max_in_flight
        if limit and not (yield Enter(max(asked.left(), 0.0))):
            raise UnavailableError(
                f"none of {limit} requests in flight ended in time", hint="raise max_in_flight"
            )
        try:
            while True:
                asked.attempts += 1
                try:
                    replica = yield from self._choose(asked)
                    return (yield from self._attempt(replica, asked))
                except RequestError as error:
                    pause = self._pause(asked, error)
                    if pause is None:
                        raise
                    asked.error = error
                yield Sleep(pause)
        finally:
            if limit:
                self._leave()

    def _choose(self, asked: Asked[Any]) -> Steps[Replica]:
        """Return the replica to ask, its request counted; wait if all are set aside."""
        waited = False
        while True:
            if self.closed:
                raise ConnectionFailedError("the client was closed")
            left = asked.left()
            if left <= 0:
                if waited and not asked.error:
                    raise self._all_set_aside(0.0)
                late = DeadlineExceededError("no time was left for it", hint="allow more seconds")
                raise asked.error or late
            yield from self._resolve(asked.deadline)
            replica = self.replicas.choose(asked.tried)
            if replica is None:
                wait = self.replicas.opens_in()
                if wait >= left:
                    asked.error = asked.error or self._all_set_aside(wait)
                    raise asked.error
                waited = True
                yield Sleep(wait)
            elif replica.closed:
                asked.tried.append(replica)
                asked.replica = replica
                return replica
            else:
                yield from self._find_out(replica, min(left, _IS_BACK_WITHIN))

    def _find_out(self, replica: Replica, timeout: float) -> Steps[None]:
        """Ask one that was set aside whether it is back; a failed attempt if there is no other."""
        try:
            yield Send(replica, IsServerLive(), timeout)
        except RequestError as error:
            self.replicas.ended(replica, error)
            if not self.replicas.has_other(()):
                raise
        except BaseException:
            self.replicas.left(replica)
            raise
        else:
            self.replicas.ended(replica, None)

    def _attempt(self, replica: Replica, asked: Asked[Answer]) -> Steps[Answer]:
        send = Send(replica, asked.call, self._time_for(asked), asked.headers)
        delay = self._options.hedge_after
        answer: Answer
        if delay is not None and isinstance(asked.call, InferRequest):
            ended = partial(self._raced, asked)
            answer = yield Race(send, partial(self._second, asked), delay, ended)
            return answer
        try:
            answer = yield send
        except RequestError as error:
            self._ended(send, error)
            telemetry.attempt_failed(asked.span, asked.attempts, replica.url, error)
            raise
        except BaseException:
            self.replicas.left(replica)
            raise
        self.replicas.ended(replica, None)
        return answer

    def _second(self, asked: Asked[Any]) -> Send | None:
        """Return the same request to another replica, if one is there."""
        replica = self.replicas.choose(asked.tried)
        if replica is None:
            return None
        if not replica.closed:
            self.replicas.left(replica)
            return None
        asked.attempts += 1
        return Send(replica, asked.call, self._time_for(asked), asked.headers)

    def _raced(self, asked: Asked[Any], send: Send, error: BaseException | None) -> None:
        if error is None:
            asked.replica = send.replica
        if error is None or isinstance(error, RequestError):
            self._ended(send, error)
        else:
            self.replicas.left(send.replica)

    def _ended(self, send: Send, error: RequestError | None) -> None:
        self.replicas.ended(send.replica, error)
        if isinstance(error, ConnectionFailedError):
            self.replicas.ask_names_again()

    def _time_for(self, asked: Asked[Any]) -> float:
        left = max(asked.left(), 0.001)
        longest = self._options.attempt_timeout
        return left if longest is None else min(left, longest)

    def _pause(self, asked: Asked[Any], error: RequestError) -> float | None:
        """Return the seconds before the next attempt, None if there is to be none."""
        left = asked.left()
        over = self.closed or left <= 0 or asked.attempts > self._options.retries
        if over or not error.retryable or error is asked.error:
            return None
        if self.replicas.has_other(asked.tried):
            pause = 0.0
        else:
            asked.tried.clear()
            pause = pause_after(asked.attempts, error, self._options)
        return pause if pause < left and self._budget.take() else None

    def _resolve(self, deadline: float) -> Steps[None]:
        """Ask for the addresses behind names, where it is time to."""
        name = self.replicas.due()
        if name is None:
            return
        left = max(deadline - monotonic(), 0.001)
        try:
            hosts = yield Resolve(name.host, min(left, 1.0) if self.replicas.all else left)
        except OSError as error:
            if self.replicas.all:
                return
            self.replicas.ask_names_again()
            msg = f"the name {name.host} cannot be resolved"
            raise ConnectionFailedError(msg, hint="check the URL") from error
        if self.closed:
            raise ConnectionFailedError("the client was closed")
        self.retired += self.replicas.found(name, hosts)
        for replica in [each for each in self.retired if not each.pending]:
            with suppress(ValueError):  # another call closes it
                self.retired.remove(replica)
                yield Close(replica)

    def _all_set_aside(self, wait: float) -> UnavailableError:
        count = len(self.replicas.all)
        which = f"all {count} replicas were" if count > 1 else "the server was"
        reason, hint = next((r.failure for r in self.replicas.all if r.failure[0]), ("", None))
        why = f" ({reason})" if reason else ""
        return UnavailableError(
            f"{which} set aside after failures in a row{why}; asked again in {wait:.1f} s",
            hint=hint or "is the server running? see: toolkit status",
        )

    def _tell(
        self, asked: Asked[Answer], answer: Answer | None, error: RequestError | None
    ) -> None:
        if not asked.span and not self._hooks:
            return
        record = _record(asked, answer, error, self.url)
        telemetry.end(asked.span, record)
        for hook in self._hooks:
            try:
                hook(record)
            except Exception:  # a hook is the user's, and no reason to lose an answer
                if id(hook) not in self._failed_hooks:
                    self._failed_hooks.add(id(hook))
                    logging.getLogger(__name__).exception("a hook of the client failed")

    def _placed(self, error: RequestError, asked: Asked[Any]) -> RequestError:
        """Fill in what only the client knows, in the error and at the head of its message."""
        error.model = getattr(asked.call, "model", None)
        error.url = asked.replica.url if asked.replica else self.url
        error.request_id = asked.request_id
        error.attempts = asked.attempts
        error.elapsed = monotonic() - asked.started
        where = f"model {error.model!r} at {error.url}" if error.model else error.url
        tries = f" ({asked.attempts} attempts in {error.elapsed:.1f} s)"
        error.message = f"{where}: {error.message}{tries if asked.attempts > 1 else ''}"
        error.args = (error.message,)
        return error


def _record(
    asked: Asked[Answer], answer: Answer | None, error: RequestError | None, url: str
) -> RequestRecord:
    call, replica = asked.call, asked.replica
    inputs = call.inputs if isinstance(call, InferRequest) else None
    said = answer if isinstance(answer, InferResponse) else None
    first = next(iter((inputs or {}).values()), None)
    rows = len(first) if isinstance(first, np.ndarray) and first.ndim else None
    return RequestRecord(
        request_id=asked.request_id,
        operation=OPERATIONS[type(call)],
        protocol="grpc" if replica and replica.protocol == "grpc" else "http",
        url=replica.url if replica else url,
        attempts=asked.attempts,
        duration=monotonic() - asked.started,
        outcome=error.kind if error else "ok",
        model=getattr(call, "model", None),
        version=said.version if said else getattr(call, "version", None),
        rows=rows,
        error=error,
        inputs=inputs,
        outputs=said.outputs if said else None,
    )
