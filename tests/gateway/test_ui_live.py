"""What the page is told of the last minutes, second by second."""

from dataclasses import dataclass
from typing import Any

import pytest

from toolkit.gateway.exchange import Asked
from toolkit.gateway.ui.live import MODELS, SECONDS, Live


@dataclass
class Gateway:
    """A clock and two gauges to be set by hand."""

    now: float = 1000.5
    waiting: int = 0
    running: int = 0

    def live(self) -> Live:
        return Live(lambda: self.waiting, lambda: self.running, clock=lambda: self.now)

    def asked(self, seconds: float = 0.01, model: str = "echo", endpoint: str = "predict") -> Asked:
        asked = Asked("POST", f"/predict/{model}", {}, began=self.now - seconds)
        asked.model, asked.endpoint = model, endpoint
        return asked


def everything(_: str) -> bool:
    return True


def last(live: Live, sees: Any = everything) -> dict[str, Any]:
    series = live.series(sees)
    assert all(len(each) == SECONDS for each in series.values() if isinstance(each, list))
    return {name: each[-1] for name, each in series.items() if isinstance(each, list)}


def test_a_second_is_told_when_it_is_over() -> None:
    gateway = Gateway()
    live = gateway.live()
    for _ in range(10):
        live.count(gateway.asked(), 200)
    assert last(live)["requests"] == 0
    gateway.now += 1
    assert last(live)["requests"] == 10
    gateway.now += 1
    assert last(live)["requests"] == 0
    assert live.series(everything)["requests"][-2] == 10


def test_percentiles_are_those_of_the_durations_within_five_percent() -> None:
    gateway = Gateway()
    live = gateway.live()
    for place in range(1, 101):
        live.count(gateway.asked(place / 1000), 200)
    gateway.now += 1
    seen = last(live)
    assert seen["p50_ms"] == pytest.approx(50, rel=0.05)
    assert seen["p95_ms"] == pytest.approx(95, rel=0.05)
    assert seen["p99_ms"] == pytest.approx(99, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 5e-4, 3600.0])
def test_any_duration_can_be_told(seconds: float) -> None:
    gateway = Gateway()
    live = gateway.live()
    live.count(gateway.asked(seconds), 200)
    gateway.now += 1
    assert last(live)["p50_ms"] == pytest.approx(seconds * 1e3, rel=0.05, abs=1e-3)


def test_refused_requests_are_errors_and_not_timed() -> None:
    gateway = Gateway()
    live = gateway.live()
    live.count(gateway.asked(9.0), 422)
    gateway.now += 1
    assert last(live) | {"requests": 1, "errors": 1, "p99_ms": None} == last(live)
    live.count(gateway.asked(9.0), 503)
    gateway.now += 1
    assert last(live)["errors"] == 1
    assert last(live)["p99_ms"] == pytest.approx(9000, rel=0.05)


def test_what_is_no_prediction_is_not_counted() -> None:
    gateway = Gateway()
    live = gateway.live()
    live.count(gateway.asked(endpoint=""), 200)
    gateway.now += 1
    assert last(live)["requests"] == 0


def test_the_queue_is_the_longest_that_was_seen_in_a_second() -> None:
    gateway = Gateway(waiting=2, running=5)
    live = gateway.live()
    live.series(everything)
    gateway.waiting, gateway.running = 7, 3
    live.series(everything)
    gateway.waiting, gateway.running = 0, 0
    gateway.now += 1
    seen = last(live)
    assert (seen["waiting"], seen["running"]) == (7, 5)


def test_the_queue_is_looked_at_under_load_although_nobody_looks() -> None:
    gateway = Gateway()
    live = gateway.live()
    for waiting in (1, 2, 3):
        gateway.now += 1
        gateway.waiting = waiting
        live.count(gateway.asked(), 200)
    gateway.now += 1
    gateway.waiting = 0
    assert live.series(everything)["waiting"][-3:] == [1, 2, 3]


def test_quiet_seconds_are_empty_and_old_ones_are_gone() -> None:
    gateway = Gateway()
    live = gateway.live()
    live.count(gateway.asked(), 200)
    gateway.now += 100
    live.count(gateway.asked(), 200)
    gateway.now += 1
    requests = live.series(everything)["requests"]
    assert requests[-1] == 1
    assert requests[-101] == 1
    assert sum(requests) == 2
    gateway.now += SECONDS
    assert sum(live.series(everything)["requests"]) == 0


def test_only_the_models_one_may_see_are_counted_for_one() -> None:
    gateway = Gateway()
    live = gateway.live()
    for model in ("echo", "text", "text"):
        live.count(gateway.asked(model=model), 200)
    gateway.now += 1
    assert last(live, lambda name: name == "text")["requests"] == 2
    assert last(live, lambda name: name == "none")["requests"] == 0


def test_the_last_minute_of_each_model_is_summed_up() -> None:
    gateway = Gateway()
    live = gateway.live()
    live.count(gateway.asked(model="old"), 200)
    gateway.now += 100
    for _ in range(3):
        live.count(gateway.asked(0.02, model="echo"), 200)
        gateway.now += 1
    live.count(gateway.asked(model="text"), 422)
    gateway.now += 1
    found = live.summaries()
    assert found.keys() == {"echo", "text"}
    assert found["echo"] == {
        "requests": 3,
        "errors": 0,
        "p50_ms": pytest.approx(20, rel=0.05),
    }
    assert found["text"] == {"requests": 1, "errors": 1, "p50_ms": None}


def test_names_without_end_do_not_fill_the_memory() -> None:
    gateway = Gateway()
    live = gateway.live()
    for number in range(10 * MODELS):
        live.count(gateway.asked(model=f"m{number}"), 404)
    gateway.now += 1
    found = live.summaries()
    assert len(found) == MODELS + 1
    assert found[""]["requests"] == 9 * MODELS
