"""A real server under a real load."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from perf import analyzer, target
from perf.analyzer import Figures, Program, Question, Settings
from perf.analyzer_output import OverloadedError
from perf.measurement import Load, Protocol, SharedMemory
from perf.measuring import MeasurementError, measure
from toolkit.deploy import embedded
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError

_SHORT = Settings(measurement_interval_ms=200, max_trials=3)


def _left_behind() -> list[str]:
    """Return perf_analyzers that this process started, and folders they were given."""
    programs = [p.name() for p in psutil.Process().children(recursive=True)]
    return [name for name in programs if "perf" in name]


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_measurement_has_the_client_and_the_server_in_it(
    measured: Path, protocol: Protocol
) -> None:
    load = Load(concurrency=4, batch_size=2, protocol=protocol)

    found = measure(target.of_repository(measured, "text"), "text", load, _SHORT)

    assert found.requests > 10
    assert found.inferences_per_second > 10
    assert 0 < found.p50_us <= found.p90_us <= found.p95_us <= found.p99_us
    parts = (
        found.client_send_us + found.client_receive_us + found.network_us + found.overhead_us
        + found.queue_us + found.compute_input_us + found.compute_infer_us
        + found.compute_output_us
    )  # fmt: skip
    assert parts == pytest.approx(found.mean_us, rel=0.1)
    assert found.executions >= found.requests
    assert set(found.batch_sizes) == {2}
    assert found.memory_bytes
    assert found.failures == 0
    assert not _left_behind()


def test_a_percentile_can_judge(measured: Path) -> None:
    settings = Settings(measurement_interval_ms=200, max_trials=3, percentile=95)

    found = measure(target.of_repository(measured, "text"), "text", Load(concurrency=1), settings)

    assert found.mean_us > 0
    assert found.p50_us > 0


def test_a_rate_is_kept(measured: Path) -> None:
    settings = Settings(measurement_interval_ms=500, max_trials=3)

    found = measure(target.of_repository(measured, "text"), "text", Load(request_rate=60), settings)

    # Of 500 ms windows, one request may fall across either end.
    assert found.inferences_per_second == pytest.approx(60, rel=0.15)


def test_a_rate_of_which_a_part_was_not_sent_is_asked_for_once_more(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = analyzer.analyze

    def without_a_thread(
        program: Program, question: Question, settings: Settings, **how: Any
    ) -> Figures:
        asked.append(question)
        sent = replace(question.load, request_rate=45.0) if len(asked) == 1 else question.load
        return real(program, replace(question, load=sent), settings, **how)

    monkeypatch.setattr(analyzer, "analyze", without_a_thread)
    settings = Settings(measurement_interval_ms=500, max_trials=3)

    found = measure(target.of_repository(measured, "text"), "text", Load(request_rate=60), settings)

    assert len(asked) == 2
    assert found.inferences_per_second > 50


def test_a_rate_that_is_too_high_is_said_and_ends(measured: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[0.05]]")
    settings = Settings(measurement_interval_ms=100, max_trials=3, time_limit_seconds=4)

    began = time.monotonic()
    try:
        found = measure(
            target.of_repository(measured, "slow"), "slow", Load(request_rate=500), settings, rows
        )
    except OverloadedError as error:
        assert not error.answered_per_second > 200  # noqa: PT017  either end shows the overload
    else:
        assert found.inferences_per_second < 200
    assert time.monotonic() - began < 30
    assert not _left_behind()


def test_windows_grow_until_a_request_fits_into_them(measured: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[0.2]]")
    settings = Settings(measurement_interval_ms=100, max_trials=3)

    found = measure(
        target.of_repository(measured, "slow"), "slow", Load(concurrency=1), settings, rows
    )

    assert found.p50_us == pytest.approx(200_000, rel=0.5)


def test_windows_that_do_not_agree_still_give_figures(measured: Path) -> None:
    settings = Settings(measurement_interval_ms=50, max_trials=4, stability_percentage=0.001)

    found = measure(target.of_repository(measured, "text"), "text", Load(concurrency=2), settings)

    assert not found.stable
    assert found.requests > 0


def test_a_request_that_fails_ends_it_with_the_words_of_the_server(measured: Path) -> None:
    with pytest.raises(MeasurementError, match="the sums do not add up"):
        measure(target.of_repository(measured, "raises"), "raises", Load(concurrency=1), _SHORT)


def test_a_batch_for_a_model_without_a_batch_axis_is_refused(measured: Path) -> None:
    load = Load(concurrency=1, batch_size=4)

    with pytest.raises(MeasurementError, match="does not support batching") as raised:
        measure(target.of_repository(measured, "unbatched"), "unbatched", load, _SHORT)
    assert "--batch-size 1" in (raised.value.hint or "")


def test_shared_memory_is_opened_with_the_token(measured: Path) -> None:
    load = Load(concurrency=1, protocol=Protocol.HTTP, shared_memory=SharedMemory.SYSTEM)

    assert measure(target.of_repository(measured, "text"), "text", load, _SHORT).requests > 10


def test_shared_memory_over_grpc_is_refused_where_a_token_is_wanted(measured: Path) -> None:
    load = Load(concurrency=1, shared_memory=SharedMemory.SYSTEM)

    with pytest.raises(ConfigError, match="token") as raised:
        measure(target.of_repository(measured, "text"), "text", load, _SHORT)
    assert "--protocol http" in (raised.value.hint or "")


_MEASURES = """
import sys
from pathlib import Path
from typing import Any
from perf import analyzer, target
from perf.analyzer import Figures, Program, Question, Settings
from perf.measurement import Load
from perf.measuring import measure
repository = Path(sys.argv[1])
measure(target.of_repository(repository, "text"), "text", Load(concurrency=4),
        Settings(measurement_interval_ms=20_000, max_trials=3))
"""


def _perf_analyzer_of(process: "subprocess.Popen[bytes]") -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):  # One that was asked for its version ends just now.
                if child.name() == "perf_analyzer" and "--version" not in child.cmdline():
                    return child
        time.sleep(0.02)
    pytest.fail("perf_analyzer did not start")


def test_ctrl_c_leaves_no_program_and_no_file(measured: Path, tmp_path: Path) -> None:
    ours = subprocess.Popen(
        [sys.executable, "-c", _MEASURES, str(measured)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        program = _perf_analyzer_of(ours)
        ours.send_signal(signal.SIGINT)
        ours.wait(20)
    finally:
        ours.kill()

    assert not psutil.wait_procs([program], timeout=10)[1]
    assert not list(tmp_path.iterdir())


def test_a_server_that_ends_half_way_is_said(
    serve: Callable[[Path], Server], tmp_path: Path
) -> None:
    shutil.copytree(Path(__file__).parents[1] / "client/models/text", tmp_path / "text")
    server = serve(tmp_path)
    with embedded.client(server) as control:
        control.load("text")
    there = target.of_repository(tmp_path, "text")
    settings = Settings(measurement_interval_ms=20_000, max_trials=3)
    killer = threading.Timer(1.5, psutil.Process(server.pid).kill)

    killer.start()
    began = time.monotonic()
    with pytest.raises(MeasurementError, match="does not answer any more") as raised:
        measure(there, "text", Load(concurrency=2), settings)
    killer.join()

    assert time.monotonic() - began < 15  # Of the 20 s after which perf_analyzer notices.
    assert "toolkit logs" in (raised.value.hint or "")
    assert not _left_behind()
