"""Model folders: which YAML files describe a model, and what each says of it.

Every ``.yaml`` and ``.yml`` file with a ``model:`` mapping describes one model. Nothing
outside the folder is read, links and ``..`` included; hidden files and folders are left alone.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import model_yaml
from toolkit.errors import ConfigError
from toolkit.model_yaml import FolderModel, is_inside

_USUAL_NAME = "model_config.yaml"
_SUFFIXES = frozenset({".yaml", ".yml"})
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """The models of a folder, the files that are refused and why, and those of another kind."""

    models: tuple[FolderModel, ...]
    refused: tuple[tuple[Path, ConfigError], ...]
    skipped: tuple[Path, ...]


def read(folder: Path) -> Reading:
    """Read every model configuration below ``folder``, in the order of their paths.

    A file that is refused harms no other. Raises ``ConfigError`` if there is no such folder, or
    no configuration in it.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is no folder of models",
            hint=f"put each model in a folder of its own there, with its {_USUAL_NAME}",
        )
    models: list[FolderModel] = []
    refused: list[tuple[Path, ConfigError]] = []
    skipped: list[Path] = []
    for path in _walk(folder):
        try:
            model = _read_file(path, folder)
        except ConfigError as error:
            refused.append((path, error))
            continue
        if model is None:
            skipped.append(path)
        else:
            models.append(model)
    if not models and not refused:
        raise ConfigError(
            f"{folder} holds no model configuration (a YAML file with a 'model:' mapping)",
            hint=f"write one beside each model file: {folder}/NAME/{_USUAL_NAME}",
        )
    alone, twice = _apart_by_name(models)
    return Reading(alone, tuple(sorted([*refused, *twice], key=lambda pair: pair[0])), (*skipped,))


def _walk(folder: Path) -> Iterator[Path]:
    """Give the YAML files below ``folder``, and the links to folders that leave it."""
    unlisted: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            link = Path(parent, name)
            # Not followed: what is inside is met at its own place, what is outside is refused.
            if link.is_symlink() and not is_inside(link, folder):
                yield link
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(parent, name)
    yield from (Path(error.filename) for error in unlisted)


def _apart_by_name(
    models: list[FolderModel],
) -> tuple[tuple[FolderModel, ...], list[tuple[Path, ConfigError]]]:
    counts = Counter(model.name for model in models)
    twice = []
    for model in models:
        if counts[model.name] > 1:
            others = [m.path for m in models if m.name == model.name and m is not model]
            msg = f"the name {model.name!r} is taken by {', '.join(map(str, others))} too"
            twice.append((model.path, ConfigError(msg, hint="give each model a name of its own")))
    return tuple(model for model in models if counts[model.name] == 1), twice


def _read_file(path: Path, folder: Path) -> FolderModel | None:
    """Return the model that a YAML file describes, or None if it describes none."""
    if not is_inside(path, folder):
        raise ConfigError(
            f"the link leads nowhere or out of {folder}",
            hint="copy what it points at into the folder",
        )
    if path.is_dir():
        raise ConfigError("the folder cannot be listed", hint=f"chmod u+rx {path}")
    content = _load(path)
    if not isinstance(content, dict) or "model" not in content:
        if path.name == _USUAL_NAME:
            raise model_yaml.missing("model")
        return None
    return model_yaml.parse(content["model"], path, folder)


def _load(path: Path) -> Any:
    import yaml

    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise ConfigError("it is no plain file, or larger than 1 MiB, as no configuration is")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"it cannot be read as YAML: {reason}") from error
