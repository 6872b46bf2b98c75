"""Serve the project's own set of models on the embedded Triton and verify every answer.

Each model is converted with its proof, written into a repository and deployed; what
``toolkit verify`` finds over HTTP and gRPC, one by one, batched and concurrent, counts.
"""

import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.conversion import stored
from benchmarks.models.case import Case
from benchmarks.server import deployed
from converters import ConversionOptions, convert
from toolkit import options, repository
from toolkit.errors import ToolkitError
from toolkit.runtime import install
from toolkit.verify import verify

_AT_ONCE = 20


def main(cases: Sequence[Case]) -> None:
    """Print one line a model, and at the end how many answered as proved."""
    install()
    counts: Counter[str] = Counter()
    for start in range(0, len(cases), _AT_ONCE):
        with tempfile.TemporaryDirectory(prefix="served-") as folder:
            for name, outcome in _outcomes(cases[start : start + _AT_ONCE], Path(folder)):
                counts[outcome.partition(":")[0]] += 1
                print(f"{name:<60} {outcome}", flush=True)
    print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))


def _outcomes(cases: Sequence[Case], folder: Path) -> Iterator[tuple[str, str]]:
    entries = {}
    for number, case in enumerate(cases):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{case.group}-{case.name}")[:100]
        workdir = folder / str(number)
        workdir.mkdir()
        try:
            model, sample = case.fit()
            wanted = ConversionOptions(name=name, sample=sample, trusted=True)
            path = stored(model, case, workdir)
            # So that it is found beside the file, as by who did not fit the model himself.
            sys.modules.pop("own_steps", None)
            artifact = convert(path, wanted, workdir)
            written = repository.write(
                folder / "repository", artifact, options.serving_config({}, artifact)
            )
            entries[f"{case.group} {case.name}"] = written.entry
        except ToolkitError as error:
            yield f"{case.group} {case.name}", f"refused: {error.message}"
        finally:
            sys.modules.pop("own_steps", None)
            shutil.rmtree(workdir, ignore_errors=True)
    if not entries:
        return
    with deployed(folder / "repository", list(entries.values())) as (server, results):
        failed = {result.name: result.error for result in results if result.error}
        for name, entry in entries.items():
            if entry.name in failed:
                yield name, f"not served: {failed[entry.name]}"
                continue
            replays = verify(entry, (server.http_url, server.grpc_url), rounds=1)
            wrong = [replay for replay in replays if not replay.passed]
            yield name, f"different: {wrong[0].first}" if wrong else "answers as proved"
