"""Models on a running server: load, unload, and what each of them is doing."""

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit import pbtxt
from toolkit import repository as repositories
from toolkit.client import Client
from toolkit.client.transport import IndexedModel
from toolkit.errors import (
    ConfigError,
    ConnectionFailedError,
    ModelNotServedError,
    RepositoryError,
    RequestError,
    ToolkitError,
)
from toolkit.spec import RepositoryEntry
from toolkit.verify import canary

# Triton answers a load when the model is up; a large network takes its time.
_LOAD_TIMEOUT = 600.0
_LOADS_AT_ONCE = 4
_CANARY_SECONDS = 10.0
_OUR_REFUSAL = "Internal: TritonModelException: "
_OUR_FRAMES = re.compile(r"\s*At:(\s+\S*/backends/\S+\(\d+\): \w+)+")


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one model: ``error`` is None when it answers.

    ``rows`` counts the proof rows that came back as they did offline.
    """

    name: str
    version: int
    rows: int = 0
    error: ToolkitError | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the server sees it; times in microseconds, 0.0 before the first use."""

    name: str
    version: str
    state: str
    reason: str
    requests: int
    failures: int
    executions: int
    rows: int
    mean_queue_us: float
    mean_compute_us: float


def choose(repository: Path, names: Sequence[str]) -> tuple[RepositoryEntry, ...]:
    """Return the entries called ``names``, or all of them.

    Raises ``RepositoryError`` for a name that is not there and for an empty repository.
    """
    if names:
        return tuple(repositories.find(repository, name) for name in dict.fromkeys(names))
    found = repositories.entries(repository)
    if not found:
        raise RepositoryError(
            f"{repository} holds no models", hint="toolkit convert MODEL_FILE --name NAME"
        )
    return found


def load(client: Client, chosen: Sequence[RepositoryEntry]) -> tuple[Deployed, ...]:
    """Load or reload ``chosen`` and wait until each answers its first proof rows.

    A model that fails does not stop the others.
    """
    pool = ThreadPoolExecutor(_LOADS_AT_ONCE)
    try:
        return tuple(pool.map(partial(_load_one, client), chosen))
    finally:
        # Not waited for: who presses Ctrl-C does not want to sit out a long load.
        pool.shutdown(wait=False, cancel_futures=True)


def _load_one(client: Client, entry: RepositoryEntry) -> Deployed:
    version = entry.versions[-1]
    try:
        _check_config(entry)
        client.load(entry.name, timeout=_LOAD_TIMEOUT)
        return Deployed(entry.name, version, _first_answers(client, entry))
    except ConnectionFailedError as error:
        return Deployed(entry.name, version, error=error)
    except RequestError as error:
        refused = ModelNotServedError(
            f"Triton does not serve {entry.name!r}: {_plain(error.message)}",
            hint=error.hint or "toolkit logs",
        )
        return Deployed(entry.name, version, error=refused)
    except ToolkitError as error:
        return Deployed(entry.name, version, error=error)


def _check_config(entry: RepositoryEntry) -> None:
    """Raise ``ConfigError`` where Triton would only say that it failed to poll."""
    path = entry.path / repositories.CONFIG
    if path.is_file():
        try:
            pbtxt.parse_message(path.read_text(encoding="utf-8", errors="replace"))
        except ConfigError as error:
            raise ConfigError(f"model {entry.name!r}: {error.message}", hint=str(path)) from error


def _first_answers(client: Client, entry: RepositoryEntry) -> int:
    """Ask for the first proof rows, again where the model's own queue limits refuse.

    A model that was just loaded answers its first requests slowly, and its entry may
    say that no request waits that long.
    """
    deadline = time.monotonic() + _CANARY_SECONDS
    while True:
        try:
            return canary(client, entry)
        except ConnectionFailedError:
            raise
        except RequestError as error:
            if "not healthy" in error.message and time.monotonic() < deadline:
                # The process of the model is dead, and loading what has not changed
                # leaves it so.
                client.unload(entry.name)
                client.load(entry.name, timeout=_LOAD_TIMEOUT)
            elif not error.retryable or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _plain(reason: str) -> str:
    """Put Triton's reason on one line, without its way through Triton and our backends."""
    line = " ".join(reason.split()).rpartition("at UNAVAILABLE state: ")[2]
    return _OUR_FRAMES.sub("", line).removeprefix(_OUR_REFUSAL).rstrip("; ")


def served(client: Client) -> tuple[ServedModel, ...]:
    """Return every model of the repository, sorted by name, with its statistics."""
    index = sorted(client.repository_index(), key=lambda model: (model.name, model.version))
    return tuple(_describe(client, model) for model in index)


def _describe(client: Client, model: IndexedModel) -> ServedModel:
    versions = client.statistics(model.name) if model.state == "READY" else ()
    mine = next((item for item in versions if str(item["version"]) == model.version), {})
    counts = mine.get("inference_stats", {})
    requests = int(counts.get("success", {}).get("count", 0))
    microseconds = 1e-3 / max(requests, 1)
    return ServedModel(
        model.name,
        model.version,
        model.state or "not loaded",
        _plain(model.reason),
        requests=requests,
        failures=int(counts.get("fail", {}).get("count", 0)),
        executions=int(mine.get("execution_count", 0)),
        rows=int(mine.get("inference_count", 0)),
        mean_queue_us=int(counts.get("queue", {}).get("ns", 0)) * microseconds,
        mean_compute_us=int(counts.get("compute_infer", {}).get("ns", 0)) * microseconds,
    )
