"""HTTP services under the load of wrk, in turns, and what they answer."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

_START_SECONDS = 60.0

Rows = NDArray[np.float64]
Answer = tuple[list[int], list[list[float]]]
"""Labels, and class probabilities, one a row."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many rows a request carries, on how many connections, and the ratio aimed at."""

    rows: int
    connections: int
    goal: float

    def __str__(self) -> str:
        return f"{_counted(self.rows, 'row')}, {_counted(self.connections, 'connection')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True)
class Service:
    """A way to serve the model: where it answers, how to ask it and read its answer."""

    name: str
    url: str
    body: Callable[[Rows], str]
    read: Callable[[Any], Answer]


class Figure(NamedTuple):
    """What wrk counted: requests per second, and the median latency in microseconds."""

    per_second: float
    p50_us: float


Figures = dict[tuple[Load, str], list[Figure]]
"""Of a service under a load, one figure a round."""


def speeds(figures: Sequence[Figure]) -> list[float]:
    """Return the requests per second of each round."""
    return [figure.per_second for figure in figures]


def require_wrk() -> None:
    """End with what to do where wrk is missing."""
    if shutil.which("wrk") is None:
        fail(
            "wrk, the load generator, is not installed",
            "apt-get install wrk    (Fedora: dnf install wrk)",
        )


def positive(text: str) -> int:
    """Return a whole number above 0 of the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def fail(what: str, mend: str) -> NoReturn:
    """End with one line of what, and one of what to do."""
    sys.exit(f"error: {what}\n  try: {mend}")


def note(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def check_answers(service: Service, rows: Rows, expected: Answer) -> None:
    """Compare the service's answer for all rows with the offline one, bit for bit."""
    request = urllib.request.Request(
        service.url, service.body(rows).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        label, probabilities = service.read(json.load(response))
    if label != expected[0] or not np.array_equal(probabilities, expected[1]):
        fail(f"{service.name} answers otherwise than the model offline", f"curl -i {service.url}")


def measure(
    services: Sequence[Service],
    loads: Sequence[Load],
    what: tuple[Rows, Path],
    rounds: int,
    seconds: int,
) -> Figures:
    """Load each service in turn, ``rounds`` times, the order turned round each time.

    ``what`` is the rows to send, and a folder for wrk's script.
    """
    rows, folder = what
    for load in loads:
        for service in services:
            wrk(service, load, rows, folder, 1)
    figures: Figures = {}
    for number in range(1, rounds + 1):
        for load in loads:
            for service in services if number % 2 else reversed(services):
                figure = wrk(service, load, rows, folder, seconds)
                figures.setdefault((load, service.name), []).append(figure)
                note(
                    f"round {number} of {rounds}, {load}: {service.name} {figure.per_second:,.0f}/s"
                )
    return figures


_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    e.status, e.connect + e.read + e.write + e.timeout, latency:percentile(50)))
end
"""


def wrk(service: Service, load: Load, rows: Rows, folder: Path, seconds: int) -> Figure:
    """Return what wrk counts; fail on any request that was not answered with a 200."""
    script = folder / "load.lua"
    script.write_text(_SCRIPT % service.body(rows[: load.rows]), encoding="utf-8")
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", f"-s{script}", service.url]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in result.stdout.splitlines() if line.startswith("RESULT ")), "")
    if result.returncode or not line:
        reason = result.stderr.strip() or f"wrk ended with {result.returncode}"
        fail(f"no figures for {service.name}: {reason}", "wrk --version")
    requests, microseconds, refused, broken, p50_us = map(int, line.split()[1:])
    if refused or broken or not requests:
        fail(
            f"{service.name}, {load}: of {requests} requests {refused} were answered with an"
            f" error and {broken} broke",
            f"ask it by hand: curl -i {service.url}",
        )
    return Figure(requests / microseconds * 1e6, p50_us)


def machine() -> str:
    """Describe the machine and the libraries that matter."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    names = ("onnxruntime", "fastapi", "uvicorn")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{cores} cores of {models[0] if models else platform.machine()}, load average at the start"
        f" {busy:.1f}; Python {platform.python_version()}, {versions}"
    )


def wait_until_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a service that was just started; end if it does not come up."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    fail(f"nothing answers at {url}", "look at what it printed above")


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, at last by force."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
