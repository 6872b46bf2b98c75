"""The gateway beside the service people write by hand, and beside the Triton behind it.

One forest, one embedded Triton, one gateway process, one uvicorn process of FastAPI with ONNX
Runtime in three styles; wrk asks each in turn for one row, on one and on 32 connections. The
gateway keeps no answers (ENGINE_ENABLE_CACHE=0), so that each request is computed.

    python -m benchmarks.gateway [--rounds N] [--seconds N]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import http_load
from benchmarks.http_load import (
    Answer,
    Figures,
    Load,
    Rows,
    Service,
    check_answers,
    end,
    fail,
    measure,
    note,
    positive,
    require_wrk,
    speeds,
    wait_until_answers,
)
from benchmarks.server import free_ports, undisturbed
from benchmarks.serving import MODEL, fastapi, prepare, triton
from toolkit.errors import ToolkitError

_ALONE, _MANY = Load(1, 1, 1.0), Load(1, 32, 3.0)
_PLAIN, _V2 = "gateway, /predict/{model}", "gateway, /v2/…"
_GOAL_ADDED_MS, _GOAL_V2 = 0.6, 0.6


def main() -> None:
    """Run the benchmark and print the table."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    require_wrk()
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            machine = http_load.machine()  # before there is any load of ours
            model, rows, expected = prepare(folder)
            direct = stack.enter_context(triton(folder))
            services = [
                direct,
                *stack.enter_context(_gateway(direct, folder)),
                *stack.enter_context(fastapi(model)),
            ]
            for service in services:
                check_answers(service, rows[:1], (expected[0][:1], expected[1][:1]))
            figures = measure(
                services, (_ALONE, _MANY), (rows, folder), arguments.rounds, arguments.seconds
            )
    except KeyboardInterrupt:
        sys.exit(130)
    except ToolkitError as error:
        fail(error.message, error.hint or "toolkit logs")
    print(_report(figures, [service.name for service in services], machine, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=3, help="times each is measured [3]")
    parser.add_argument("--seconds", type=positive, default=3, help="of each measurement [3]")
    return parser.parse_args()


@contextmanager
def _gateway(direct: Service, folder: Path) -> Iterator[list[Service]]:
    """Serve with one gateway process before the Triton that ``direct`` asks."""
    note("starting the gateway")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    logs = folder / "logs"
    logs.mkdir()
    variables = {**os.environ, "ENGINE_ENABLE_CACHE": "0", "API_HOST": "127.0.0.1"}
    variables["LOG_DIRECTORY"] = str(logs)
    program = str(Path(sys.executable).with_name("toolkit"))
    command = [program, "gateway", "--port", str(port)]
    command += ["--triton-url", direct.url.partition("/v2/")[0]]
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    try:
        wait_until_answers(f"{url}/health", process)
        yield [
            Service(_PLAIN, f"{url}/predict/{MODEL}", _body, _answer),
            Service(_V2, f"{url}/v2/models/{MODEL}/infer", direct.body, direct.read),
        ]
    finally:
        undisturbed(lambda: end(process))


def _body(rows: Rows) -> str:
    return json.dumps({"features": rows.tolist()})


def _answer(answer: Any) -> Answer:
    labels = [label for (label,) in answer["predictions"]]
    return labels, answer["outputs"]["probabilities"]


def _report(
    figures: Figures, names: Sequence[str], machine: str, arguments: argparse.Namespace
) -> str:
    direct, _, _, *others = names
    lines = [
        "| | requests/s, 1 connection | p50 ms | requests/s, 32 connections |",
        "|---|---:|---:|---:|",
    ]
    for name in names:
        alone, many = figures[_ALONE, name], figures[_MANY, name]
        p50_ms = median(figure.p50_us for figure in alone) / 1e3
        lines.append(
            f"| {name} | {median(speeds(alone)):,.0f} | {p50_ms:.2f}"
            f" | {median(speeds(many)):,.0f} |"
        )
    fastest = max(others, key=lambda name: median(speeds(figures[_MANY, name])))
    times = _ratio(figures, _MANY, _PLAIN, fastest)
    v2 = _ratio(figures, _MANY, _V2, direct)
    pairs = zip(figures[_ALONE, _PLAIN], figures[_ALONE, direct], strict=True)
    added = median(mine.p50_us - other.p50_us for mine, other in pairs) / 1e3
    lines += [
        "",
        "| what | figure | goal | |",
        "|---|---:|---:|---|",
        _line("times the fastest FastAPI style, 32 connections", times, _MANY.goal, "≥"),
        _line("milliseconds added to the median, 1 connection", added, _GOAL_ADDED_MS, "≤"),
        _line("V2 through the gateway, share of Triton's own", v2, _GOAL_V2, "≥"),
        "",
        f"Medians of {arguments.rounds} rounds of {arguments.seconds} s; ratios within a round.",
        f"{machine}; wrk, Triton and the gateway share them.",
    ]
    return "\n".join(lines)


def _ratio(figures: Figures, load: Load, one: str, other: str) -> float:
    pairs = zip(speeds(figures[load, one]), speeds(figures[load, other]), strict=True)
    return median(mine / theirs for mine, theirs in pairs)


def _line(what: str, figure: float, goal: float, sign: str) -> str:
    reached = figure >= goal if sign == "≥" else figure <= goal
    return f"| {what} | {figure:.2f} | {sign} {goal:g} | {'reached' if reached else 'missed'} |"


if __name__ == "__main__":
    main()
