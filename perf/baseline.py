"""A baseline: what a model did once, kept in a file to be held against it later."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from perf import writing
from perf.comparing import Metric
from perf.journal import now
from perf.measurement import Load, Measurement
from toolkit.errors import ConfigError
from toolkit.spec import RepositoryEntry

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Measurements of a model, and all that is needed to make them again.

    ``configuration`` is what was served, in Triton's JSON; ``files`` the hash of the
    version's folder, where it could be seen. ``settings`` are the options of perf_analyzer
    by their names, ``input_data`` what ``--input-data`` said, and its hash.
    """

    model: str
    version: str
    metric: Metric
    configuration: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    server: Mapping[str, Any]
    files: str | None = None
    input_data: tuple[str, str] | None = None
    recorded: str = field(default_factory=now)

    @property
    def load(self) -> Load:
        """The load under which it was measured."""
        return self.measurements[0].load

    def again(self, newest: str) -> Mapping[str, Any]:
        """Return the configuration that serves this version again, though ``newest`` is there."""
        if self.version == newest:
            return self.configuration
        policy = {"specific": {"versions": [int(self.version)]}}
        return {**self.configuration, "version_policy": policy}


def write(path: Path, baseline: Baseline) -> None:
    """Write the file whole or not at all."""
    record = {
        "format": _FORMAT,
        **asdict(baseline),
        "measurements": [one.to_json() for one in baseline.measurements],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    writing.write(path, (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode())


def read(path: Path) -> Baseline:
    """Read what ``write`` wrote; raise ``ConfigError`` for anything else."""
    again = f"toolkit perf gate MODEL --save {path}"
    try:
        return _parsed(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint=again) from None
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError,
    ) as error:  # fmt: skip
        raise ConfigError(
            f"{path} is no baseline of toolkit perf gate: {type(error).__name__}: {error}",
            hint=again,
        ) from error


def _parsed(record: dict[str, Any]) -> Baseline:
    if record.pop("format") != _FORMAT:
        raise ValueError("it is of another release")
    measured = tuple(Measurement.from_json(one) for one in record["measurements"])
    if not measured:
        raise ValueError("it has no measurements")
    given = record["input_data"]
    return Baseline(
        **{
            **record,
            "metric": Metric(record["metric"]),
            "measurements": measured,
            "input_data": None if given is None else (str(given[0]), str(given[1])),
        }
    )


def files_hash(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of a version's files."""
    total = sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        # Whoever runs model.py leaves its compiled form beside it.
        if "__pycache__" in file.parts:
            continue
        content = sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()}\n{content}\n".encode())
    return total.hexdigest()


def entry_hash(entry: RepositoryEntry | None, version: str) -> str | None:
    """Return the hash of a version of ``entry``; None where it is not here."""
    if entry is None or int(version) not in entry.versions:
        return None
    return files_hash(entry.path / version)


def why_not_again(baseline: Baseline, entry: RepositoryEntry | None) -> str | None:
    """Say why the baseline's model cannot be served again, or None if it can."""
    if entry is None:
        return "the model's files are not in a repository here"
    if baseline.files is None:
        return "its files could not be seen when it was recorded"
    found = entry_hash(entry, baseline.version)
    if found is None:
        return f"version {baseline.version} is not in the repository any more"
    if found != baseline.files:
        return f"the files of version {baseline.version} are others now"
    return None


def other_machine(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Say in what two machines differ that matters to a measurement, or None."""
    for name in ("processor", "cores"):
        if recorded.get(name) != here.get(name):
            return f"{name} {recorded.get(name)}, here {here.get(name)}"
    then, today = recorded.get("memory_gib"), here.get("memory_gib")
    # What the kernel keeps for itself differs from start to start.
    if not (then and today and abs(then - today) <= 0.05 * today):
        return f"{then} GiB of memory, here {today}"
    return None
