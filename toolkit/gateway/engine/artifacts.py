"""What a caller names becomes one model file that the converters take."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from toolkit.errors import ConfigError, ModelFileError, ToolkitError, UnsupportedModelError

METHODS = ("average", "vote")
_MODULE = "combined"
# What stands for rows of numbers and is asked through predict.
_MEMBERS = frozenset({"sklearn", "xgboost", "lightgbm", "catboost", "predictor"})
_GRAPHS = frozenset({"onnx", "torch", "torchscript"})


@dataclass(frozen=True, slots=True)
class Opened:
    """A model file and what it holds; ``kind`` is its model type, as found."""

    path: Path
    model: Any
    framework: str
    kind: str
    trusted: bool


def opened(
    path: Path, model_type: str | None, root: Path, workdir: Path, *, trusted: bool
) -> Opened:
    """Open a model file as ``model_type``; None: as what it is found to be.

    An ensemble's description, and a pickled function, become a pickle in ``workdir``.
    ``root`` is the folder that members of an ensemble have to be in. Raises ``ToolkitError``s.
    """
    from converters import loading

    description = _description(path) if model_type in {None, "ensemble"} else None
    if description is not None:
        return _combined(path, description, root, workdir, trusted=trusted)
    framework = model_type if model_type in {"xgboost", "lightgbm"} else None
    try:
        source = loading.load(path, trusted=trusted, framework=framework)
    except UnsupportedModelError:
        if model_type not in {None, "custom"} or not trusted:
            raise
        return _called(path, workdir)
    if model_type == "sklearn" and source.framework in _GRAPHS:
        raise ConfigError(
            f"{path.name} holds a {source.framework} model, not a scikit-learn one",
            hint="leave model_type out",
        )
    kind = source.framework if source.framework in {"sklearn", "xgboost", "lightgbm"} else "custom"
    if kind == "custom" and "ensemble" in type(source.model).__module__:
        kind = "ensemble"
    return Opened(path, source.model, source.framework, model_type or kind, trusted)


def _description(path: Path) -> Mapping[str, Any] | None:
    """Return the description of an ensemble, or None for a file that is none."""
    if path.suffix.lower() != ".json":
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path.name} is not JSON: {error}") from error
    if isinstance(content, dict) and ("models" in content or "model_paths" in content):
        return content
    return None


def _combined(
    path: Path, description: Mapping[str, Any], root: Path, workdir: Path, *, trusted: bool
) -> Opened:
    from converters import loading

    members = []
    for member in _members(path, description, root):
        source = loading.load(member, trusted=trusted)
        if source.framework not in _MEMBERS:
            raise UnsupportedModelError(
                f"{path.name}: {member.name} is a {source.framework} model, and an ensemble is of"
                " scikit-learn, XGBoost, LightGBM, CatBoost models and of objects with predict"
            )
        members.append(source.model)
    weights, method = _weights(path, description, len(members)), _method(path, description)
    try:
        ensemble = _module(workdir).Ensemble(members, weights, method)
    except (ValueError, AttributeError, TypeError) as error:
        raise UnsupportedModelError(f"{path.name}: {error}") from error
    return Opened(_pickled(ensemble, path, workdir), ensemble, "predictor", "ensemble", True)


def _members(path: Path, description: Mapping[str, Any], root: Path) -> list[Path]:
    named = description.get("model_paths") or description.get("models")
    if not isinstance(named, list) or not named:
        raise ConfigError(
            f"{path.name}: an ensemble lists its model files under models or model_paths"
        )
    texts = [each.get("path") if isinstance(each, dict) else each for each in named]
    found = []
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{path.name}: {text!r} is not the path of a model file")
        near = path.parent / text
        member = (near if near.exists() else root / text).resolve()
        if not member.is_relative_to(root.resolve()):
            raise ConfigError(f"{path.name}: {text} is outside the folder of models")
        found.append(member)
    return found


def _weights(path: Path, description: Mapping[str, Any], count: int) -> list[float]:
    weights = description.get("weights") or [1.0] * count
    if not isinstance(weights, list) or len(weights) != count:
        raise ConfigError(f"{path.name}: an ensemble has one weight for each of its models")
    numbers = [each for each in weights if type(each) in {int, float} and each >= 0]
    if len(numbers) != count or not 0 < sum(numbers) < float("inf"):
        raise ConfigError(f"{path.name}: weights are numbers from 0 on, not all of them 0")
    return numbers


def _method(path: Path, description: Mapping[str, Any]) -> str:
    method = str(description.get("method") or "average").lower()
    if method not in METHODS:
        raise ConfigError(f"{path.name}: unknown method {method!r}", hint="average, vote")
    return method


def _called(path: Path, workdir: Path) -> Opened:
    """Open a pickle that holds a function. It was unpickled before, and so is trusted."""
    import joblib

    from converters.modules import importable

    with importable(path.parent):
        function = joblib.load(path)
    if not callable(function):
        kind = type(function).__name__
        raise UnsupportedModelError(
            f"{path.name} holds a {kind}, which has no predict and cannot be called"
        )
    model = _module(workdir).Called(function)
    return Opened(_pickled(model, path, workdir), model, "predictor", "custom", True)


def _module(workdir: Path) -> Any:
    """Import a copy of ``combined.py`` by its bare name, from beside the pickle to come."""
    shutil.copyfile(Path(__file__).with_name(f"{_MODULE}.py"), workdir / f"{_MODULE}.py")
    sys.path.insert(0, str(workdir))
    return import_module(_MODULE)


def _pickled(model: Any, path: Path, workdir: Path) -> Path:
    import joblib

    written = workdir / f"{path.stem}.joblib"
    try:
        joblib.dump(model, written)
    except ToolkitError:
        raise
    except Exception as error:
        raise UnsupportedModelError(f"{path.name} cannot be kept as one file: {error}") from error
    return written
