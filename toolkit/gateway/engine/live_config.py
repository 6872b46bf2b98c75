"""The engine's settings: from the environment, changed while it serves, written to its entry."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from perf import configuration
from perf.candidates import Candidate
from toolkit import pbtxt
from toolkit import repository as repositories
from toolkit.client import Client
from toolkit.deploy import models
from toolkit.errors import RepositoryError, VerificationError
from toolkit.gateway.settings import Settings
from toolkit.locking import locked
from toolkit.spec import RepositoryEntry

Control = Callable[[], AbstractContextManager[Client]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What ``POST /config`` can change; times in seconds.

    ``asked`` names what somebody chose. Where nobody did, Triton holds no request back, which
    would make each lone caller wait for the whole time, and the number of threads is the
    converter's choice, which for tabular models is one: their answers then never depend on it.
    """

    enable_batching: bool = True
    max_batch_size: int = 64
    batch_timeout: float = 0.01
    enable_cache: bool = True
    max_cache_entries: int = 1000
    cache_ttl_seconds: float = 3600.0
    enable_quantization: bool = False
    num_threads: int = 4
    enable_throttling: bool = False
    max_concurrent_requests: int = 100
    asked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> "Config":
        """Return what the gateway's settings say."""
        names = [one.name for one in fields(cls) if one.name != "asked"]
        chosen = {name for name in names if f"engine_{name}" in settings.model_fields_set}
        values = {name: getattr(settings, f"engine_{name}") for name in names}
        return cls(**values, asked=frozenset(chosen))

    def changed(self, wanted: Mapping[str, Any]) -> "Config":
        """Return this with what ``wanted`` names."""
        return replace(self, **wanted, asked=self.asked | wanted.keys())

    def current(self) -> dict[str, Any]:
        """Return the settings by their names."""
        values = asdict(self)
        del values["asked"]
        return values

    @property
    def threads(self) -> int | None:
        """The threads that were asked for."""
        return self.num_threads if "num_threads" in self.asked else None

    @property
    def quantize(self) -> str | None:
        """The converter's word for making a model smaller."""
        return "dynamic" if self.enable_quantization else None

    def serving(self) -> dict[str, Any]:
        """Return how a new entry is to be served, by the names of ``ServingConfig``."""
        delay = {"max_queue_delay_microseconds": self.delay_microseconds}
        return {
            "max_batch_size": self.max_batch_size,
            "dynamic_batching": self.enable_batching,
            **(delay if self.enable_batching else {}),
        }

    @property
    def delay_microseconds(self) -> int:
        """How long Triton may let a request wait for others."""
        return round(self.batch_timeout * 1e6) if "batch_timeout" in self.asked else 0


def apply(entry: RepositoryEntry, config: Config, control: Control) -> tuple[str, ...]:
    """Serve ``entry`` as ``config`` says; return a note for each part that could not be done.

    The file is written in one step and Triton answers from the former instance until the new
    one is up, so no request is lost. A model that then fails, or no longer answers as it was
    proven to, is served as before. Blocking. Raises ``ToolkitError``s.
    """
    path = entry.path / repositories.CONFIG
    before = _read(path)
    message = pbtxt.parse_message(before)
    wanted, notes = _candidate(message, config)
    try:
        _serve(entry, path, before, wanted, control)
    except VerificationError:
        if wanted.intra_op_thread_count is None:
            raise
        _serve(entry, path, before, replace(wanted, intra_op_thread_count=None), control)
        notes = (*notes, _THREADS)
    return notes


_THREADS = (
    "num_threads: with another number of threads the model no longer answers as it was proven to;"
    " it takes effect with the next POST /models/load"
)


def _candidate(message: Any, config: Config) -> tuple[Candidate, tuple[str, ...]]:
    notes = []
    rows: dict[str, Any] = {}
    if message.max_batch_size:
        delay = {"max_queue_delay_microseconds": config.delay_microseconds}
        rows = {
            "max_batch_size": config.max_batch_size,
            "dynamic_batching": config.enable_batching,
            **(delay if config.enable_batching else {}),
        }
    else:
        notes.append(
            "enable_batching, max_batch_size, batch_timeout: the model has no axis of rows"
        )
    threads = config.threads
    if threads is not None and pbtxt.thread_parameter(message.backend, _INTRA) is None:
        notes.append(f"num_threads: the {message.backend} backend has no such setting")
        threads = None
    return Candidate(**rows, intra_op_thread_count=threads), tuple(notes)


_INTRA = "intra_op_thread_count"


def _serve(
    entry: RepositoryEntry, path: Path, before: str, wanted: Candidate, control: Control
) -> None:
    """Write the change and have it served; on any failure all is as before."""
    from google.protobuf import text_format

    message = pbtxt.parse_message(before)
    configuration.change(message, wanted)
    if message == pbtxt.parse_message(before):
        return
    write(path, str(text_format.MessageToString(message)))
    try:
        serve(entry, control)
    except BaseException:
        write(path, before)
        serve(entry, control)
        raise


def serve(entry: RepositoryEntry, control: Control) -> int:
    """Load ``entry``, or load it again; return how many proof rows it answered as proven.

    Blocking. Raises ``ToolkitError``s.
    """
    with control() as client:
        (deployed,) = models.load(client, [entry])
    if deployed.error is not None:
        raise deployed.error
    return deployed.rows


def write(path: Path, text: str) -> None:
    """Write a ``config.pbtxt`` in one step. Raises ``RepositoryError``."""
    try:
        with locked(path.parent.parent):
            beside = path.with_name(f".{path.name}.new")
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
    except OSError as error:
        raise RepositoryError(f"cannot write {path}: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from error
