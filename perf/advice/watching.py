"""Read the statistics of a running server twice, and what its machine did meanwhile."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from perf.advice.setting import Machine
from perf.statistics import Snapshot, snapshot
from perf.target import Target
from toolkit.errors import (
    ConnectionFailedError,
    DeadlineExceededError,
    ServerDiedError,
    UnknownModelError,
)

if TYPE_CHECKING:
    from toolkit.client import Client

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def watch(target: Target, client: "Client", model: str, seconds: float) -> tuple[Snapshot, Machine]:
    """Return what ``model`` did in the next ``seconds``, and what was idle meanwhile.

    Raises ``UnknownModelError`` and ``ConnectionFailedError`` where there is nothing to look
    at, ``ServerDiedError`` when the server ends between the two readings.
    """
    with _named(model):
        earlier = snapshot(client, model)
    idle_before = _idle_seconds()
    time.sleep(seconds)
    try:
        with _named(model):
            later = snapshot(client, model)
    except (ConnectionFailedError, DeadlineExceededError) as error:
        raise ServerDiedError(
            f"the server at {client.url} ended, or answers no more, while the traffic of"
            f" {model!r} was looked at",
            hint="toolkit logs says why; then toolkit deploy, and ask again",
        ) from error
    between = later.since(earlier)
    idle = (_idle_seconds() - idle_before) / between.seconds
    return between, machine(target, idle)


def since_start(client: "Client", model: str) -> Snapshot:
    """Return all that Triton counted of ``model``; raises as ``watch``."""
    with _named(model):
        return snapshot(client, model)


def machine(target: Target, idle_cores: float | None = None) -> Machine:
    """Return the machine of the server; one that is not this one is not known.

    An address of this machine is taken for a server on it.
    """
    import psutil

    url = target.http_url or target.grpc_url or ""
    if target.process is None and urlsplit(url).hostname not in _LOOPBACK:
        return Machine()
    try:
        cores = len(psutil.Process(target.process).cpu_affinity() or ())
    except psutil.Error:
        cores = len(os.sched_getaffinity(0))
    return Machine(cores=cores, idle_cores=None if idle_cores is None else min(idle_cores, cores))


def _idle_seconds() -> float:
    """Return how long the cores of this machine had nothing to do, all together."""
    import psutil

    times = psutil.cpu_times()
    return float(times.idle) + float(getattr(times, "iowait", 0.0))


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Say what is served where the model is not."""
    try:
        yield
    except UnknownModelError as error:
        error.hint = f"toolkit status shows what is served; toolkit deploy {model} serves it"
        raise
