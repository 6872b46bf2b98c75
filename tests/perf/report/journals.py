"""Journals as a sweep and a tuning write them, from a simple model of a server."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perf import journal
from perf.candidates import AS_SERVED, Candidate
from perf.journal import Header, Point
from perf.measurement import Load, Measurement

CONFIGURATION: Mapping[str, Any] = {
    "name": "churn",
    "backend": "onnxruntime",
    "max_batch_size": 64,
    "dynamic_batching": {"max_queue_delay_microseconds": "500"},
    "instance_group": [{"name": "churn", "kind": "KIND_CPU", "count": 1}],
    "parameters": {"intra_op_thread_count": {"string_value": "1"}},
}
MACHINE = {"processor": "Made-up 9000", "cores": 16, "memory_gib": 62.8, "system": "Linux-6.1"}
CALLERS = (1, 4, 16, 32, 64)


def header(model: str = "churn", command: str = "sweep", **changes: Any) -> Header:
    given: dict[str, Any] = {
        "command": command,
        "model": model,
        "plan": {"concurrency": list(CALLERS), "max_p99_ms": None, "protocol": "grpc"},
        "configuration": {**CONFIGURATION, "name": model},
        "machine": MACHINE,
        "server": {"name": "triton", "version": "2.51.0"},
        "started": "2026-11-21T19:50:00+00:00",
    }
    return Header(**{**given, **changes})


def measured(load: Load, per_second: float, p99_ms: float, **changes: Any) -> Measurement:
    mean = 900.0 if math.isnan(p99_ms) else p99_ms * 600
    given: dict[str, Any] = {
        "load": load,
        "requests": int(per_second * 3),
        "inferences_per_second": per_second,
        "mean_us": mean,
        "p50_us": p99_ms * 550,
        "p90_us": p99_ms * 800,
        "p95_us": p99_ms * 900,
        "p99_us": p99_ms * 1000,
        "client_send_us": mean * 0.03,
        "client_receive_us": mean * 0.02,
        "network_us": mean * 0.15,
        "queue_us": mean * 0.35,
        "compute_input_us": mean * 0.05,
        "compute_infer_us": mean * 0.3,
        "compute_output_us": mean * 0.05,
        "overhead_us": mean * 0.05,
        "executions": 400,
        "batch_sizes": {1: 100, 8: 300},
        "memory_bytes": 150 * 2**20,
    }
    return Measurement(**{**given, **changes})


def point(
    candidate: Candidate, per_second: float, p99_ms: float, callers: int = 32, **changes: Any
) -> Point:
    load = Load(concurrency=callers)
    return Point(
        candidate=candidate,
        load=load,
        measurement=measured(load, per_second, p99_ms, **changes),
        at="2026-11-21T19:55:00+00:00",
    )


def failed(candidate: Candidate, reason: str) -> Point:
    return Point(candidate=candidate, load=Load(concurrency=32), failure=reason, at="2026-11-21")


def grid(seed: int = 7, callers: Sequence[int] = CALLERS) -> list[Point]:
    """Return 60 configurations under each load, in the way of a queue that fills."""
    points: list[Point] = []
    chance = random.Random(seed)
    for count in (1, 2, 4):
        for delay in (0, 100, 500, 2000):
            for most in (4, 16, 32, 64, 128):
                candidate = Candidate(
                    instance_count=count, max_queue_delay_microseconds=delay, max_batch_size=most
                )
                if (count, delay, most) == (1, 500, 64):
                    candidate = AS_SERVED
                points += _curve(candidate, (count, delay, most), callers, chance)
    return points


def _curve(
    candidate: Candidate,
    made: tuple[int, int, int],
    callers: Sequence[int],
    chance: random.Random,
) -> Iterable[Point]:
    count, delay, most = made
    for together in callers:
        batch = max(1.0, min(most, together / count * (0.4 + delay / 1500)))
        execution_us = 180 + 22 * batch + 40 * (count - 1)
        capacity = count**0.7 * batch / (execution_us + 0.3 * delay / batch) * 1e6
        alone_us = 350 + execution_us + (delay if together < batch * count * 1.5 else 0)
        rate = min(capacity, together / alone_us * 1e6) * chance.uniform(0.95, 1.05)
        mean_us = together / rate * 1e6
        execution = min(execution_us, mean_us * 0.6)
        yield point(
            candidate,
            rate,
            mean_us / 600 * chance.uniform(0.9, 1.3),
            together,
            mean_us=mean_us,
            compute_infer_us=execution * 0.8,
            compute_input_us=execution * 0.1,
            compute_output_us=execution * 0.1,
            queue_us=max(0.0, mean_us - execution - 250),
            network_us=140.0,
            client_send_us=25.0,
            client_receive_us=15.0,
            overhead_us=70.0,
            batch_sizes={int(batch): 400},
            stable=chance.random() > 0.03,
        )


def write(path: Path, about: Header, points: Iterable[Point]) -> Path:
    with journal.begin(path, about) as written:
        for one in points:
            written.append(one)
    return path
