"""Four models of different character, trained and converted for the benchmark of tuning."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters import ConversionOptions, convert
from toolkit import options, repository
from toolkit.spec import RepositoryEntry

_FEATURES, _ROWS, _SEED = 28, 5000, 0


def write(name: str, home: Path, scratch: Path) -> RepositoryEntry:
    """Train the model called ``name`` and write it, as ``toolkit convert`` would, to ``home``."""
    scratch.mkdir(parents=True, exist_ok=True)
    path, sample = MODELS[name](scratch)
    wanted = ConversionOptions(name=name, sample=sample, trusted=True)
    artifact = convert(path, wanted, scratch / f"{name}-converted")
    return repository.write(home, artifact, options.serving_config({}, artifact)).entry


def _table() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    from sklearn.datasets import make_classification

    x, y = make_classification(_ROWS, _FEATURES, n_informative=14, random_state=_SEED)
    return x.astype(np.float32), y


def _forest(folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A hundred trees, ten deep: little work a row."""
    from sklearn.ensemble import RandomForestClassifier

    x, y = _table()
    model = RandomForestClassifier(100, max_depth=10, random_state=_SEED, n_jobs=1).fit(x, y)
    return _dumped(model, folder / "forest.joblib"), x[:200]


def _booster(folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """Five hundred boosted trees, six deep: work that grows with each row."""
    from xgboost import XGBClassifier

    x, y = _table()
    model = XGBClassifier(n_estimators=500, max_depth=6, random_state=_SEED, n_jobs=1).fit(x, y)
    path = folder / "booster.ubj"
    model.save_model(path)
    return path, x[:200]


def _mlp(folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """Three wide layers: matrix products that gain from a batch."""
    import torch

    torch.manual_seed(_SEED)
    layers = torch.nn.Sequential(
        torch.nn.Linear(_FEATURES, 1024), torch.nn.ReLU(),
        torch.nn.Linear(1024, 1024), torch.nn.ReLU(),
        torch.nn.Linear(1024, 10), torch.nn.Softmax(dim=1),
    ).eval()  # fmt: skip
    return _saved(layers, folder / "mlp.pt"), _table()[0][:200]


def _cnn(folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A small network for pictures of 32 by 32: much work a row, little gain from a batch."""
    import torch

    torch.manual_seed(_SEED)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Softmax(dim=1),
    ).eval()  # fmt: skip
    pictures = np.random.default_rng(_SEED).random((64, 3, 32, 32), dtype=np.float32)
    return _saved(layers, folder / "cnn.pt"), pictures


def _dumped(model: Any, path: Path) -> Path:
    import joblib

    joblib.dump(model, path)
    return path


def _saved(model: Any, path: Path) -> Path:
    import torch

    torch.save(model, path)
    return path


MODELS: Mapping[str, Callable[[Path], tuple[Path, np.ndarray[Any, Any]]]] = {
    "forest": _forest,
    "booster": _booster,
    "mlp": _mlp,
    "cnn": _cnn,
}
