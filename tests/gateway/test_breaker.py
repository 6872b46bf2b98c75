"""A model that keeps failing is left alone for a while; its neighbours never notice."""

import pytest

from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidInputError,
    PermissionDeniedError,
    ServerError,
    UnavailableError,
    UnknownModelError,
)
from toolkit.gateway.breaker import Breaker, counts
from toolkit.gateway.exchange import Refused


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(threshold=3, recovery_seconds=30.0, clock=clock)


def fail(breaker: Breaker, times: int, model: str = "churn") -> None:
    for _ in range(times):
        breaker.before(model)
        breaker.failure(model)


def test_it_opens_after_so_many_failures_in_a_row_and_says_when_to_come_back(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 17.5
    with pytest.raises(Refused, match="Model churn failed 3 times in a row") as refused:
        breaker.before("churn")
    assert refused.value.status == 503
    assert refused.value.headers == ((b"retry-after", b"13"),)
    assert breaker.state("churn") == "open"


def test_a_success_in_between_starts_the_count_again(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.success("churn")
    fail(breaker, 2)
    assert breaker.state("churn") == "closed"
    breaker.before("churn")


def test_one_broken_model_does_not_touch_another(breaker: Breaker) -> None:
    fail(breaker, 3)
    breaker.before("fraud")
    assert breaker.state("fraud") == "closed"


def test_after_a_while_requests_come_through_and_a_success_closes_it(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 30
    assert breaker.state("churn") == "half_open"
    breaker.before("churn")
    breaker.before("churn")
    breaker.success("churn")
    assert breaker.state("churn") == "closed"
    fail(breaker, 2)
    breaker.before("churn")


def test_after_a_while_one_more_failure_opens_it_for_the_whole_time_again(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 30
    breaker.before("churn")
    breaker.failure("churn")
    clock.now += 29
    with pytest.raises(Refused):
        breaker.before("churn")
    clock.now += 1
    breaker.before("churn")


def test_the_time_runs_from_the_last_failure_even_of_a_request_let_in_before(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 20
    breaker.failure("churn")
    clock.now += 20
    with pytest.raises(Refused) as refused:
        breaker.before("churn")
    assert refused.value.headers == ((b"retry-after", b"10"),)


def test_a_late_success_from_before_does_not_close_it(breaker: Breaker) -> None:
    fail(breaker, 3)
    breaker.success("churn")
    assert breaker.state("churn") == "open"


def test_a_model_that_was_loaded_anew_starts_anew(breaker: Breaker) -> None:
    fail(breaker, 3)
    breaker.forget("churn")
    breaker.before("churn")


def test_asking_for_any_name_remembers_nothing(breaker: Breaker) -> None:
    for number in range(100):
        breaker.before(f"made-up-{number}")
        breaker.success(f"made-up-{number}")
    assert not breaker._circuits


@pytest.mark.parametrize("error", [ServerError("x"), DeadlineExceededError("x")])
def test_what_the_model_did_wrong_counts(error: Exception) -> None:
    assert counts(error)


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("x"),
        UnknownModelError("x"),
        PermissionDeniedError("x"),
        ConnectionFailedError("x"),
        UnavailableError("x"),
        Refused(503, "busy"),
        KeyboardInterrupt(),
    ],
)
def test_what_the_caller_or_the_whole_server_did_wrong_does_not(error: BaseException) -> None:
    assert not counts(error)
