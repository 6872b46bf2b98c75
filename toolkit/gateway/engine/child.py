"""What runs apart from the gateway: model files are opened, converted, proven, explained here.

A model may hang, print, eat memory or end its process, and none of that reaches the gateway.
``python -m toolkit.gateway.engine.child FOLDER`` reads ``FOLDER/asked.json`` and writes
``FOLDER/told.json``.
"""

import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.errors import SampleError, ToolkitError, UntrustedModelError

ASKED, TOLD = "asked.json", "told.json"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_LESS_URGENT = 5


def main() -> None:
    """Do what the folder asks for; a refusal is an answer too."""
    folder = Path(sys.argv[1])
    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    _give_way(asked["parent"])
    try:
        told = _TASKS[asked["task"]](asked)
    except ToolkitError as error:
        # What the command line advises is of no use to a caller over HTTP.
        hint = None if "--" in (error.hint or "") else error.hint
        told = {"error": error.message, "hint": hint, "kind": _kind(error)}
    except MemoryError:
        told = {"error": "there is not enough memory for it", "hint": None, "kind": ""}
    half = folder / f"{TOLD}.new"
    half.write_text(json.dumps(told), encoding="utf-8")
    half.replace(folder / TOLD)


def _kind(error: ToolkitError) -> str:
    if isinstance(error, UntrustedModelError):
        return "untrusted"
    return "sample" if isinstance(error, SampleError) else ""


def _give_way(parent: int) -> None:
    """Leave the processors to others, be the first to go without memory, end with the parent."""
    os.nice(_LESS_URGENT)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _convert(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Convert, prove and write an entry into the repository; return what is known of it."""
    from converters import ConversionOptions, convert
    from converters.quantize import TOLERANCES
    from converters.table import ladder
    from toolkit.gateway.engine import anatomy, artifacts
    from toolkit.repository import write
    from toolkit.samples import read_rows
    from toolkit.spec import Road

    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        opened = artifacts.opened(
            Path(asked["path"]),
            asked["model_type"],
            Path(asked["root"]),
            workdir,
            trusted=asked["trusted"],
        )
        roads = {entry.road for entry in ladder(opened.framework, None)}
        original = asked["compile"] is False and Road.PYTHON in roads
        tolerance = TOLERANCES.get(asked["quantize"], 1e-4)
        options = ConversionOptions(
            name=asked["name"],
            sample=read_rows(asked["sample"]) if asked["sample"] else None,
            road=Road.PYTHON if original else None,
            trusted=opened.trusted,
            framework=opened.framework if opened.framework == "predictor" else None,
            intra_op_thread_count=asked["threads"],
            atol=tolerance,
            rtol=tolerance,
            quantize=None if original else asked["quantize"],
            batch_size=asked["serving"]["max_batch_size"] or 1,
        )
        artifact, notes = _smallest(convert, opened.path, options, workdir)
        written = write(Path(asked["repository"]), artifact, _serving(asked, artifact))
        return {
            **anatomy.described(opened.model, artifact),
            "kind": opened.kind,
            "version": written.entry.versions[-1],
            "notes": [*notes, *artifact.notes],
        }


def _smallest(convert: Any, path: Path, options: Any, workdir: Path) -> tuple[Any, tuple[str, ...]]:
    """Convert, quantized where asked for and possible."""
    import dataclasses

    from toolkit.errors import ConversionError

    if options.quantize is None:
        return convert(path, options, workdir / "converted"), ()
    try:
        return convert(path, options, workdir / "quantized"), ()
    except ConversionError as error:
        exact = dataclasses.replace(options, quantize=None, atol=1e-4, rtol=1e-4)
        note = f"not quantized: {error.message}"
        return convert(path, exact, workdir / "converted"), (note,)


def _serving(asked: Mapping[str, Any], artifact: Any) -> Any:
    """Return how the entry is served: as asked for, where the model has room for it."""
    from toolkit import pbtxt
    from toolkit.options import serving_config

    flags = dict(asked["serving"])
    if "intra_op_thread_count" in pbtxt.thread_options(artifact.spec.backend):
        flags["intra_op_thread_count"] = asked["threads"]
    if not artifact.spec.batched:
        flags = {key: value for key, value in flags.items() if key == "intra_op_thread_count"}
    return serving_config(flags, artifact)


def _explain(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the exact contribution of each column to the answer to one row."""
    from toolkit.gateway.engine import artifacts, contributions

    with tempfile.TemporaryDirectory() as folder:
        opened = artifacts.opened(
            Path(asked["path"]),
            asked["model_type"],
            Path(asked["root"]),
            Path(folder),
            trusted=asked["trusted"],
        )
        return contributions.of(opened.model, asked["row"])


_TASKS = {"convert": _convert, "explain": _explain}


if __name__ == "__main__":
    main()
