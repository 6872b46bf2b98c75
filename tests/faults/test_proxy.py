"""A proxy that breaks answers: mended by asking again, or named within the deadline."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.faults import proxy as faults
from tests.faults.conftest import Connect, crosswise
from tests.faults.load import GRACE, Load, ask
from tests.faults.proxy import Fault, Proxy, page
from tests.faults.replica import Replica
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    RequestError,
    ServerError,
    UnavailableError,
)

TIMEOUT = 0.6

PAGES = {
    "502": page("502 Bad Gateway"),
    "503": page("503 Service Unavailable"),
    "429": page("429 Too Many Requests"),
}
BREAKS = {"cut": faults.cut, "garbage": faults.garbage, "reset": faults.reset}
HANGS = {"stall": faults.stall, "silent": faults.silent, "drip": faults.drip}

only_http = pytest.mark.parametrize("scheme", ["http"], indirect=True)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
def test_what_breaks_and_passes_is_asked_again_and_answered(
    proxy: Proxy, connect: Connect, fault: Fault, times: int
) -> None:
    caller = connect(proxy.url)
    ask(caller, 1, timeout=10)
    proxy.breaks(fault, times)

    outcome = ask(caller, 21, timeout=10)

    assert (outcome.error, outcome.right) == (None, True)
    assert proxy.broken == times


@only_http
@pytest.mark.parametrize("fault", PAGES.values(), ids=PAGES)
def test_a_proxys_page_that_passes_is_asked_again_and_answered(
    proxy: Proxy, connect: Connect, fault: Fault
) -> None:
    caller = connect(proxy.url)
    ask(caller, 1, timeout=10)
    proxy.breaks(fault, 2)

    outcome = ask(caller, 21, timeout=10)

    assert (outcome.error, outcome.right) == (None, True)
    assert proxy.broken == 2
    assert len(proxy.arrivals) == 3


@pytest.mark.parametrize("fault", HANGS.values(), ids=HANGS)
def test_what_hangs_once_is_given_up_after_the_time_of_an_attempt_and_asked_again(
    proxy: Proxy, connect: Connect, fault: Fault
) -> None:
    caller = connect(proxy.url, attempt_timeout=0.3)
    ask(caller, 1, timeout=10)
    proxy.breaks(fault, 1)

    outcome = ask(caller, 21, timeout=10)

    assert (outcome.error, outcome.right) == (None, True)
    assert outcome.elapsed >= 0.29


def failure(connect: Connect, proxy: Proxy, fault: Fault) -> RequestError:
    """Let ``fault`` stay and return what a call then fails with, in time."""
    caller = connect(proxy.url, retries=3)  # Their pauses are 0.35 s at most.
    ask(caller, 1, timeout=10)
    proxy.breaks(fault)
    outcome = ask(caller, 21, timeout=TIMEOUT)
    assert outcome.elapsed < TIMEOUT + GRACE
    assert isinstance(outcome.error, RequestError), repr(outcome.error)
    return outcome.error


def is_told_whole(error: RequestError, proxy: Proxy) -> None:
    assert error.model == "double"
    assert error.url == proxy.url
    assert error.request_id
    assert error.hint
    assert 0 < error.elapsed < TIMEOUT + GRACE


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
def test_what_stays_broken_is_a_failed_connection(
    proxy: Proxy, connect: Connect, fault: Fault
) -> None:
    error = failure(connect, proxy, fault)

    assert type(error) is ConnectionFailedError
    assert error.kind == "REQUEST"
    assert error.attempts > 1
    is_told_whole(error, proxy)


@only_http
@pytest.mark.parametrize("status", [502, 503, 429])
def test_a_page_that_stays_is_an_unavailable_server_with_its_status(
    proxy: Proxy, connect: Connect, status: int
) -> None:
    error = failure(connect, proxy, PAGES[str(status)])

    assert type(error) is UnavailableError
    assert (error.kind, error.status, error.retry_after) == ("HTTP", status, None)
    assert error.attempts > 1
    is_told_whole(error, proxy)


@pytest.mark.parametrize("fault", HANGS.values(), ids=HANGS)
def test_what_hangs_ends_at_the_deadline(proxy: Proxy, connect: Connect, fault: Fault) -> None:
    error = failure(connect, proxy, fault)

    assert type(error) is DeadlineExceededError
    assert error.kind == "TIMEOUT"
    assert error.elapsed >= TIMEOUT - 0.05
    is_told_whole(error, proxy)


@only_http
def test_an_answer_of_nonsense_is_a_fault_of_the_server_and_is_not_asked_for_again(
    proxy: Proxy, connect: Connect
) -> None:
    error = failure(connect, proxy, faults.trash)

    assert type(error) is ServerError
    assert (error.kind, error.status, error.attempts) == ("HTTP", 200, 1)
    assert proxy.broken == 1


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@only_http
@pytest.mark.parametrize(
    ("style", "status", "moment"),
    [
        ("threads", "503 Service Unavailable", lambda: "1"),
        ("asyncio", "429 Too Many Requests", in_two_seconds),
    ],
    ids=["seconds", "date"],
    indirect=["style"],
)
def test_a_server_that_says_when_to_come_back_is_not_asked_before(
    proxy: Proxy, connect: Connect, status: str, moment: Callable[[], str]
) -> None:
    caller = connect(proxy.url)
    ask(caller, 1, timeout=10)
    proxy.breaks(page(status, f"Retry-After: {moment()}"), 1)

    outcome = ask(caller, 21, timeout=10)

    assert (outcome.error, outcome.right) == (None, True)
    first, second = proxy.arrivals
    assert second - first >= 0.99  # A date has whole seconds: 2 may be little more than 1.


@only_http
@pytest.mark.parametrize("status", [503, 429])
def test_a_call_that_cannot_wait_so_long_fails_at_once_and_says_how_long(
    proxy: Proxy, connect: Connect, status: int
) -> None:
    error = failure(connect, proxy, page(f"{status} Later", "Retry-After: 7"))

    assert type(error) is UnavailableError
    assert (error.status, error.retry_after, error.attempts) == (status, 7.0, 1)
    assert error.elapsed < TIMEOUT / 2


@crosswise
def test_the_others_make_up_for_a_replica_behind_a_broken_proxy(
    proxy: Proxy, replicas: list[Replica], scheme: str, connect: Connect
) -> None:
    caller = connect(proxy.url, replicas[1].url(scheme), replicas[2].url(scheme))
    with Load(caller) as load:
        load.wait_for_answers_of(1)
        proxy.breaks(faults.reset)
        broken = time.monotonic()
        load.wait(0.7)

    load.check()
    assert load.replicas(since=broken) == {2, 3}
