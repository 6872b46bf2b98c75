"""Measure a served model under one load: perf_analyzer outside, Triton's counters inside."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from perf import analyzer, input_data, statistics
from perf.analyzer import Figures, Question, Settings
from perf.analyzer_output import MeasurementError, ShortWindowsError, UnstableError
from perf.input_data import Data
from perf.measurement import Load, Measurement, Protocol, SharedMemory
from perf.statistics import Snapshot
from perf.target import Target
from toolkit.client.transport import TOKEN_HEADER
from toolkit.errors import ConfigError

__all__ = ["MeasurementError", "measure"]

_WIDER = 5
_LIVE_SECONDS = 3.0
_SENT = 0.9
_FAST = 50


def measure(
    target: Target,
    model: str,
    load: Load,
    settings: Settings,
    data: str | Path | Data | None = None,
) -> Measurement:
    """Measure ``model`` under ``load``; ``data`` is what ``input_data.prepare`` is given.

    Windows that do not agree are measured once more and taken as they are, with ``stable``
    False; windows too short for a request are made longer, as far as the time limit allows.
    Raises ``MeasurementError`` when there are no figures, ``ConfigError`` for what cannot be
    asked, ``RequestError`` when the server does not give its counters, and what ``prepare``
    raises.
    """
    analyzer.check_shared_memory(load)
    program = analyzer.find()
    with tempfile.TemporaryDirectory(prefix="toolkit-perf-") as folder:
        if not isinstance(data, Data):
            data = input_data.prepare(
                target, model, Path(folder), given=data, version=settings.version
            )
        question = _question(target, model, load, data)
        ask = partial(analyzer.analyze, program, question, lives=partial(_lives, target.process))
        with target.client() as client:
            before = statistics.snapshot(client, model, settings.version)
            try:
                figures, stable = _figures(ask, settings)
                if _fell_short(figures, load):
                    figures, stable = _figures(ask, settings)
            except MeasurementError as error:
                if _lives(target.process) and client.is_live(timeout=_LIVE_SECONDS):
                    raise
                raise MeasurementError(
                    f"model {model!r} at {load}: the server does not answer any more",
                    hint="toolkit status; toolkit logs",
                ) from error
            memory = _memory_bytes(target)
            after = statistics.snapshot(client, model, settings.version)
    return _measurement(load, figures, after.since(before), memory, stable=stable)


def _question(target: Target, model: str, load: Load, data: Data) -> Question:
    url = target.grpc_url if load.protocol is Protocol.GRPC else target.http_url
    return Question(
        model=model,
        address=_address(target, load.protocol),
        load=load,
        data=data.source,
        tls=urlsplit(url or "").scheme in {"https", "grpcs"},
        headers=_headers(target, load),
        shapes=dict(data.shapes),
    )


def _address(target: Target, protocol: Protocol) -> str:
    address = target.address(protocol)
    secure = protocol is Protocol.HTTP and (target.http_url or "").startswith("https://")
    return f"https://{address}" if secure else address


def _headers(target: Target, load: Load) -> Mapping[str, str]:
    """Return the headers that open the shared-memory API where it is closed.

    perf_analyzer sends none over gRPC.
    """
    if load.shared_memory is SharedMemory.NONE or target.token is None:
        return {}
    if load.protocol is Protocol.GRPC:
        raise ConfigError(
            "the server's shared-memory API wants its token, and perf_analyzer cannot send one"
            " over gRPC",
            hint="--shared-memory system --protocol http",
        )
    return {TOKEN_HEADER: target.token}


def _fell_short(figures: Figures, load: Load) -> bool:
    """Whether requests of a rate were not even sent: they are fast, and there are too few."""
    if load.request_rate is None or not figures.inferences_per_second:
        return False
    answered = figures.inferences_per_second / load.batch_size
    whole_us = figures.requests / answered * 1e6
    return answered < _SENT * load.request_rate and figures.mean_us < whole_us / _FAST


def _lives(pid: int | None) -> bool:
    """Whether a process runs; True of a server that is none of this machine."""
    if pid is None:
        return True
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _figures(ask: Callable[[Settings], Figures], settings: Settings) -> tuple[Figures, bool]:
    """Return the figures, and whether the windows agree."""
    allowed = settings.stability_percentage
    at_once = replace(
        settings, stability_percentage=analyzer.ANY_WINDOWS, max_trials=analyzer.LEAST_WINDOWS
    )
    while True:
        try:
            if settings.max_trials > analyzer.LEAST_WINDOWS:
                with suppress(UnstableError):
                    return ask(settings), True
            figures = ask(at_once)
        except (ShortWindowsError, UnstableError):
            # Unstable whatever is allowed: a window in which nothing was answered.
            wider = settings.measurement_interval_ms * _WIDER
            if analyzer.LEAST_WINDOWS * wider / 1000 > settings.time_limit_seconds:
                raise
            settings = replace(settings, measurement_interval_ms=wider)
            at_once = replace(at_once, measurement_interval_ms=wider)
        else:
            return figures, figures.agree(allowed)


def _memory_bytes(target: Target) -> int | None:
    """Return what the model's own processes hold; None where they cannot be seen.

    The Python backend runs each instance in a stub whose arguments name the model's folder.
    """
    if target.process is None or target.entry is None:
        return None
    prefix = f"{target.entry.path.resolve()}/"
    total = 0
    with suppress(psutil.Error):
        for process in psutil.Process(target.process).children(recursive=True):
            with suppress(psutil.Error):
                if any(word.startswith(prefix) for word in process.cmdline()[1:]):
                    total += process.memory_info().rss
    return total or None


def _measurement(
    load: Load, figures: Figures, counted: Snapshot, memory: int | None, *, stable: bool
) -> Measurement:
    return Measurement(
        load=load,
        requests=figures.requests,
        failures=counted.failures,
        inferences_per_second=figures.inferences_per_second,
        mean_us=figures.mean_us,
        p50_us=figures.p50_us,
        p90_us=figures.p90_us,
        p95_us=figures.p95_us,
        p99_us=figures.p99_us,
        client_send_us=figures.client_send_us,
        client_receive_us=figures.client_receive_us,
        network_us=figures.network_us,
        queue_us=figures.queue_us,
        compute_input_us=figures.compute_input_us,
        compute_infer_us=figures.compute_infer_us,
        compute_output_us=figures.compute_output_us,
        overhead_us=figures.overhead_us,
        executions=counted.executions,
        batch_sizes=counted.batch_sizes,
        cache_hits=counted.cache_hits,
        memory_bytes=memory,
        stable=stable,
    )
