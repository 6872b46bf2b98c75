"""perf_analyzer: find the real one, run it bounded, read what it found.

What is known of release 2.51, each run and looked at:

- One run takes at least three windows and joins the last three; it ends 0.2 s after them.
  With ``-r`` 1 or 2 it never gives figures. When the last three of ``-r`` windows differ by
  more than ``-s`` percent it gives none either and exits with 2, so figures that are wanted
  whatever they are worth are asked for with a huge ``-s``; ``-v`` prints each window.
- ``--request-count`` waits for whole seconds, so its throughput is too low: not used.
- Only requests that begin and end inside a window count: where a request takes a tenth of
  the window, the throughput is a tenth too low.
- It ends at the first request that fails, with the server's message.
- With ``--percentile`` the column ``Avg latency`` is not there.
- Of a rate it sometimes (1 of 30 runs) sends three quarters: one of its four threads does
  not begin. With one thread requests came in bursts (p50 31 ms for 0.7), so it keeps four.
- At a rate above what the server can do, requests pile up without bound (7.6 GB in a
  minute) and it never ends; over HTTP each gets a connection of its own.
"""

import ctypes
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from perf import bounded
from perf.analyzer_output import Figures, MeasurementError, failure, figures
from perf.measurement import Load, Protocol, SharedMemory
from toolkit import runtime
from toolkit.errors import ConfigError, RuntimeNotReadyError

__all__ = [
    "Distribution",
    "Figures",
    "MeasurementError",
    "PerfAnalyzerError",
    "Program",
    "Question",
    "Settings",
    "analyze",
    "check_shared_memory",
    "find",
]

LEAST_WINDOWS = 3
ANY_WINDOWS = 1e9
"""A stability percentage that takes whatever windows there are."""

_VERSION = "Perf Analyzer Version"
_MISSING = "error while loading shared libraries: "
_OVERLOAD_SECONDS = 10.0


class PerfAnalyzerError(RuntimeNotReadyError):
    """There is no perf_analyzer that can run here."""


class Distribution(StrEnum):
    """How the requests of a rate are spread over time (perf_analyzer's names)."""

    CONSTANT = "constant"
    POISSON = "poisson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long and how closely is looked, and where that ends.

    A measurement is made of windows of ``measurement_interval_ms``. It is stable when the
    last three differ by at most ``stability_percentage`` in throughput and in latency: the
    mean, or the ``percentile``. ``max_trials`` is the most windows to wait for that, three
    at least. ``time_limit_seconds`` is of one whole measurement.
    """

    measurement_interval_ms: int = 1000
    stability_percentage: float = 10.0
    max_trials: int = 10
    percentile: int | None = None
    time_limit_seconds: float = 120.0
    memory_limit_bytes: int = 2 * 2**30
    distribution: Distribution = Distribution.CONSTANT
    version: str | None = None
    """Of the model; None is the one that the server answers with unasked."""

    def __post_init__(self) -> None:
        if self.measurement_interval_ms < 1 or self.max_trials < LEAST_WINDOWS:
            raise ConfigError(
                "a measurement needs windows of at least 1 ms and at least three of them"
            )
        if self.percentile is not None and not 1 <= self.percentile <= 99:  # noqa: PLR2004
            raise ConfigError(f"a percentile is between 1 and 99, got {self.percentile}")
        if not 0 < self.stability_percentage < math.inf:
            raise ConfigError("a stability percentage is above 0")


@dataclass(frozen=True, slots=True)
class Program:
    """A perf_analyzer that starts; ``libraries`` is the folder of what it needs, if apart."""

    path: Path
    libraries: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables to run it with."""
        variables = dict(os.environ)
        if self.libraries is not None:
            variables["LD_LIBRARY_PATH"] = str(self.libraries)
        return variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What perf_analyzer is asked: a model, where it is, a load and the rows to send.

    ``data`` is a file in its JSON, or ``"zero"`` or ``"random"``. ``address`` is
    ``host:port``. ``headers`` go with each request over HTTP.
    """

    model: str
    address: str
    load: Load
    data: str | Path
    tls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the inputs whose dims are not fixed, for data that is made up."""


def find() -> Program:
    """Return a perf_analyzer that runs here: the runtime's own, or a real one on PATH.

    Raises ``PerfAnalyzerError``. The package of that name on the public index holds none.
    """
    there = runtime.installed()
    if there is not None:
        own = Program(there.perf_analyzer, there.perf_libraries)
        reason = _refusal(own)
        if reason is None:
            return own
    else:
        reason = "the runtime that carries it is not installed"
    on_path = shutil.which("perf_analyzer")
    if on_path is not None:
        other = Program(Path(on_path))
        because = _refusal(other)
        if because is None:
            return other
        reason = f"{reason}; {because}"
    hint = "toolkit runtime install" if there is None else "toolkit runtime show"
    raise PerfAnalyzerError(f"there is no perf_analyzer that runs here: {reason}", hint=hint)


def _refusal(program: Program) -> str | None:
    """Return why ``program`` is no perf_analyzer that runs; None when it is one."""
    try:
        result = subprocess.run(
            [str(program.path), "--version"],
            env=program.environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except OSError as error:
        return f"{program.path} does not start: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{program.path} does not say which version it is"
    if _VERSION in result.stdout + result.stderr:
        return None
    if _MISSING in result.stderr:
        library = result.stderr.split(_MISSING, 1)[1].split(":", 1)[0]
        return f"{program.path} needs the shared library {library}"
    if "GLIBC_" in result.stderr:
        wanted = result.stderr.split("GLIBC_", 1)[1].split("'", 1)[0]
        return f"{program.path} needs glibc {wanted} or newer"
    return f"{program.path} is none, only a placeholder of that name"


def analyze(
    program: Program,
    question: Question,
    settings: Settings,
    *,
    lives: Callable[[], bool] = lambda: True,
) -> Figures:
    """Ask once; return the figures of the last three windows.

    ``lives`` tells whether the server does: perf_analyzer notices at the end of a window.
    Raises ``MeasurementError``, and ``UnstableError`` when the windows do not agree within
    ``settings.stability_percentage`` (never with ``ANY_WINDOWS``).
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-perf-") as folder:
        report = Path(folder) / "report.csv"
        command = [str(program.path), *_arguments(question, settings, report)]
        try:
            ended = bounded.run(
                command,
                environment=program.environment,
                seconds=_limit_seconds(question.load, settings),
                memory_bytes=settings.memory_limit_bytes,
                worth=lives,
            )
        except OSError as error:
            raise PerfAnalyzerError(
                f"cannot run {program.path}: {error.strerror}", hint="toolkit runtime show"
            ) from error
        text = report.read_text(encoding="utf-8") if report.is_file() else ""
    if ended.code or ended.stopped or not text:
        raise failure(question.model, question.load, ended)
    return figures(text, ended.out, question.load)


def _limit_seconds(load: Load, settings: Settings) -> float:
    """Return how long a run may take; a rate that is too high shows by its not ending."""
    if load.request_rate is None:
        return settings.time_limit_seconds
    windows = settings.max_trials * settings.measurement_interval_ms / 1000
    return min(settings.time_limit_seconds, 2 * windows + _OVERLOAD_SECONDS)


def _arguments(question: Question, settings: Settings, report: Path) -> list[str]:
    load = question.load
    arguments = ["-m", question.model, "-u", question.address, "-i", load.protocol.value]
    # Without --async it once grew to 11 GB at concurrency 32, and never ended.
    arguments += ["--async", "-v", "--verbose-csv", "-f", str(report)]
    arguments += ["-b", str(load.batch_size), "--input-data", str(question.data)]
    arguments += ["-p", str(settings.measurement_interval_ms), "-r", str(settings.max_trials)]
    arguments += ["-s", f"{settings.stability_percentage:.10g}"]
    if settings.percentile is not None:
        arguments += ["--percentile", str(settings.percentile)]
    if settings.version is not None:
        arguments += ["-x", settings.version]
    if load.shared_memory is not SharedMemory.NONE:
        arguments += ["--shared-memory", load.shared_memory.value]
    arguments += _load_arguments(load, settings)
    for name, dims in question.shapes.items():
        arguments += ["--shape", f"{name}:{','.join(map(str, dims))}"]
    for name, value in question.headers.items():
        arguments += ["-H", f"{name}:{value}"]
    if question.tls and load.protocol is Protocol.GRPC:
        arguments += ["--ssl-grpc-use-ssl", "true"]
    return arguments


def _load_arguments(load: Load, settings: Settings) -> list[str]:
    if load.request_rate is None:
        return ["--concurrency-range", str(load.concurrency)]
    return [
        *("--request-rate-range", f"{load.request_rate:.10g}"),
        *("--request-distribution", settings.distribution.value),
    ]


def check_shared_memory(load: Load) -> None:
    """Raise ``ConfigError`` for memory of a GPU on a machine that has none."""
    if load.shared_memory is not SharedMemory.CUDA:
        return
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise ConfigError(
            "--shared-memory cuda needs a GPU, and this machine has no libcuda.so.1",
            hint="--shared-memory system, on the machine of the server",
        ) from error
