"""perf_analyzer is found, run within bounds, and what it says is read."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perf import analyzer, analyzer_output, bounded
from perf.analyzer import PerfAnalyzerError, Settings
from perf.analyzer_output import (
    MeasurementError,
    OverloadedError,
    ShortWindowsError,
    UnstableError,
)
from perf.bounded import Cause, Ended
from perf.measurement import Load, SharedMemory
from toolkit import runtime
from toolkit.errors import ConfigError

_MUCH = 2**40
_LOAD = Load(concurrency=4)


def _ended(err: str = "", out: str = "", code: int = 99, stopped: Cause | None = None) -> Ended:
    return Ended(code=code, out=out, err=err, seconds=1.0, stopped=stopped)


def _program(folder: Path, text: str) -> None:
    path = folder / "perf_analyzer"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No runtime, and a PATH with one folder, which is empty."""
    monkeypatch.setattr(runtime, "installed", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_one_of_the_runtime_is_found() -> None:
    there = runtime.install()

    assert analyzer.find().path == there.perf_analyzer


def test_without_a_runtime_a_real_one_on_the_path_is_taken(nothing_installed: Path) -> None:
    _program(nothing_installed, 'echo "Perf Analyzer Version 2.60.0 (commit abc)"')

    assert analyzer.find().path == nothing_installed / "perf_analyzer"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 0", "placeholder"),
        ("echo 'x: error while loading shared libraries: libb64.so.0d: no' >&2; exit 127",
         "libb64.so.0d"),
        ("echo \"x: /lib/libc.so.6: version 'GLIBC_2.38' not found\" >&2; exit 1", "glibc 2.38"),
    ],
)  # fmt: skip
def test_one_that_does_not_run_is_refused_with_the_reason(
    nothing_installed: Path, text: str, reason: str
) -> None:
    _program(nothing_installed, text)

    with pytest.raises(PerfAnalyzerError, match=reason) as raised:
        analyzer.find()
    assert raised.value.hint == "toolkit runtime install"


def test_where_there_is_none_the_next_command_is_said(nothing_installed: Path) -> None:
    assert not list(nothing_installed.iterdir())

    with pytest.raises(PerfAnalyzerError, match="not installed") as raised:
        analyzer.find()
    assert raised.value.hint == "toolkit runtime install"


_SLEEPS = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]


def test_a_program_is_ended_when_its_time_is_over() -> None:
    ended = bounded.run(_SLEEPS, seconds=0.5, memory_bytes=_MUCH)

    assert ended.stopped is Cause.TIME
    assert ended.seconds < 10
    assert ended.out == "here\n"


def test_a_program_that_does_not_listen_is_ended_with_its_children() -> None:
    script = "trap '' INT TERM; sleep 61.25 & wait; sleep 60"

    ended = bounded.run(["sh", "-c", script], seconds=0.3, memory_bytes=_MUCH)

    assert ended.code == -signal.SIGKILL
    assert not [p for p in psutil.process_iter(["cmdline"]) if "61.25" in (p.info["cmdline"] or ())]


def test_a_program_that_grows_is_ended() -> None:
    grow = "import time\nheld = []\nwhile True: held.append(bytearray(10**7)); time.sleep(0.01)"

    ended = bounded.run([sys.executable, "-c", grow], seconds=30, memory_bytes=200 * 2**20)

    assert ended.stopped is Cause.MEMORY
    assert ended.seconds < 20


_RUNS = """
import sys
from perf import bounded
bounded.run([sys.executable, "-c", "import time; time.sleep(61.5)"], seconds=60, memory_bytes=2**40)
"""


def _children(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = psutil.Process(process.pid).children(recursive=True)
        if any("61.5" in word for child in found for word in child.cmdline()):
            return found
        time.sleep(0.05)
    pytest.fail("the program did not start")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_program_ends_with_whoever_started_it(how: signal.Signals) -> None:
    ours = subprocess.Popen(
        [sys.executable, "-c", _RUNS], stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    children = _children(ours)
    ours.send_signal(how)
    ours.wait(20)

    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


_REPORT = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,"
    "p90 latency,p95 latency,p99 latency{more}\n"
    "8,2892,3,373,670,82,655,844,1,2517,3572,3933,7141{values}"
)
_OUT = """
  Pass [1] throughput: 2900.5 infer/sec. {kind} latency: 2600 usec (std 1033 usec).
  Pass [2] throughput: 2800 infer/sec. {kind} latency: 2700 usec
  Pass [3] throughput: 1.5e+03 infer/sec. {kind} latency: 2650 usec
    Request count: 3157
    Avg request latency: 2261 usec (overhead 8 usec + queue 670 usec + compute input 82 usec)
"""


def test_a_report_is_read_by_the_names_of_its_columns() -> None:
    report = _REPORT.format(more=",Avg latency,request/response", values=",2632,4")

    figures = analyzer_output.figures(report, _OUT.format(kind="Avg"), _LOAD)

    assert figures.requests == 3157
    assert (figures.inferences_per_second, figures.mean_us, figures.p99_us) == (2892, 2632, 7141)
    assert (figures.network_us, figures.overhead_us) == (365, 8)
    assert [window.inferences_per_second for window in figures.windows] == [2900.5, 2800, 1500]


def test_a_report_without_the_mean_gives_the_sum_of_its_parts() -> None:
    report = _REPORT.format(more="", values="")

    figures = analyzer_output.figures(report, _OUT.format(kind="p99"), _LOAD)

    assert figures.mean_us == 3 + 373 + 670 + 82 + 655 + 844 + 1
    assert len(figures.windows) == 3


def test_windows_agree_by_throughput_and_latency() -> None:
    figures = analyzer_output.figures(
        _REPORT.format(more="", values=""), _OUT.format(kind="Avg"), _LOAD
    )

    assert not figures.agree(10)
    assert figures.agree(95)


def test_windows_that_did_not_agree_are_told_from_a_failure() -> None:
    error = analyzer_output.failure(
        "m", _LOAD, _ended("Failed to obtain stable measurement.", code=2)
    )

    assert isinstance(error, UnstableError)


def test_windows_without_a_request_are_told_from_a_failure() -> None:
    error = analyzer_output.failure("m", _LOAD, _ended("No valid requests recorded within"))

    assert isinstance(error, ShortWindowsError)
    assert "--measurement-interval" in (error.hint or "")


def test_a_failure_shows_what_was_asked_and_the_last_lines_once() -> None:
    said = "".join(
        f"Thread [{n}] had error: the model said no\n\nAt:\n  model.py(8)\n" for n in range(4)
    )

    error = analyzer_output.failure("m", Load(concurrency=4, batch_size=2), _ended(said))

    assert error.message == (
        "model 'm' at concurrency 4, 2 rows each: a request failed: the model said no\n"
        "  At:\n  model.py(8)"
    )


def test_usage_text_is_left_out() -> None:
    usage = "\n".join(f"--option-{n}" for n in range(200))

    error = analyzer_output.failure("m", _LOAD, _ended(f"bad option\nUsage: x [options]\n{usage}"))

    assert "bad option" in error.message
    assert "--option" not in error.message


def test_a_rate_that_piles_up_says_how_much_was_answered() -> None:
    out = "Pass [1] throughput: 1500 infer/sec. Avg latency: 90000 usec"

    error = analyzer_output.failure(
        "m", Load(request_rate=9000), _ended(out=out, code=-9, stopped=Cause.TIME)
    )

    assert isinstance(error, OverloadedError)
    assert error.answered_per_second == 1500


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("failed to get model metadata: Request for unknown model: 'm' is not found", "deploy m"),
        ("failed to connect to all addresses; Connection refused", "toolkit status"),
        ("HTTP client failed: Couldn't connect to server", "toolkit status"),
        ("inference request batch-size must be <= 8 for 'm'", "--batch-size"),
        ("Unable to init: This API is restricted, expecting header", "--token"),
        ("unable to open shared memory object", "--shared-memory none"),
        ("unexpected shape for input 'x'", "--input-data"),
    ],
)
def test_usual_causes_have_a_next_step(said: str, hint: str) -> None:
    error = analyzer_output.failure("m", _LOAD, _ended(f"error: {said}\n"))

    assert hint in (error.hint or "")
    assert said in error.message


def test_memory_of_a_gpu_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)

    with pytest.raises(ConfigError, match="GPU"):
        analyzer.check_shared_memory(Load(concurrency=1, shared_memory=SharedMemory.CUDA))


def test_settings_that_make_no_measurement_are_refused() -> None:
    with pytest.raises(ConfigError, match="three"):
        Settings(max_trials=2)
    with pytest.raises(ConfigError, match="percentile"):
        Settings(percentile=100)


def test_a_measurement_error_is_one_of_ours() -> None:
    assert issubclass(OverloadedError, MeasurementError)
