"""The search, on servers whose speed is known: where it ends, and what it costs."""

import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perf import space as spaces
from perf.candidates import AS_SERVED, Candidate
from perf.goals import Goal, Objective
from perf.journal import Point
from perf.measurement import Load, Measurement
from perf.space import Space
from perf.trials import Trials
from perf.tuning import Outcome, Search, seeds
from toolkit.errors import ConfigError

SERVED: dict[str, Any] = {
    "name": "m", "backend": "onnxruntime", "max_batch_size": 256, "dynamic_batching": {},
    "instance_group": [{"count": 1}],
}  # fmt: skip
LOAD = Load(concurrency=32)
SPACE = spaces.usual(SERVED, cores=2, concurrency=[32])
GRID = spaces.grid(SPACE, SERVED)
Speed = Callable[[Candidate], float]


def measured(load: Load, speed: float, **settings: Any) -> Measurement:
    p99 = 1e6 * (load.concurrency or 1) / speed * 2
    figures = {"mean_us": p99 / 2, "p50_us": p99 / 2, "p90_us": p99, "p95_us": p99, "p99_us": p99}
    return Measurement(load=load, requests=100, inferences_per_second=speed, **(figures | settings))


class Made:
    """Trials of a server that is as fast as a function says, with noise."""

    def __init__(self, speed: Speed, *, noise: float = 0.0, seed: int = 0) -> None:
        self.served = SimpleNamespace(original=SERVED)
        self.asked: list[tuple[Candidate, Load]] = []
        self._speed = speed
        self._noise = noise
        self._random = random.Random(seed)

    def point(self, candidate: Candidate, load: Load) -> Point:
        self.asked.append((candidate, load))
        speed = self._speed(candidate) * math.exp(self._random.gauss(0, self._noise))
        if speed == 0:
            return Point(candidate=candidate, load=load, failure="refused")
        return Point(candidate=candidate, load=load, measurement=measured(load, speed))


def search(made: Made, *, goal: Goal | None = None, seed: int = 0, **settings: Any) -> Outcome:
    whole: dict[str, Any] = {"space": SPACE, "loads": (LOAD,), "measurements": len(GRID) // 10}
    looking = Search(**(whole | settings), goal=goal or Goal(), seed=seed)
    return looking.run(cast("Trials", made), lambda _: None)


def forest(candidate: Candidate) -> float:
    """A fixed price for each execution and little for a row: batches pay, threads do not."""
    batching = candidate.dynamic_batching is not False
    rows = min(candidate.max_batch_size or 256, 16 if batching else 1)
    waits = (candidate.max_queue_delay_microseconds or 0) if batching else 0
    seconds = 1e-6 * (400 + 20 * rows + waits)
    at_once = min(candidate.instance_count or 1, 2)
    crowd = (candidate.instance_count or 1) * (candidate.intra_op_thread_count or 1)
    return rows / seconds * at_once * (1.0 if crowd <= 2 else 0.8)


def network(candidate: Candidate) -> float:
    """Much work a row, which threads share: one instance with all of them is best."""
    threads = candidate.intra_op_thread_count or 1
    count = candidate.instance_count or 1
    rows = 1 if candidate.dynamic_batching is False else min(candidate.max_batch_size or 256, 32)
    shared = 1.9 if threads * count == 2 else 1.0
    return rows / (1e-6 * (300 + 900 * rows)) * shared * (1.1 if count == 1 else 1.0)


@pytest.mark.parametrize("speed", [forest, network])
def test_a_tenth_of_the_grid_finds_95_percent_of_its_best(speed: Speed) -> None:
    best = max(map(speed, GRID))
    shares = []
    for seed in range(10):
        made = Made(speed, noise=0.03, seed=seed)
        outcome = search(made, seed=seed)
        shares.append(speed(outcome.winner.candidate) / best)
        assert outcome.measurements == len(made.asked) <= len(GRID) // 10
    assert sum(share >= 0.95 for share in shares) >= 9


def test_where_nothing_is_better_the_model_stays_as_it_is_served() -> None:
    outcome = search(Made(lambda candidate: 100.0 if candidate == AS_SERVED else 60.0))

    assert outcome.winner.candidate == AS_SERVED
    assert "nothing better" in outcome.stopped


def test_the_fastest_that_breaks_the_limit_loses() -> None:
    def speed(candidate: Candidate) -> float:
        return forest(candidate)

    limit = 1e3 * 2 * 32 / forest(AS_SERVED)  # What the model as served just about keeps.
    kept = search(Made(speed), goal=Goal(max_p99_ms=limit * 1.01))
    assert kept.satisfied

    broken = search(Made(speed), goal=Goal(max_p99_ms=1e-3))
    assert not broken.satisfied


def test_latency_is_sought_under_the_least_throughput() -> None:
    def point_of(candidate: Candidate, load: Load) -> Point:
        slow_and_steady = candidate.instance_count in {None, 1}
        speed = 50.0 if slow_and_steady else 200.0
        made = measured(load, speed, p99_us=1000.0 if slow_and_steady else 3000.0)
        return Point(candidate=candidate, load=load, measurement=made)

    trials = Made(forest)
    trials.point = point_of  # type: ignore[method-assign]
    goal = Goal(objective=Objective.LATENCY)
    assert search(trials, goal=goal).winner.candidate.instance_count in {None, 1}

    goal = Goal(objective=Objective.LATENCY, min_throughput=100)
    assert search(trials, goal=goal).winner.candidate.instance_count in {2, 4}


def test_candidates_that_fail_are_no_winners() -> None:
    def speed(candidate: Candidate) -> float:
        return 0.0 if (candidate.instance_count or 1) > 1 else forest(candidate)

    assert (search(Made(speed)).winner.candidate.instance_count or 1) == 1


def test_a_small_space_is_looked_through_and_no_more() -> None:
    made = Made(forest)

    outcome = search(made, space=Space(instance_count=(1, 2)), measurements=40)

    assert len(set(made.asked)) == 2
    assert outcome.winner.candidate == Candidate(instance_count=2)
    assert outcome.stopped == "every configuration that is left was measured"


def test_loads_are_searched_as_well() -> None:
    loads = tuple(Load(concurrency=callers) for callers in (1, 8, 64))

    def point_of(candidate: Candidate, load: Load) -> Point:
        speed = min(load.concurrency or 1, 8) * 100.0
        return Point(candidate=candidate, load=load, measurement=measured(load, speed))

    made = Made(forest)
    made.point = point_of  # type: ignore[method-assign]
    limit = 1e3 * 2 * 8 / 800  # Eight callers keep it, sixty-four do not.
    outcome = search(
        made, loads=loads, space=Space(instance_count=(1, 2)), measurements=30,
        goal=Goal(max_p99_ms=limit * 1.01),
    )  # fmt: skip
    assert outcome.winner.load == Load(concurrency=8)
    assert outcome.satisfied


def test_the_same_seed_asks_the_same() -> None:
    first, second = Made(forest), Made(forest)

    search(first, seed=3)
    search(second, seed=3)

    assert first.asked == second.asked


def test_seeds_do_not_crowd_the_cores() -> None:
    for values in seeds(SPACE, SERVED):
        assert 1 in {values["instance_count"], values["intra_op_thread_count"]}
        assert values["dynamic_batching"]


def test_failed_requests_keep_no_limit() -> None:
    assert Goal().excess(measured(LOAD, 10.0, failures=1)) == math.inf
    assert Goal().excess(measured(LOAD, 10.0)) == 0


def test_a_limit_of_memory_needs_memory_that_can_be_seen() -> None:
    goal = Goal(max_memory_bytes=1000)

    assert goal.excess(measured(LOAD, 10.0, memory_bytes=2000)) == 1.0
    with pytest.raises(ConfigError, match="cannot be seen"):
        goal.excess(measured(LOAD, 10.0))
    with pytest.raises(ConfigError, match="max_p99_ms"):
        Goal(max_p99_ms=0)
