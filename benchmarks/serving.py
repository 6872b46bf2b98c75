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
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

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
from benchmarks.server import free_ports, serving, undisturbed
from toolkit.errors import ToolkitError

_TREES, _DEPTH, _FEATURES, _TRAINING_ROWS, _SEED = 100, 10, 28, 5000, 0
MODEL = "forest"
_THREADS = 1  # what the toolkit gives a tabular model; the other service gets the same
_LOADS = (Load(1, 1, 1.0), Load(1, 32, 5.0), Load(64, 4, 2.5))


_STYLES = {
    "async-declared": "FastAPI, async def, answer declared",
    "async-dict": "FastAPI, async def",
    "def-dict": "FastAPI, def",
}
"""Routes of the hand-written service, the fastest first, and their names in the table."""


def main() -> None:
    """Run the benchmark and print the table."""
    arguments = _arguments()
    # Interrupted or terminated, what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    require_wrk()
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            machine = http_load.machine()  # before there is any load of ours
            model, rows, expected = prepare(folder)
            services = [
                stack.enter_context(triton(folder)),
                *stack.enter_context(fastapi(model)),
            ]
            for service in services:
                check_answers(service, rows, expected)
            figures = measure(services, _LOADS, (rows, folder), arguments.rounds, arguments.seconds)
    except KeyboardInterrupt:
        sys.exit(130)
    except ToolkitError as error:
        fail(error.message, error.hint or "toolkit logs")
    print(_report(figures, [service.name for service in services], machine, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=3, help="times each is measured [3]")
    parser.add_argument("--seconds", type=positive, default=3, help="of each measurement [3]")
    parser.add_argument("--markdown", action="store_true", help="print for docs/benchmarks.md")
    return parser.parse_args()


def prepare(folder: Path) -> tuple[Path, Rows, Answer]:
    """Train, convert and write the model; return its file, rows and the offline answers."""
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    from converters import ConversionOptions, convert
    from converters.onnx_graph import session
    from toolkit import options, repository

    note(f"training and converting a forest of {_TREES} trees")
    x, y = make_classification(_TRAINING_ROWS, _FEATURES, n_informative=14, random_state=_SEED)
    rows = x[-max(load.rows for load in _LOADS) :].round(4)  # As short as clients send them.
    forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, random_state=_SEED, n_jobs=1)
    joblib.dump(forest.fit(x, y), folder / "forest.joblib")
    wanted = ConversionOptions(name=MODEL, sample=rows, trusted=True)
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
def triton(folder: Path) -> Iterator[Service]:
    """Serve on the embedded Triton."""
    note("starting the embedded Triton")
    with serving(folder / "repository") as server:
        name = f"embedded Triton {server.triton_version}"
        url = f"{server.http_url}/v2/models/{MODEL}/infer"
        yield Service(name, url, _v2_body, _v2_answer)


@contextmanager
def fastapi(model: Path) -> Iterator[list[Service]]:
    """Serve with uvicorn on its fastest loop and parser; stop it at the end."""
    note("starting FastAPI")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "fastapi_service:app", f"--port={port}"]
    command += [f"--app-dir={Path(__file__).parent}", "--loop=uvloop", "--http=httptools"]
    command += ["--log-level=warning", "--no-access-log"]
    variables = {**os.environ, "MODEL": str(model), "THREADS": str(_THREADS)}
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_answers(f"{url}/openapi.json", process)
        yield [
            Service(name, f"{url}/{route}", _plain_body, _plain_answer)
            for route, name in _STYLES.items()
        ]
    finally:
        undisturbed(lambda: end(process))


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


def _report(
    figures: Figures, names: Sequence[str], machine: str, arguments: argparse.Namespace
) -> str:
    table = [
        ("load", *names, "goal", "verdict"),
        *(_cells(load, [speeds(figures[load, name]) for name in names]) for load in _LOADS),
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
