"""The tuner beside an exhaustive grid, and beside a plain Triton, on four models.

For each model every configuration of a grid of more than two hundred is measured once at 32
callers over gRPC, and the tuner searches the same space with a tenth of the measurements. The
best five of the grid are measured again in turns, and the best of them that keeps the limit is
what the grid found. That one, the tuner's winner, the model as the toolkit writes it and as a
plain Triton would serve it (no dynamic batching) then take turns; only these last figures are
compared, for whatever was chosen by a noisy figure is flattered by it. The limit of the 99th
percentile is one and a half times that of the model as the toolkit writes it.

Journals go to --folder; run again with the same folder, it goes on where it ended.

    python -m benchmarks.tuning [--only forest,cnn] [--folder DIR] [--markdown]
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.server import serving
from benchmarks.tuning_models import MODELS, write
from perf import machine
from perf import space as spaces
from perf.analyzer import Settings
from perf.candidates import AS_SERVED, Candidate
from perf.goals import Goal
from perf.journal import Header, Journal, Point, begin
from perf.measurement import Load, Measurement
from perf.measuring import measure
from perf.served import ServedModel
from perf.target import Target, of_repository
from perf.trials import Trials, sweep
from perf.tuning import Search
from toolkit.errors import ToolkitError

_LOAD = Load(concurrency=32)
_QUICK = Settings(measurement_interval_ms=500, max_trials=3, stability_percentage=999)
_FINAL = Settings(measurement_interval_ms=600, max_trials=3, stability_percentage=999)
_FINALISTS, _SELECTING_TURNS, _COMPARING_TURNS = 5, 5, 9
_SLACK = 1.5
# Without an instance_group Triton runs two of an ONNX model on the processor.
_PLAIN = Candidate(dynamic_batching=False, instance_count=2)


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one model: speeds in inferences per second, medians of the last turns.

    The shares are medians of the ratios within each turn: the machine's own speed drifts.
    """

    model: str
    grid: int
    searched: int
    limit_ms: float
    best: float
    best_candidate: Candidate
    winner: float
    winner_p99_ms: float
    winner_candidate: Candidate
    as_written: float
    plain: float
    share_of_best: float
    times_plain: float


def main() -> None:
    """Run the benchmark and print the table."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="bench-tuning-") as scratch:
        folder = arguments.folder or Path(scratch) / "journals"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _served(Path(scratch), arguments.only) as home:
                rows = []
                for name in arguments.only:
                    rows.append(_compare(home, name, folder))
                    _note(_line(rows[-1]))
        except KeyboardInterrupt:
            sys.exit(130)
        except ToolkitError as error:
            sys.exit(f"error: {error.message}\n  try: {error.hint or 'toolkit logs'}")
    _report(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--folder", type=Path, help="where journals are kept [a temporary one]")
    return parser.parse_args()


@contextmanager
def _served(scratch: Path, names: Sequence[str]) -> Iterator[Path]:
    """Serve the models on an embedded Triton; stop it at the end."""
    home = scratch / "repository"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            _note(f"training and converting {name}")
            write(name, home, scratch / "models")
    with serving(home):
        yield home


def _compare(home: Path, name: str, folder: Path) -> Row:
    target = of_repository(home, name)
    quick = partial(measure, target, name, settings=_QUICK)
    final = partial(measure, target, name, settings=_FINAL)
    with ServedModel(target, name) as served:
        limit = _SLACK * median(final(_LOAD).p99_us for _ in range(3)) / 1e3
        goal = Goal(max_p99_ms=limit)
        space = spaces.usual(served.original, cores=machine.cores(), concurrency=[32])
        candidates = spaces.grid(space, served.original)

        def journal(what: str) -> Journal:
            header = Header(
                command=what, model=name, plan=space.to_json(), configuration=served.original,
                machine=machine.machine(), server=_about(target),
            )  # fmt: skip
            return begin(folder / f"{name}-{what}.jsonl", header)

        with journal("tune") as written:
            search = Search(
                space=space, loads=(_LOAD,), goal=goal, measurements=len(candidates) // 10
            )
            outcome = search.run(Trials(served, quick, written), _progress(name, "tuner"))
        with journal("sweep") as written:
            points = _grid(Trials(served, quick, written), candidates, _progress(name, "grid"))
        winner = outcome.winner.candidate
        tops = dict.fromkeys(p.candidate for p in sorted(points, key=goal.rank)[:_FINALISTS])
        best = _best(_in_turns(served, final, list(tops), _SELECTING_TURNS), limit)
        compared = list(dict.fromkeys([best, winner, AS_SERVED, _PLAIN]))
        finals = _in_turns(served, final, compared, _COMPARING_TURNS)
    return _row(name, limit, finals, (best, winner), (len(points), outcome.measurements))


def _grid(
    trials: Trials, candidates: Sequence[Candidate], told: Callable[[Point], None]
) -> list[Point]:
    points = []
    for point in sweep(trials, candidates, [_LOAD]):
        points.append(point)
        told(point)
    return points


Finals = dict[Candidate, list[Measurement]]


def _in_turns(
    served: ServedModel,
    final: Callable[[Load], Measurement],
    candidates: Sequence[Candidate],
    turns: int,
) -> Finals:
    measured: Finals = {candidate: [] for candidate in candidates}
    for turn in range(turns):
        for candidate in candidates if turn % 2 else candidates[::-1]:
            served.load(candidate)
            measured[candidate].append(final(_LOAD))
    return measured


def _best(finals: Finals, limit_ms: float) -> Candidate:
    keeping = [one for one in finals if _p99_ms(finals[one]) <= limit_ms]
    return max(keeping or finals, key=lambda one: median(_speeds(finals[one])))


def _speeds(measured: Sequence[Measurement]) -> list[float]:
    return [one.inferences_per_second for one in measured]


def _p99_ms(measured: Sequence[Measurement]) -> float:
    return median(one.p99_us for one in measured) / 1e3


def _row(
    name: str,
    limit: float,
    finals: Finals,
    found: tuple[Candidate, Candidate],
    counts: tuple[int, int],
) -> Row:
    best, winner = found

    def speed(candidate: Candidate) -> float:
        return median(_speeds(finals[candidate]))

    def times(candidate: Candidate) -> float:
        turns = zip(_speeds(finals[winner]), _speeds(finals[candidate]), strict=True)
        return median(mine / other for mine, other in turns)

    return Row(
        model=name,
        grid=counts[0],
        searched=counts[1],
        limit_ms=limit,
        best=speed(best),
        best_candidate=best,
        winner=speed(winner),
        winner_p99_ms=_p99_ms(finals[winner]),
        winner_candidate=winner,
        as_written=speed(AS_SERVED),
        plain=speed(_PLAIN),
        share_of_best=times(best),
        times_plain=times(_PLAIN),
    )


def _about(target: Target) -> dict[str, object]:
    with target.client() as client:
        return dict(machine.server(client))


def _progress(name: str, what: str) -> Callable[[Point], None]:
    began, count = time.monotonic(), 0

    def told(point: Point) -> None:
        nonlocal count
        count += 1
        if count % 10 == 0 or point.failure:
            _note(
                f"{name}, {what}: {count} in {time.monotonic() - began:.0f} s {point.failure or ''}"
            )

    return told


def _report(rows: Sequence[Row]) -> None:
    print(
        "| model | grid | tuner's measurements | best of the grid | tuner | share | limit p99"
        " | tuner's p99 | as the toolkit writes it | plain Triton | tuner / plain |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(_line(row))
    for row in rows:
        print(f"- {row.model}: best of the grid {row.best_candidate}; tuner {row.winner_candidate}")


def _line(row: Row) -> str:
    return (
        f"| {row.model} | {row.grid} | {row.searched} ({row.searched / row.grid:.0%})"
        f" | {row.best:,.0f} | {row.winner:,.0f} | **{row.share_of_best:.2f}**"
        f" | {row.limit_ms:.1f} ms | {row.winner_p99_ms:.1f} ms | {row.as_written:,.0f}"
        f" | {row.plain:,.0f} | **{row.times_plain:.2f}** |"
    )


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
