"""Convert the project's own set of models and print how many come out right.

Every model is fitted, stored, converted and judged in a process of its own, with a time
limit. The judge makes its own 2,000 rows and compares with the original itself: what the
project's own proof says does not count here.

    python -m benchmarks.conversion [--group GROUP] [--only NAME] [--road ROAD] [--json FILE]
    python -m benchmarks.conversion --served [--group GROUP] [--only NAME]
    python -m benchmarks.conversion --speed [--served]
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from benchmarks import hard_rows, judging
from benchmarks.models import case as models

_NAME = "model"
_PRELOADED = ["pandas", "sklearn.ensemble", "skl2onnx", "onnxruntime", "benchmarks.judging"]
_SEED = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What became of one case.

    ``status`` is right, wrong, refused (no road, told in ``reason``), unjudged (converted,
    but the judge could not ask), late (over the time limit) or broken (the case itself).
    """

    group: str
    name: str
    status: str
    road: str = ""
    rung: str = ""
    reason: str = ""
    passed_over: tuple[str, ...] = ()
    worst: float = 0.0
    wrong_rows: int = 0
    wrong_kinds: dict[str, int] = dataclasses.field(default_factory=dict)
    rows: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How the cases are run."""

    road: str | None
    limit: float
    together: int


def main() -> None:
    """Run the cases and print the table."""
    arguments = _arguments()
    # Read by the libraries when they are first imported, here and in every child.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if arguments.speed:
        from benchmarks import conversion_speed, conversion_speed_served

        measure = conversion_speed_served if arguments.served else conversion_speed
        measure.main(arguments.only)
        return
    groups = arguments.group or list(models.GROUPS)
    chosen = list(_chosen(groups, arguments.only))
    if not chosen:
        names = ", ".join(case.name for case in _chosen(groups, None))
        sys.exit(f"error: no case of that name; there are:\n  {names}")
    if arguments.served:
        from benchmarks import conversion_served

        conversion_served.main(chosen)
        return
    settings = Settings(arguments.road, arguments.limit, arguments.together)
    results = []
    for result in _run(chosen, settings, arguments.jobs):
        print(_line(result), flush=True)
        results.append(result)
        if arguments.json:
            document = [dataclasses.asdict(done) for done in results]
            arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\n" + table(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--group", action="append", choices=list(models.GROUPS))
    parser.add_argument("--only", action="append", help="a case, by its name or its beginning")
    parser.add_argument("--road", choices=["onnx", "python"], help="this road or none")
    parser.add_argument("--jobs", type=int, choices=[1, 2], default=2, help="at once [2]")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for a case [120]")
    parser.add_argument(
        "--together", type=int, default=1, help="cases that share a process, which is faster [1]"
    )
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--served", action="store_true", help="verify all on the embedded Triton")
    parser.add_argument("--speed", action="store_true", help="measure microseconds a row instead")
    return parser.parse_args()


def _chosen(groups: Sequence[str], only: Sequence[str] | None) -> Iterator[models.Case]:
    for group in groups:
        found = list(models.cases(group))
        exact = {case.name for case in found} & set(only or ())
        for case in found:
            wanted = case.name in exact or case.name.startswith(tuple(set(only or ()) - exact))
            if not only or wanted:
                yield case


def _run(chosen: Sequence[models.Case], settings: Settings, jobs: int) -> Iterator[Result]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    batches = [
        chosen[start : start + settings.together]
        for start in range(0, len(chosen), settings.together)
    ]
    with tempfile.TemporaryDirectory(prefix="set-") as kept, ThreadPoolExecutor(jobs) as pool:
        folders = [Path(kept) / str(number) for number in range(len(batches))]
        for results in pool.map(
            lambda batch, folder: _in_children(context, batch, settings, folder), batches, folders
        ):
            yield from results


def _in_children(
    context: ForkServerContext, batch: Sequence[models.Case], settings: Settings, folder: Path
) -> list[Result]:
    """Run cases one after another in a process, in a new one after one that did not end well."""
    folder.mkdir()
    results: list[Result] = []
    while len(results) < len(batch):
        names = [(case.group, case.name) for case in batch[len(results) :]]
        process = context.Process(target=_child, args=(names, settings, folder))
        process.start()
        for group, name in names:
            results.append(_awaited(process, group, name, settings, folder))
            if results[-1].status in {"late", "broken"}:
                break
        _end(process.pid or 0)
        process.join()
    shutil.rmtree(folder, ignore_errors=True)
    return results


def _awaited(
    process: BaseProcess, group: str, name: str, settings: Settings, folder: Path
) -> Result:
    """Wait for the result of one case, at most as long as its limit."""
    answer = folder / f"{name.replace('/', '_')}.json"
    started = time.monotonic()
    while not answer.exists():
        if time.monotonic() - started > settings.limit:
            reason = f"not done within {settings.limit:g} s"
            return Result(group, name, "late", reason=reason, seconds=settings.limit)
        if not process.is_alive() and not answer.exists():
            reason = f"the process died with exit code {process.exitcode}: {_tail(folder)}"
            return Result(group, name, "broken", reason=reason)
        process.join(0.05)
    found = json.loads(answer.read_text(encoding="utf-8"))
    seconds = round(time.monotonic() - started, 1)
    return Result(**found | {"passed_over": tuple(found["passed_over"]), "seconds": seconds})


def _end(pid: int) -> None:
    """End a child and whatever it started, sessions of their own included."""
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(pid)
        for process in [*child.children(recursive=True), child]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _tail(folder: Path) -> str:
    log = folder / "log"
    text = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
    return text.splitlines()[-1] if text else "no word"


def _child(names: Sequence[tuple[str, str]], settings: Settings, folder: Path) -> None:
    with (folder / "log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    warnings.simplefilter("ignore")
    for number, (group, name) in enumerate(names):
        own = folder / f"{number}-of-{len(names)}"
        own.mkdir()
        try:
            result = judged(models.find(group, name), settings, own)
        except Exception as error:  # noqa: BLE001 - a case that does not even fit is reported.
            reason = f"{type(error).__name__}: {_first(error)}"
            result = Result(group, name, "broken", reason=reason)
        part = own / "result"
        part.write_text(json.dumps(dataclasses.asdict(result)), encoding="utf-8")
        part.rename(folder / f"{name.replace('/', '_')}.json")
        shutil.rmtree(own, ignore_errors=True)
    os._exit(0)  # Threads of the libraries do not always let the interpreter end.


def judged(case: models.Case, settings: Settings, folder: Path) -> Result:
    """Fit, store and convert one case below ``folder``, and judge what comes out."""
    from converters.conversion import convert
    from converters.options import ConversionOptions
    from toolkit.errors import ToolkitError
    from toolkit.spec import Road

    model, sample = case.fit()
    path = stored(model, case, folder)
    options = ConversionOptions(
        name=_NAME,
        sample=sample,
        trusted=True,
        road=Road(settings.road) if settings.road else None,
        time_limit=settings.limit / 3,  # of one rung; the others need theirs
    )
    nothing = Result(case.group, case.name, "refused")
    try:
        artifact = convert(path, options, folder / "work")
    except ToolkitError as error:
        return dataclasses.replace(nothing, reason=error.message)
    except Exception as error:  # noqa: BLE001 - a converter that crashes is counted as well.
        reason = f"crashed: {type(error).__name__}: {_first(error)}"
        return dataclasses.replace(nothing, reason=reason)
    converted = dataclasses.replace(
        nothing,
        road=artifact.road.value,
        rung=artifact.rung,
        passed_over=tuple(artifact.refused),
    )
    try:
        return _verdict(converted, model, sample, artifact)
    except LookupError as error:
        return dataclasses.replace(converted, status="unjudged", reason=_first(error))


def _verdict(converted: Result, model: Any, sample: models.Sample, artifact: Any) -> Result:
    rows, kinds = hard_rows.make(model, sample, judging.ROWS, _SEED)
    native = judging.ask(model, rows, tuple(output.name for output in artifact.spec.outputs))
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    try:
        given = answers(artifact, rows)
    except Exception as error:  # noqa: BLE001 - it runs on no row the original takes: wrong.
        reason = f"fails on rows the original answers: {_first(error)}"
        return dataclasses.replace(
            converted, status="wrong", reason=reason, rows=counts, wrong_rows=len(kinds)
        )
    found = judging.compare(native, given, kinds)
    return dataclasses.replace(
        converted,
        status="right" if found.right else "wrong",
        reason=found.where,
        worst=found.worst,
        wrong_rows=found.wrong,
        wrong_kinds=dict(found.kinds),
        rows=counts,
    )


def stored(model: Any, case: models.Case, folder: Path) -> Path:
    """Store the model as its author would, with the module of his own steps beside it."""
    import joblib

    path = folder / f"stored{case.suffix}"
    if case.suffix == ".joblib":
        joblib.dump(model, path)
    else:
        model.save_model(str(path))
    if "own_steps" in sys.modules:
        shutil.copy(str(sys.modules["own_steps"].__file__), folder / "own_steps.py")
    return path


def answers(artifact: Any, rows: models.Sample) -> dict[str, models.Array]:
    """Return the artifact's answers, run without a server on one thread.

    The rows are sent in one batch, and a few of them alone as well: those answers count.
    """
    import numpy as np

    from converters import offline

    spec = artifact.spec
    folder = next(iter(artifact.files.values())).parent
    run = offline.open_runner(spec, folder, 1)
    inputs = _sent(rows, spec.inputs)
    count = judging.rows_of(rows)
    if not spec.batched:
        return offline.run_rows(spec, run, inputs, count)
    together = {name: np.array(value) for name, value in run(inputs).items()}
    for row in range(0, count, max(1, count // 20)):
        alone = run({name: array[row : row + 1] for name, array in inputs.items()})
        for name, value in alone.items():
            together[name][row] = value[0]
    return together


def _sent(rows: models.Sample, inputs: Sequence[Any]) -> dict[str, models.Array]:
    """Cast the rows to the declared data types; names decide where there are several inputs."""
    import numpy as np

    given = rows if isinstance(rows, dict) else {inputs[0].name: rows}
    if isinstance(rows, dict) and len(inputs) == 1 and len(given) > 1:
        given = {inputs[0].name: np.column_stack(list(rows.values()))}
    elif len(given) == 1:
        given = {inputs[0].name: next(iter(given.values()))}
    sent = {}
    for tensor in inputs:
        array = _sendable(given[tensor.name])
        dims = tensor.dims if -1 not in tensor.dims else array.shape[1:]
        with np.errstate(all="ignore"):
            sent[tensor.name] = array.astype(tensor.dtype.numpy_name).reshape(len(array), *dims)
    return sent


def _sendable(array: models.Array) -> models.Array:
    """Return the array with the empty text in place of missing ones, which cannot be sent."""
    if array.dtype != object:
        return array
    sendable = array.copy()
    sendable[judging.missing(array)] = ""
    return sendable


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def _line(result: Result) -> str:
    rung = f"{result.road} {result.rung}" if result.rung != result.road else result.road
    about = result.reason if result.status != "right" else f"worst {result.worst:.2g}"
    if result.wrong_rows:
        about = f"{result.wrong_rows} rows {result.wrong_kinds}; {about}"
    text = f"{result.group:9} {result.name:40} {rung:14} {result.status:8} {about}"
    return text[:300]


def table(results: Sequence[Result]) -> str:
    """Return the coverage table."""
    lines = [
        "| set | models | right as ONNX | deployed and right, any road | silently different |",
        "|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(result.group for result in results):
        own = [result for result in results if result.group == group]
        right = [result for result in own if result.status == "right"]
        wrong = sum(result.status == "wrong" for result in own)
        onnx = sum(result.road == "onnx" for result in right)
        lines.append(f"| {group} | {len(own)} | {onnx} | {len(right)} | {wrong} |")
    others = [result for result in results if result.status not in {"right", "wrong"}]
    lines += [f"{r.group} {r.name}: {r.status}: {r.reason}"[:240] for r in others]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
