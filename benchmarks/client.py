"""How fast and how steady the client is, beside raw tritonclient, on one embedded server.

Both take turns, so that whatever else the machine does falls on both. The server runs on
the same machine, with a model that does next to nothing: what is measured is the client.

    python -m benchmarks.client [--only latency many million threads tasks deadlines]
                                [--seconds N]
"""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from benchmarks import client_measures as measures
from benchmarks.client_measures import Line
from benchmarks.server import serving
from toolkit.deploy.state import Server
from toolkit.errors import ToolkitError

_MEASURES: dict[str, Callable[[Server, float], Iterator[Line]]] = {
    "latency": measures.latency,
    "many": measures.many,
    "million": measures.million,
    "threads": measures.threads,
    "tasks": measures.tasks,
    "deadlines": measures.deadlines,
}


def main() -> None:
    """Run what was asked for and print the table, a line as soon as it is known."""
    arguments = _arguments()
    # Interrupted or terminated, the server is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(_machine(), end="\n\n")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            _served(Path(folder)) as server,
        ):
            print("| what | figure | goal | verdict |\n|---|---|---|---|", flush=True)
            for name in arguments.only or _MEASURES:
                for line in _MEASURES[name](server, arguments.seconds):
                    print(_row(line), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except ToolkitError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint or 'toolkit logs'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=_MEASURES, help="measure these [all]")
    parser.add_argument("--seconds", type=float, default=60.0, help="of sustained load [60]")
    return parser.parse_args()


def _row(line: Line) -> str:
    verdict = {True: "reached", False: "missed", None: "-"}[line.reached]
    return f"| {line.what} | {line.figure} | {line.goal} | {verdict} |"


@contextmanager
def _served(folder: Path) -> Iterator[Server]:
    """Serve the model, stop the server at the end."""
    home = folder / "repository"
    shutil.copytree(Path(__file__).parent / "client_model", home / measures.MODEL)
    with serving(home) as server:
        yield server


def _machine() -> str:
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in ("tritonclient", "grpcio", "pycurl"))
    return (
        f"{cores} cores of {platform.machine()}, load average at the start {busy:.1f};"
        f" Python {platform.python_version()}, {versions}; server and callers on one machine"
    )


if __name__ == "__main__":
    main()
