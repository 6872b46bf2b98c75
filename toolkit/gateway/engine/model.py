"""The engine's one model, and the file that keeps it over a restart of the gateway."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from toolkit.gateway.engine.loading import Wanted

_FILE = "engine.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A loaded model: its entry on Triton, its file, and what is known of it.

    ``asked_type`` is the type that the caller named, ``kind`` the one that was found.
    ``means`` are those of the columns in training, where the model has kept them. ``default``
    says that nobody asked for it: the settings named it. ``stamp`` tells one state of its
    file from another.
    """

    name: str
    version: int
    path: str
    root: str
    asked_type: str | None
    kind: str
    trusted: bool
    compiled: bool
    batched: bool = True
    feature_names: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    input_features: int | None = None
    output_shape: tuple[int, ...] = (1,)
    info: Mapping[str, Any] = field(default_factory=dict)
    default: bool = False
    stamp: str = ""

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read what ``asdict`` gave."""
        lists = ("feature_names", "means", "output_shape")
        return cls(**{**record, **{name: tuple(record[name]) for name in lists}})


def stamp(path: Path) -> str:
    """Return what changes with the content of a file; empty when there is none."""
    try:
        known = path.stat()
    except OSError:
        return ""
    return f"{known.st_size}-{known.st_mtime_ns}"


def made(wanted: Wanted, told: Mapping[str, Any], seconds: float, *, default: bool) -> Model:
    """Return the model that was loaded within ``seconds``, of which its process ``told``."""
    path = Path(wanted.path)
    named = ("input_features", "output_shape", "model_class", "hyperparameters", "num_trees")
    further = ("version", "feature_names", "class_names", "compiled", "road", "proven_rows")
    info = {
        "model_type": told["kind"],
        **{name: told[name] for name in named},
        "timestamp": datetime.now().isoformat(),  # noqa: DTZ005  as all of system 1's, local
        "feature_count": told["input_features"],
        "load_time_ms": round(seconds * 1e3, 3),
        "name": wanted.name,
        **{name: told[name] for name in (*further, "notes")},
    }
    return Model(
        name=wanted.name,
        version=told["version"],
        path=str(path),
        root=str(wanted.root),
        asked_type=wanted.model_type,
        kind=told["kind"],
        trusted=wanted.trusted,
        compiled=told["compiled"],
        batched=told["batched"],
        feature_names=tuple(told["feature_names"]),
        means=tuple(told["means"]),
        input_features=told["input_features"],
        output_shape=tuple(told["output_shape"]),
        info=info,
        default=default,
        stamp=stamp(path),
    )


class Kept:
    """The file that says which model is loaded; several gateways may share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._seen = ""

    def read(self) -> Model | None:
        """Return the model; None without one, and for a file that cannot be read."""
        self._seen = stamp(self._path)
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(self._path.read_text(encoding="utf-8"))
            return Model.from_json(record) if record else None
        return None

    def write(self, model: Model | None) -> None:
        """Keep ``model``, in one step. Raises ``OSError``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".{_FILE}.{os.getpid()}")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(asdict(model) if model else None, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        self._seen = stamp(self._path)

    def changed(self) -> bool:
        """Whether another process has written it since it was last read."""
        return stamp(self._path) != self._seen
