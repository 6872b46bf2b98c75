"""From a model file to a served entry: converted in a process of its own, then loaded."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import repository as repositories
from toolkit.errors import ConversionError, RepositoryError, ToolkitError
from toolkit.gateway.engine import live_config
from toolkit.gateway.engine.child import ASKED, TOLD
from toolkit.gateway.engine.live_config import Config, Control
from toolkit.gateway.exchange import Refused
from toolkit.spec import RepositoryEntry

MODEL_TYPES = ("sklearn", "xgboost", "lightgbm", "ensemble", "custom")
PREFIX = "engine_"
"""What the names of the engine's entries begin with: they are the engine's to remove."""

_SAMPLES = (".npy", ".npz", ".csv", ".parquet", ".jsonl", ".json")
_PICKLES = frozenset({".pkl", ".pickle", ".joblib"})
_LAST_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model to load: its file, and how. ``root`` is the folder its parts have to be in.

    ``compiled`` False serves the original itself, where it can serve; else the first of the
    converter's rungs that proves is taken, and the original is the last of them.
    """

    path: Path
    root: Path
    model_type: str | None = None
    compiled: bool | None = None
    sample: Path | None = None
    trusted: bool = False

    @property
    def name(self) -> str:
        """The name of its entry."""
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", self.path.name.split(".")[0])
        return f"{PREFIX}{stem or 'model'}"[:128]


async def publish(
    wanted: Wanted, repository: Path, config: Config, control: Control, limit_seconds: float
) -> dict[str, Any]:
    """Convert, prove and serve a model; return what is known of it.

    When it fails, the entry is on the disk and on Triton as it was. Raises ``ToolkitError``s.
    """
    before = await asyncio.to_thread(_Before.of, repository, wanted.name)
    asked = {
        "task": "convert",
        "path": str(wanted.path),
        "root": str(wanted.root),
        "model_type": wanted.model_type,
        "compile": wanted.compiled,
        "trusted": wanted.trusted,
        "sample": str(wanted.sample or _sample_beside(wanted.path) or "") or None,
        "name": wanted.name,
        "repository": str(repository),
        "threads": config.threads,
        "quantize": config.quantize,
        "serving": config.serving(),
    }
    try:
        told = await apart(asked, limit_seconds)
        entry = await asyncio.to_thread(repositories.find, repository, wanted.name)
        await asyncio.to_thread(live_config.serve, entry, control)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(before.restore, control))
        raise
    return told


async def remove(name: str, repository: Path | None, control: Control) -> None:
    """Serve the entry no more and take it off the disk, if it is one of the engine's."""
    await asyncio.to_thread(_remove, name, repository, control)


def _remove(name: str, repository: Path | None, control: Control) -> None:
    # First off the disk: a Triton that is started anew meanwhile must not find it.
    if repository is not None and name.startswith(PREFIX):
        shutil.rmtree(repository / name, ignore_errors=True)
    with control() as client:
        client.unload(name)


async def apart(asked: Mapping[str, Any], limit_seconds: float) -> dict[str, Any]:
    """Have ``asked`` done by a process of its own; return what it told.

    Raises ``ConversionError`` with its reason, or with the last line it wrote before it ended.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-engine-") as name:
        folder = Path(name)
        document = json.dumps({**asked, "parent": os.getpid()})
        (folder / ASKED).write_text(document, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a model's folder must not shadow a library
            "-m",
            "toolkit.gateway.engine.child",
            str(folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TMPDIR": name},
        )
        try:
            async with asyncio.timeout(limit_seconds):
                last = await _last_line(process)
                await process.wait()
        except TimeoutError:
            raise ConversionError(f"it took longer than {limit_seconds:g} s") from None
        finally:
            # What the process itself started ends with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return _told(folder / TOLD, process.returncode or 0, last)


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Read what the process writes, however much, and keep its end."""
    assert process.stderr is not None
    kept = b""
    while piece := await process.stderr.read(1 << 16):
        kept = (kept + piece)[-_LAST_BYTES:]
    lines = kept.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _told(path: Path, code: int, last: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        raise ConversionError(f"its process ended {how}{f': {last}' if last else ''}") from None
    if "error" in told:
        if told["kind"] == "untrusted":
            raise Refused(403, _UNTRUSTED.format(told["error"]))
        hint = _SAMPLE_HINT if told["kind"] == "sample" else told["hint"]
        raise ConversionError(told["error"], hint=hint)
    return told


_UNTRUSTED = "{}: start the gateway with ALLOW_PICKLE=1 if all files of MODEL_DIR are yours"
_SAMPLE_HINT = "name a file of rows in sample_path, or lay NAME.sample.csv beside the model"


def _sample_beside(path: Path) -> Path | None:
    """Return the file of rows that lies beside a model: ``churn.sample.csv`` for ``churn.pkl``."""
    stem = path.name.split(".")[0]
    near = (path.with_name(f"{stem}.sample{suffix}") for suffix in _SAMPLES)
    return next((sample for sample in near if sample.is_file()), None)


def require_allowed(path: Path, *, allow_pickle: bool) -> None:
    """Refuse with 403 a file that would run code when it is read, unless that is allowed."""
    if path.suffix.lower() in _PICKLES and not allow_pickle:
        what = f"{path.name} is a pickle, and loading it runs the code inside it"
        raise Refused(403, _UNTRUSTED.format(what))


@dataclass(frozen=True, slots=True)
class _Before:
    """An entry as it was before a model was written into it."""

    path: Path
    entry: RepositoryEntry | None
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, repository: Path, name: str) -> "_Before":
        path = repository / name
        try:
            entry = repositories.find(repository, name)
        except RepositoryError:
            return cls(path, None, {})
        near = [path / repositories.CONFIG, *(path / repositories.WARMUP).glob("*")]
        return cls(path, entry, {str(one): one.read_bytes() for one in near if one.is_file()})

    def restore(self, control: Control) -> None:
        """Take away what was written since, and what of it is served."""
        with suppress(OSError, ToolkitError):
            if self.entry is None:
                if self.path.exists():
                    _remove(self.path.name, self.path.parent, control)
                return
            shutil.rmtree(self.path / repositories.WARMUP, ignore_errors=True)
            (self.path / repositories.WARMUP).mkdir()
            for name, content in self.files.items():
                Path(name).write_bytes(content)
            now = repositories.find(self.path.parent, self.path.name)
            for version in set(now.versions) - set(self.entry.versions):
                shutil.rmtree(self.path / str(version), ignore_errors=True)
            live_config.serve(self.entry, control)
