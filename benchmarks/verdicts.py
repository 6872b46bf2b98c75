"""How often the verdict of ``toolkit perf compare`` is right, on a real server.

A forest is compared with itself again and again: it must be called *no difference seen* at
least 95 times in 100. Then models that sleep 5 ms are compared with ones that sleep longer
by a known share. The measurements are as short as perf_analyzer takes them, so they are
noisier than those of the command's own defaults. The exit status is 1 when the first goal
is missed.

    python -m benchmarks.verdicts [--comparisons N] [--known N] [--rounds N]
"""

import argparse
import os
import platform
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import tuning_models
from benchmarks.server import serving
from perf import comparing, sides, target
from perf.analyzer import Settings
from perf.comparing import Comparison, Plan, Side
from perf.measurement import Load
from perf.sides import Asked
from perf.verdict import FEWEST_ROUNDS, Outcome
from toolkit.errors import ToolkitError

_GOAL = 0.95
_FOREST = "forest"
_KNOWN_PERCENT = (5, 10, 20)
_SLEEP_SECONDS = 0.005
_AT_FOREST, _AT_SLEEPER = Load(concurrency=8), Load(concurrency=1)
_FOREST_WINDOW_MS, _SLEEPER_WINDOW_MS = 50, 100

_CONFIG = """
backend: "python"
max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""

_SLEEPER = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            time.sleep(%r)
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return answers
"""


def main() -> None:
    """Run the comparisons and print what became of them."""
    arguments = _arguments()
    # Interrupted or terminated, the server is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            home = _repository(Path(folder))
            with serving(home):
                print(_machine(), end="\n\n", flush=True)
                right = _same(home, arguments.comparisons, arguments.rounds)
                _known(home, arguments.known, arguments.rounds)
    except KeyboardInterrupt:
        sys.exit(130)
    except ToolkitError as error:
        sys.exit(f"error: {error.message}\n  try: {error.hint or 'toolkit logs'}")
    sys.exit(not right)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=100, help="of equal sides [100]")
    parser.add_argument("--known", type=int, default=3, help="of each known difference [3]")
    parser.add_argument("--rounds", type=int, default=8, help="of each comparison [8]")
    arguments = parser.parse_args()
    if arguments.comparisons < 1 or arguments.known < 0 or arguments.rounds < FEWEST_ROUNDS:
        parser.error(f"at least 1 comparison, of {FEWEST_ROUNDS} rounds")
    return arguments


def _same(home: Path, count: int, rounds: int) -> bool:
    """Compare the forest with itself; return whether the goal is reached."""
    side = _side(home, _FOREST, _AT_FOREST, _FOREST_WINDOW_MS)
    found = list(_comparisons(side, side, count, rounds, "equal sides"))
    outcomes = Counter(one.outcome for one in found)
    good = outcomes[Outcome.NO_DIFFERENCE]
    print(f"equal sides, {count} comparisons of {rounds} rounds at {_AT_FOREST}:")
    print(f"  no difference seen  {good}")
    print(f"  faster or slower    {count - good}")
    print(f"  largest claim       {_largest(found)}")
    missed = median(one.ratio.unseen_percent for one in found)
    print(f"  could have missed   {missed:.1f} % (median)")
    reached = good >= _GOAL * count
    print(f"  goal, {_GOAL:.0%}           {'reached' if reached else 'missed'}\n", flush=True)
    return reached


def _known(home: Path, count: int, rounds: int) -> None:
    """Compare a sleeper with ones that sleep longer."""
    if not count:
        return
    quick = _side(home, _sleeper(0), _AT_SLEEPER, _SLEEPER_WINDOW_MS)
    print("a known difference:\n\n| sleeps longer by | called slower | figure, median | interval |")
    print("|---|---|---|---|")
    for percent in _KNOWN_PERCENT:
        slow = _side(home, _sleeper(percent), _AT_SLEEPER, _SLEEPER_WINDOW_MS)
        found = list(_comparisons(quick, slow, count, rounds, f"{percent} % longer"))
        called = sum(one.outcome is Outcome.SLOWER for one in found)
        middle, low, high = (
            100 * (median(getattr(one.ratio, name) for one in found) - 1)
            for name in ("value", "low", "high")
        )
        interval = f"{low:+.1f} to {high:+.1f} %"
        print(f"| {percent} % | {called} of {count} | {middle:+.1f} % | {interval} |", flush=True)


def _comparisons(
    first: Side, second: Side, count: int, rounds: int, what: str
) -> Iterator[Comparison]:
    began = time.monotonic()
    first.measure(), second.measure()  # The first of all is slow.
    for number in range(1, count + 1):
        plan = Plan(rounds=rounds, warm_up=0, seed=secrets.randbits(32))
        yield comparing.compare(first, second, plan, lambda _: None)
        seconds = time.monotonic() - began
        left = seconds / number * (count - number)
        _note(f"{what}: {number} of {count}, {left / 60:.1f} min left")


def _side(home: Path, model: str, load: Load, window_ms: int) -> Side:
    settings = Settings(measurement_interval_ms=window_ms, max_trials=3)
    measure = sides.measurer(load, settings)
    where = target.of_repository(home, model)
    asked = Asked(name=model, model=model)
    return Side(model, lambda: measure(where, asked))


def _largest(found: Sequence[Comparison]) -> str:
    """Say how large the largest difference is that was claimed."""
    distance: Callable[[Comparison], float] = lambda one: abs(one.ratio.value - 1)  # noqa: E731
    claims = [one for one in found if one.outcome is not Outcome.NO_DIFFERENCE]
    if not claims:
        return "none"
    return f"{100 * (max(claims, key=distance).ratio.value - 1):+.1f} %"


def _sleeper(percent: int) -> str:
    return f"sleeper_{percent}"


def _repository(folder: Path) -> Path:
    home = folder / "repository"
    _note("training and converting a forest")
    tuning_models.write(_FOREST, home, folder / "scratch")
    for percent in (0, *_KNOWN_PERCENT):
        version = home / _sleeper(percent) / "1"
        version.mkdir(parents=True)
        code = _SLEEPER % (_SLEEP_SECONDS * (1 + percent / 100))
        (version / "model.py").write_text(code, encoding="utf-8")
        (version.parent / "config.pbtxt").write_text(_CONFIG, encoding="utf-8")
    return home


def _machine() -> str:
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return (
        f"{cores} cores of {platform.machine()}, load average at the start {busy:.1f};"
        f" Python {platform.python_version()}; server and perf_analyzer on one machine"
    )


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
