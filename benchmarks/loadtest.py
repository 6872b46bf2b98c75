"""Lay our load generator beside wrk and perf_analyzer, on one embedded Triton.

All send the same row as JSON over HTTP to the same server and take turns within each
round, the order turned round each time, so that whatever else the machine does falls on
all of them. Generator and server share the cores: tools can only agree where the server,
and not the generator, sets the pace. So two models of one instance are judged, that wait
or compute 4 ms for each batch of up to 8. The forest, which answers in microseconds, is
shown beside them: there each processor second of the generator is one the server lacks.

    python -m benchmarks.loadtest [--rounds N] [--seconds N]
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.server import free_ports, serving
from perf import bounded
from perf.analyzer import Program, find
from perf.analyzer_output import figures as read_figures
from perf.loadtest.arrivals import Stage
from perf.loadtest.plan import Plan
from perf.loadtest.request import build_requests, parse_url
from perf.loadtest.run import run
from perf.measurement import Load as AnalyzerLoad
from toolkit.deploy.state import Server
from toolkit.errors import ToolkitError

_THROUGHPUT_GOAL, _P99_GOAL, _CAPACITY_GOAL = 0.05, 0.10, 10_000
_FEATURES, _TREES, _DEPTH, _TRAINING_ROWS = 28, 100, 10, 5000
_MEMORY_BYTES = 2 * 2**30
_WARMUP_SECONDS = 0.5

_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "input" data_type: TYPE_%s dims: [ 28 ] }
output { name: "sum" data_type: TYPE_%s dims: [ 1 ] reshape { shape: [] } }
instance_group { kind: KIND_CPU count: 1 }
dynamic_batching { }
"""

_MODEL = """
import time

import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        %s
        rows = [pb_utils.get_input_tensor_by_name(one, "input").as_numpy() for one in requests]
        sums = [pb_utils.Tensor("sum", each.sum(axis=1)) for each in rows]
        return [pb_utils.InferenceResponse([tensor]) for tensor in sums]
"""

_DOES = {
    "waiting": "time.sleep(0.004)",
    "computing": "end = time.perf_counter() + 0.004\n        while time.perf_counter() < end: pass",
}

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"""

_TRIVIAL_SERVER = """
import asyncio, sys, uvloop

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()

uvloop.run(main())
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a model: so many callers, or so many requests a second."""

    model: str
    concurrency: int | None = None
    rate: float | None = None
    judged: bool = True

    def __str__(self) -> str:
        asked = (
            f"{self.concurrency} connections" if self.rate is None else f"{self.rate:,.0f}/s asked"
        )
        return f"{self.model}, {asked}"


_LOADS = (
    Load("waiting", concurrency=32),
    Load("computing", concurrency=16),
    Load("forest", concurrency=32, judged=False),
    Load("waiting", rate=400),
    Load("computing", rate=100),
    Load("forest", rate=500, judged=False),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What a tool says of a load."""

    requests_per_second: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.requests_per_second:,.0f}/s, p99 {self.p99_ms:.2f} ms"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tools find the server, and what they need."""

    server: Server
    folder: Path
    analyzer: Program
    row: Sequence[float]
    dtype: str

    def url(self, load: Load) -> str:
        """Where a load is sent."""
        return f"{self.server.http_url}/v2/models/{load.model}/infer"

    @property
    def body(self) -> str:
        """The request that our generator and wrk send; perf_analyzer makes the same."""
        tensor = {"name": "input", "datatype": self.dtype, "shape": [1, len(self.row)]}
        return json.dumps({"inputs": [{**tensor, "data": [*self.row]}]})


def main() -> None:
    """Run the benchmark and print the tables."""
    arguments = _arguments()
    # Interrupted or terminated, what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is not installed\n  try: apt-get install wrk")
    machine = _machine()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as name, _served(Path(name)) as place:
            capacity = _capacity(Path(name), arguments.seconds)
            measured = _measure(place, arguments.rounds, arguments.seconds)
    except KeyboardInterrupt:
        sys.exit(130)
    except ToolkitError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint or 'toolkit logs'}")
    head = (
        "load",
        "tool",
        "requests/s",
        "p99 ms",
        "throughput ours/its",
        "p99 ours/its",
        "verdict",
    )
    for row in (head, ("---",) * len(head), *_lines(measured)):
        print(f"| {' | '.join(row)} |")
    print(
        f"\nCapacity of one process against a server that does nothing, 32 connections:"
        f" {capacity[0]:,.0f}/s (goal {_CAPACITY_GOAL:,}/s,"
        f" {'reached' if capacity[0] >= _CAPACITY_GOAL else 'missed'}); wrk with one thread"
        f" {capacity[1]:,.0f}/s.\n"
        f"Medians of {arguments.rounds} rounds of {arguments.seconds} s; the ratios are medians"
        f" of those of each round. Goals: throughput within {_THROUGHPUT_GOAL:.0%}, p99 within"
        f" {_P99_GOAL:.0%}. wrk adds to its latencies those it thinks it left out.\n{machine}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="times each is measured [5]")
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement [6]")
    return parser.parse_args()


@contextmanager
def _served(folder: Path) -> Iterator[Place]:
    """Serve all models; stop the server at the end."""
    home = folder / "repository"
    row, dtype = _write_forest(folder, home)
    for name, does in _DOES.items():
        (home / name / "1").mkdir(parents=True)
        (home / name / "config.pbtxt").write_text(_CONFIG % (dtype, dtype), encoding="utf-8")
        (home / name / "1" / "model.py").write_text(_MODEL % does, encoding="utf-8")
    with serving(home) as server:
        yield Place(server, folder, find(), row, dtype)


def _write_forest(folder: Path, home: Path) -> tuple[list[float], str]:
    """Train, convert and write the forest; return a row for it, and its data type."""
    import joblib
    import numpy as np
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    from converters import ConversionOptions, convert
    from toolkit import options, repository

    x, y = make_classification(_TRAINING_ROWS, _FEATURES, n_informative=14, random_state=0)
    forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, random_state=0, n_jobs=1)
    joblib.dump(forest.fit(x, y), folder / "forest.joblib")
    wanted = ConversionOptions(name="forest", sample=x[:64].astype(np.float32), trusted=True)
    artifact = convert(folder / "forest.joblib", wanted, folder / "converted")
    repository.write(home, artifact, options.serving_config({}, artifact))
    return [float(str(value)) for value in x[0].astype(np.float32)], artifact.spec.inputs[
        0
    ].dtype.value


Tool = Callable[[Place, Load, int], Figure]
Measured = dict[tuple[Load, str], list[Figure]]


def _measure(place: Place, rounds: int, seconds: int) -> Measured:
    measured: Measured = {}
    for number in range(1, rounds + 1):
        for load in _LOADS:
            tools = list(_tools(load).items())
            for name, tool in tools if number % 2 else reversed(tools):
                figure = tool(place, load, seconds)
                measured.setdefault((load, name), []).append(figure)
                print(f"round {number} of {rounds}, {load}: {name} {figure}", file=sys.stderr)
    return measured


def _tools(load: Load) -> dict[str, Tool]:
    wrk: dict[str, Tool] = {"wrk": _wrk} if load.rate is None else {}  # It knows no rate.
    return {"toolkit": _ours, **wrk, "perf_analyzer": _analyzer}


def _ours(place: Place, load: Load, seconds: int) -> Figure:
    return _own(place.url(load), place.body, load, seconds)


def _own(url: str, body: str, load: Load, seconds: int) -> Figure:
    target = parse_url(url)
    plan = Plan(
        target,
        "",
        build_requests(target, "POST", (), [body.encode()]),
        (Stage(seconds, load.rate, load.rate),) if load.rate else (),
        concurrency=load.concurrency,
        duration_seconds=seconds,
        warmup_seconds=_WARMUP_SECONDS,
    )
    result = run(plan)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.from_schedule is None or result.total.failures:
        raise ToolkitError(f"{load}: requests failed: {result.total.examples}")
    return Figure(result.reached_per_second, result.from_schedule.percentiles_ms["p99"])


def _wrk(place: Place, load: Load, seconds: int) -> Figure:
    script = place.folder / "load.lua"
    script.write_text(_SCRIPT % place.body, encoding="utf-8")
    return _run_wrk(place.url(load), script, load.concurrency or 1, seconds)


def _run_wrk(url: str, script: Path, connections: int, seconds: int) -> Figure:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"-s{script}", url]
    ended = bounded.run(command, seconds=seconds + 30, memory_bytes=_MEMORY_BYTES)
    line = next((line for line in ended.out.splitlines() if line.startswith("RESULT ")), "")
    if not line:
        raise ToolkitError(f"wrk gave no figures: {ended.err.strip() or ended.out.strip()}")
    requests, microseconds, p99, broken = map(int, line.split()[1:])
    if broken or not requests:
        raise ToolkitError(f"wrk: {broken} of {requests} requests failed")
    return Figure(requests / microseconds * 1e6, p99 / 1e3)


def _analyzer(place: Place, load: Load, seconds: int) -> Figure:
    """Run perf_analyzer: it joins three windows, whatever they are worth (-s 999).

    With JSON bodies release 2.51 corrupts its memory at more than one row a request.
    """
    report, rows = place.folder / "report.csv", place.folder / "rows.json"
    report.unlink(missing_ok=True)
    one = {"input": {"content": [*place.row], "shape": [len(place.row)]}}
    rows.write_text(json.dumps({"data": [one]}), encoding="utf-8")
    address = place.server.http_url.removeprefix("http://")
    command = [str(place.analyzer.path), "-m", load.model, "-u", address, "-i", "http", "--async"]
    command += ["--input-tensor-format", "json", "--output-tensor-format", "json"]
    command += ["--input-data", str(rows), "-v", "-f", str(report)]
    command += ["-p", str(seconds * 1000 // 3), "-r", "3", "-s", "999", "--verbose-csv"]
    if load.rate is None:
        command += ["--concurrency-range", str(load.concurrency)]
    else:  # One thread: its own choice of four reaches three quarters of such a rate.
        command += ["--request-rate-range", f"{load.rate:g}", "--max-threads", "1"]
    ended = bounded.run(
        command,
        environment=place.analyzer.environment,
        seconds=seconds + 30,
        memory_bytes=_MEMORY_BYTES,
    )
    if ended.code or not report.is_file():
        raise ToolkitError(f"perf_analyzer gave no figures at {load}: {ended.err or ended.out}")
    text = report.read_text(encoding="utf-8")
    found = read_figures(text, ended.out, AnalyzerLoad(concurrency=1))
    return Figure(found.inferences_per_second, found.p99_us / 1e3)


def _capacity(folder: Path, seconds: int) -> tuple[float, float]:
    """Return requests a second of one process, and of wrk, to a server that does nothing."""
    (port,) = free_ports(1)
    script = folder / "get.lua"
    script.write_text(_SCRIPT % "{}", encoding="utf-8")
    url = f"http://127.0.0.1:{port}/"
    load = Load("nothing", concurrency=32)
    server = subprocess.Popen(
        [sys.executable, "-c", _TRIVIAL_SERVER, str(port)], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()
        time.sleep(0.2)
        ours = _own(url, "{}", load, seconds).requests_per_second
        return ours, _run_wrk(url, script, 32, seconds).requests_per_second
    finally:
        server.kill()
        server.communicate()


def _lines(measured: Measured) -> Iterator[tuple[str, ...]]:
    for (load, tool), figures in measured.items():
        throughput = median(one.requests_per_second for one in figures)
        p99 = median(one.p99_ms for one in figures)
        row = (str(load), tool, f"{throughput:,.1f}", f"{p99:.2f}")
        if tool == "toolkit":
            yield (*row, "", "", "")
            continue
        ours = measured[load, "toolkit"]
        pairs = list(zip(ours, figures, strict=True))
        fast = median(a.requests_per_second / b.requests_per_second for a, b in pairs)
        late = median(a.p99_ms / b.p99_ms for a, b in pairs)
        agrees = abs(fast - 1) <= _THROUGHPUT_GOAL and abs(late - 1) <= _P99_GOAL
        verdict = ("agrees" if agrees else "differs") if load.judged else "not judged"
        yield (*row, f"{fast:.3f}", f"{late:.3f}", verdict)


def _machine() -> str:
    return (
        f"{len(os.sched_getaffinity(0))} cores of {platform.machine()} for server and generator,"
        f" load average at the start {os.getloadavg()[0]:.1f}; Python"
        f" {platform.python_version()}, uvloop {version('uvloop')}."
    )


if __name__ == "__main__":
    main()
