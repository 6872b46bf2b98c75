"""Serve one forest in two ways and load both with wrk, side by side on this machine.

One is the embedded Triton over HTTP, set up by the toolkit with its defaults; the other
is the service people write by hand, ``fastapi_service.py``, in one uvicorn process, in
three styles. All get the same ONNX file, the same rows as JSON and as many threads for
the model, and answer labels and class probabilities. They take turns within each round,
so that whatever else the machine does falls on all of them. The goals are set against
the fastest style. The exit status says whether it ran, not who won.

    python -m benchmarks.serving [--rounds N] [--seconds N] [--markdown]
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from benchmarks.server import free_ports, serving, undisturbed
from toolkit.errors import ToolkitError

_TREES, _DEPTH, _FEATURES, _TRAINING_ROWS, _SEED = 100, 10, 28, 5000, 0
_MODEL = "forest"
_THREADS = 1  # what the toolkit gives a tabular model; the other service gets the same
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


_LOADS = (Load(1, 1, 1.0), Load(1, 32, 5.0), Load(64, 4, 2.5))


@dataclass(frozen=True, slots=True)
class Service:
    """A way to serve the model: where it answers, how to ask it and read its answer."""

    name: str
    url: str
    body: Callable[[Rows], str]
    read: Callable[[Any], Answer]


_STYLES = {
    "async-declared": "FastAPI, async def, answer declared",
    "async-dict": "FastAPI, async def",
    "def-dict": "FastAPI, def",
}
"""Routes of the hand-written service, the fastest first, and their names in the table."""

Figures = dict[tuple[Load, str], list[float]]
"""Requests per second under a load, of a service, one figure a round."""


def main() -> None:
    """Run the benchmark and print the table."""
    arguments = _arguments()
    # Interrupted or terminated, what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if shutil.which("wrk") is None:
        _fail(
            "wrk, the load generator, is not installed",
            "apt-get install wrk    (Fedora: dnf install wrk)",
        )
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            machine = _machine()  # before there is any load of ours
            model, rows, expected = _prepare(folder)
            services = [
                stack.enter_context(_triton(folder)),
                *stack.enter_context(_fastapi(model)),
            ]
            for service in services:
                _check_answers(service, rows, expected)
            figures = _measure(services, rows, folder, arguments.rounds, arguments.seconds)
    except KeyboardInterrupt:
        sys.exit(130)
    except ToolkitError as error:
        _fail(error.message, error.hint or "toolkit logs")
    print(_report(figures, [service.name for service in services], machine, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=_positive, default=3, help="times each is measured [3]")
    parser.add_argument("--seconds", type=_positive, default=3, help="of each measurement [3]")
    parser.add_argument("--markdown", action="store_true", help="print for docs/benchmarks.md")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _fail(what: str, mend: str) -> NoReturn:
    sys.exit(f"error: {what}\n  try: {mend}")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _prepare(folder: Path) -> tuple[Path, Rows, Answer]:
    """Train, convert and write the model; return its file, rows and the offline answers."""
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    from converters import ConversionOptions, convert
    from converters.onnx_graph import session
    from toolkit import options, repository

    _note(f"training and converting a forest of {_TREES} trees")
    x, y = make_classification(_TRAINING_ROWS, _FEATURES, n_informative=14, random_state=_SEED)
    rows = x[-max(load.rows for load in _LOADS) :].round(4)  # As short as clients send them.
    forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, random_state=_SEED, n_jobs=1)
    joblib.dump(forest.fit(x, y), folder / "forest.joblib")
    wanted = ConversionOptions(name=_MODEL, sample=rows, trusted=True)
    artifact = convert(folder / "forest.joblib", wanted, folder / "converted")
    serving = options.serving_config({}, artifact)
    assert serving.intra_op_thread_count == _THREADS
    entry = repository.write(folder / "repository", artifact, serving).entry
    model = entry.latest / "model.onnx"
    label, probabilities = session(model, _THREADS).run(
        ["label", "probabilities"], {artifact.spec.inputs[0].name: rows}
    )
    return model, rows, (label.tolist(), probabilities.tolist())


@contextmanager
def _triton(folder: Path) -> Iterator[Service]:
    """Serve on the embedded Triton."""
    _note("starting the embedded Triton")
    with serving(folder / "repository") as server:
        name = f"embedded Triton {server.triton_version}"
        url = f"{server.http_url}/v2/models/{_MODEL}/infer"
        yield Service(name, url, _v2_body, _v2_answer)


@contextmanager
def _fastapi(model: Path) -> Iterator[list[Service]]:
    """Serve with uvicorn on its fastest loop and parser; stop it at the end."""
    _note("starting FastAPI")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "fastapi_service:app", f"--port={port}"]
    command += [f"--app-dir={Path(__file__).parent}", "--loop=uvloop", "--http=httptools"]
    command += ["--log-level=warning", "--no-access-log"]
    variables = {**os.environ, "MODEL": str(model), "THREADS": str(_THREADS)}
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_answers(f"{url}/openapi.json", process)
        yield [
            Service(name, f"{url}/{route}", _plain_body, _plain_answer)
            for route, name in _STYLES.items()
        ]
    finally:
        undisturbed(lambda: _end(process))


def _wait_until_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    _fail("the FastAPI service did not start", "look at what it printed above")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _v2_body(rows: Rows) -> str:
    tensor = {"name": "input", "datatype": "FP64", "shape": rows.shape, "data": rows.tolist()}
    return json.dumps({"inputs": [tensor]})


def _v2_answer(answer: Any) -> Answer:
    outputs = {tensor["name"]: tensor for tensor in answer["outputs"]}
    probabilities = np.reshape(outputs["probabilities"]["data"], outputs["probabilities"]["shape"])
    return outputs["label"]["data"], probabilities.tolist()


def _plain_body(rows: Rows) -> str:
    return json.dumps({"inputs": rows.tolist()})


def _plain_answer(answer: Any) -> Answer:
    return answer["label"], answer["probabilities"]


def _check_answers(service: Service, rows: Rows, expected: Answer) -> None:
    """Compare the service's answer for all rows with the offline one, bit for bit."""
    request = urllib.request.Request(
        service.url, service.body(rows).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        label, probabilities = service.read(json.load(response))
    if label != expected[0] or not np.array_equal(probabilities, expected[1]):
        _fail(f"{service.name} answers otherwise than the model offline", f"curl -i {service.url}")


def _measure(
    services: Sequence[Service], rows: Rows, folder: Path, rounds: int, seconds: int
) -> Figures:
    """Load each service in turn, ``rounds`` times, the order turned round each time."""
    for load in _LOADS:
        for service in services:
            _wrk(service, load, rows, folder, 1)
    figures: Figures = {}
    for number in range(1, rounds + 1):
        for load in _LOADS:
            for service in services if number % 2 else reversed(services):
                figure = _wrk(service, load, rows, folder, seconds)
                figures.setdefault((load, service.name), []).append(figure)
                _note(f"round {number} of {rounds}, {load}: {service.name} {figure:,.0f}/s")
    return figures


_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


def _wrk(service: Service, load: Load, rows: Rows, folder: Path, seconds: int) -> float:
    """Return the requests per second; fail on any that was not answered with a 200."""
    script = folder / "load.lua"
    script.write_text(_SCRIPT % service.body(rows[: load.rows]), encoding="utf-8")
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", f"-s{script}", service.url]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in result.stdout.splitlines() if line.startswith("RESULT ")), "")
    if result.returncode or not line:
        reason = result.stderr.strip() or f"wrk ended with {result.returncode}"
        _fail(f"no figures for {service.name}: {reason}", "wrk --version")
    requests, microseconds, refused, broken = map(int, line.split()[1:])
    if refused or broken or not requests:
        _fail(
            f"{service.name}, {load}: of {requests} requests {refused} were answered with an"
            f" error and {broken} broke",
            f"ask it by hand: curl -i {service.url}",
        )
    return requests / microseconds * 1e6


def _machine() -> str:
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


def _report(
    figures: Figures, names: Sequence[str], machine: str, arguments: argparse.Namespace
) -> str:
    table = [
        ("load", *names, "goal", "verdict"),
        *(_cells(load, [figures[load, name] for name in names]) for load in _LOADS),
    ]
    about = (
        f"Requests per second, medians of {arguments.rounds} rounds of {arguments.seconds} s."
        " In brackets Triton's multiple of them: median, lowest and highest of the rounds."
        " The goal is a multiple of the fastest style.\n"
        f"Random forest of {_TREES} trees, at most {_DEPTH} deep, {_FEATURES} features,"
        f" {_TRAINING_ROWS:,} training rows; JSON over HTTP; {_THREADS} thread for the model in"
        " each; one uvicorn process with uvloop and httptools.\n"
        f"{machine}."
    )
    if arguments.markdown:
        lines = [f"| {' | '.join(row)} |" for row in table]
        lines.insert(1, "|---|" + "---:|" * (len(names) + 1) + "---|")
        return "\n\n".join(("\n".join(lines), *about.splitlines()))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join((*lines, "", about))


def _cells(load: Load, figures: Sequence[Sequence[float]]) -> tuple[str, ...]:
    triton, *others = figures
    multiples = [[a / b for a, b in zip(triton, other, strict=True)] for other in others]
    reached = min(map(median, multiples)) >= load.goal
    return (
        str(load),
        f"{median(triton):,.0f}",
        *(
            f"{median(other):,.0f} ({median(each):.2f}x, {min(each):.2f}-{max(each):.2f})"
            for other, each in zip(others, multiples, strict=True)
        ),
        f"≥ {load.goal:g}x",
        "reached" if reached else "missed",
    )


if __name__ == "__main__":
    main()
