"""One policy for both styles: every test runs it with threads and with asyncio."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from toolkit.client.addresses import Address, parse_all
from toolkit.client.drive import Driver
from toolkit.client.drive_async import AsyncDriver
from toolkit.client.effects import Steps
from toolkit.client.options import ClientOptions
from toolkit.client.policy import Policy
from toolkit.client.records import RequestRecord
from toolkit.client.replicas import Replicas
from toolkit.client.transport import (
    Call,
    GetServerMetadata,
    InferRequest,
    InferResponse,
    IsServerLive,
    ServerMetadata,
)
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    RequestError,
    UnavailableError,
    UnexpectedError,
)

YES = ServerMetadata("triton", "2.51.0", ())
QUICK = ClientOptions(backoff=0.001, max_backoff=0.002)
Said = object | BaseException


class Wire:
    """A server that says what is next on its list, and the last of it from then on."""

    def __init__(self, *said: Said, slow: float = 0.0) -> None:
        self.said = list(said) or [YES]
        self.slow = slow
        self.asked: list[tuple[Call[Any], float, dict[str, str]]] = []

    def answer(self, call: Call[Any], timeout: float, headers: Any) -> Any:
        self.asked.append((call, timeout, dict(headers)))
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, RequestError):
            raise type(said)(said.message, status=said.status, retry_after=said.retry_after)
        if isinstance(said, BaseException):
            raise said
        return True if isinstance(call, IsServerLive) else said


class Blocking:
    def __init__(self, wire: Wire, url: str) -> None:
        self.wire, self.url = wire, url

    def send(self, call: Call[Any], timeout: float, headers: Any = ()) -> Any:
        time.sleep(min(self.wire.slow, timeout))
        return self.wire.answer(call, timeout, headers)

    def close(self) -> None:
        """There is nothing to close."""


class Awaited(Blocking):
    async def send(self, call: Call[Any], timeout: float, headers: Any = ()) -> Any:
        await asyncio.sleep(min(self.wire.slow, timeout))
        return self.wire.answer(call, timeout, headers)

    async def close(self) -> None:  # type: ignore[override]
        """There is nothing to close."""


Ask = Callable[..., Any]


@pytest.fixture(params=["threads", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask wires with a policy of their own, in either style."""
    threads = request.param == "threads"

    def asked(
        wires: Sequence[Wire],
        options: ClientOptions = QUICK,
        *,
        call: Call[Any] | None = None,
        within: float = 5.0,
        times: int = 1,
        hooks: Sequence[Callable[[RequestRecord], None]] = (),
    ) -> Any:
        driver = Driver(options.max_in_flight) if threads else AsyncDriver(options.max_in_flight)
        replicas = _replicas(wires, options, Blocking if threads else Awaited)
        policy = Policy(replicas, options, hooks, driver.leave)

        def steps() -> Steps[Any]:
            return policy.ask(call or GetServerMetadata(), time.monotonic() + within)

        async def in_a_loop() -> list[Any]:
            return [await driver.run(steps()) for _ in range(times)]

        if threads:
            return [driver.run(steps()) for _ in range(times)][-1]
        return asyncio.run(in_a_loop())[-1]

    return asked


def _replicas(wires: Sequence[Wire], options: ClientOptions, kind: type[Blocking]) -> Replicas:
    addresses = parse_all([f"http://server{place}:8000" for place in range(len(wires))])
    places = {
        address: kind(wire, address.url) for address, wire in zip(addresses, wires, strict=True)
    }

    def connect(address: Address) -> Blocking:
        return places[address]

    return Replicas(addresses, connect, options)


BROKEN = ConnectionFailedError("connection reset")


def test_what_fails_in_passing_is_asked_again(ask: Ask) -> None:
    wire = Wire(BROKEN, UnavailableError("loading"), YES)
    assert ask([wire]) == YES
    assert len(wire.asked) == 3


def test_what_will_not_help_is_not_repeated(ask: Ask) -> None:
    wire = Wire(InvalidInputError("too wide"))
    with pytest.raises(InvalidInputError) as raised:
        ask([wire])
    assert len(wire.asked) == 1
    assert raised.value.attempts == 1


def test_an_error_says_where_how_often_and_how_long(ask: Ask) -> None:
    wire = Wire(BROKEN)
    request = InferRequest("iris", {}, request_id="mine-7")
    with pytest.raises(ConnectionFailedError) as raised:
        ask([wire], replace(QUICK, retries=2, breaker=False), call=request)
    error = raised.value
    assert (error.model, error.url, error.request_id) == ("iris", "http://server0:8000", "mine-7")
    assert error.attempts == len(wire.asked) == 3
    assert error.elapsed > 0
    assert error.kind == "REQUEST"
    assert error.message.startswith("model 'iris' at http://server0:8000: connection reset (3 att")
    assert str(error) == error.message


def test_a_failure_nobody_foresaw_is_of_the_tree_too(ask: Ask) -> None:
    with pytest.raises(UnexpectedError, match="ZeroDivisionError: no") as raised:
        ask([Wire(ZeroDivisionError("no"))])
    assert raised.value.kind == "UNKNOWN"


def test_each_attempt_gets_the_time_that_is_left(ask: Ask) -> None:
    wire = Wire(BROKEN, YES, slow=0.05)
    ask([wire], within=3.0)
    first, second = (timeout for _, timeout, _ in wire.asked)
    assert second < first - 0.04 < 3.0


def test_an_attempt_can_have_less_time_than_the_call(ask: Ask) -> None:
    wire = Wire(DeadlineExceededError("no answer"), YES)
    assert ask([wire], replace(QUICK, attempt_timeout=0.5)) == YES
    assert [timeout for _, timeout, _ in wire.asked] == [0.5, 0.5]


def test_a_deadline_that_passed_ends_the_call(ask: Ask) -> None:
    wire = Wire(DeadlineExceededError("no answer within 0.1 s"), slow=1.0)
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        ask([wire], within=0.1)
    assert time.monotonic() - started < 0.6
    assert len(wire.asked) == 1


def test_retry_after_is_obeyed(ask: Ask) -> None:
    busy = UnavailableError("busy", status=429, retry_after=0.2)
    started = time.monotonic()
    assert ask([Wire(busy, YES)]) == YES
    assert time.monotonic() - started >= 0.2


def test_no_one_waits_in_vain_for_a_retry_after_beyond_the_deadline(ask: Ask) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError) as raised:
        ask([Wire(UnavailableError("busy", status=429, retry_after=60.0))], within=2.0)
    assert time.monotonic() - started < 1.0
    assert raised.value.retry_after == 60.0


def test_retries_have_a_budget(ask: Ask) -> None:
    wire = Wire(BROKEN)
    options = replace(QUICK, retries=50, retry_reserve=3, retry_share=0.0, breaker=False)
    with pytest.raises(ConnectionFailedError):
        ask([wire], options)
    assert len(wire.asked) == 4


def test_another_replica_is_asked_at_once(ask: Ask) -> None:
    broken, healthy = Wire(BROKEN), Wire(YES)
    patient = replace(QUICK, backoff=60.0, max_backoff=60.0)
    assert ask([broken, healthy], patient, times=4) == YES
    assert len(healthy.asked) == 4


def test_a_replica_that_keeps_failing_is_set_aside(ask: Ask) -> None:
    broken, healthy = Wire(BROKEN), Wire(YES)
    options = replace(QUICK, breaker_threshold=2, breaker_reset=60.0)
    ask([broken, healthy], options, times=20)
    assert len(broken.asked) == 2
    assert len(healthy.asked) == 20


def test_without_a_breaker_it_is_asked_again_and_again(ask: Ask) -> None:
    broken, healthy = Wire(BROKEN), Wire(YES)
    ask([broken, healthy], replace(QUICK, breaker=False), times=20)
    assert len(broken.asked) >= 8


def test_one_that_comes_back_is_asked_whether_it_lives_and_gets_requests_again(ask: Ask) -> None:
    returning, healthy = Wire(BROKEN, BROKEN, YES), Wire(YES, slow=0.02)
    options = replace(QUICK, breaker_threshold=2, breaker_reset=0.05)
    ask([returning, healthy], options, times=20)
    kinds = [type(call) for call, _, _ in returning.asked]
    assert kinds[:3] == [GetServerMetadata, GetServerMetadata, IsServerLive]
    assert kinds.count(GetServerMetadata) > 3


def test_a_lone_server_set_aside_is_waited_for(ask: Ask) -> None:
    wire = Wire(BROKEN, BROKEN, YES)
    options = replace(QUICK, breaker_threshold=2, breaker_reset=0.1)
    assert ask([wire], options) == YES


def test_asking_a_lone_server_whether_it_is_back_counts_as_an_attempt(ask: Ask) -> None:
    options = replace(QUICK, breaker_threshold=2, breaker_reset=0.01, retries=4)
    with pytest.raises(ConnectionFailedError) as raised:
        ask([Wire(BROKEN)], options, within=30)
    assert raised.value.attempts == 5


def test_a_lone_server_set_aside_for_longer_than_there_is_time_fails_at_once(ask: Ask) -> None:
    options = replace(QUICK, breaker_threshold=1, breaker_reset=60.0)
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match="connection reset"):
        ask([Wire(BROKEN)], options, within=1.0)
    assert time.monotonic() - started < 0.9


def test_the_least_busy_replica_is_asked() -> None:
    replicas = _replicas([Wire(), Wire(), Wire()], QUICK, Blocking)
    chosen = [replicas.choose() for _ in range(30)]
    assert {one.pending for one in replicas.all} == {10}
    free = chosen[0]
    assert free is not None
    replicas.ended(free, None)
    assert replicas.choose() is free


def test_a_hedged_request_is_answered_by_the_faster_replica(ask: Ask) -> None:
    said = InferResponse("m", "1", "", {})
    slow, quick = Wire(said, slow=1.0), Wire(said)
    random.seed(0)
    request = InferRequest("m", {})
    started = time.monotonic()
    ask([slow, quick], replace(QUICK, hedge_after=0.05), call=request, times=2)
    assert time.monotonic() - started < 0.9
    assert len(quick.asked) == 2


def test_a_hedged_request_fails_only_if_both_do(ask: Ask) -> None:
    said = InferResponse("m", "1", "", {})
    failing, good = Wire(InvalidInputError("no"), slow=0.1), Wire(said, slow=0.2)
    options = replace(QUICK, hedge_after=0.02)
    assert ask([failing, good], options, call=InferRequest("m", {}), times=2) is said


def test_hooks_hear_of_each_call_once(ask: Ask) -> None:
    heard: list[RequestRecord] = []
    ask([Wire(BROKEN, YES)], hooks=[heard.append])
    (record,) = heard
    assert (record.operation, record.outcome, record.attempts) == ("server_metadata", "ok", 2)
    assert record.duration > 0
    with pytest.raises(InvalidInputError):
        ask([Wire(InvalidInputError("no"))], hooks=[heard.append])
    assert heard[1].outcome == "REQUEST"
    assert isinstance(heard[1].error, InvalidInputError)


def test_a_hook_that_raises_breaks_nothing(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    def broken(record: RequestRecord) -> None:
        raise ValueError(record.operation)

    heard: list[RequestRecord] = []
    assert ask([Wire(YES)], hooks=[broken, heard.append], times=3) == YES
    assert len(heard) == 3
    assert [line.getMessage() for line in caplog.records] == ["a hook of the client failed"]


def test_each_request_has_an_id_of_its_own(ask: Ask) -> None:
    wire = Wire(YES)
    ask([wire], times=3)
    assert len({headers["x-request-id"] for _, _, headers in wire.asked}) == 3
