"""What a loaded model tells about itself."""

import math
from typing import Any

import numpy as np

from toolkit.artifact import Artifact
from toolkit.spec import Road


def described(model: Any, artifact: Artifact) -> dict[str, Any]:
    """Return, as JSON can hold it, what callers may want to know of a converted model."""
    spec = artifact.spec
    names = list(spec.feature_names) or [one.name for one in spec.inputs]
    only = spec.inputs[0].dims
    width = only[0] if len(spec.inputs) == 1 and len(only) == 1 else len(spec.inputs)
    width = len(names) if width < 0 else width
    return {
        "model_class": type(model).__name__,
        "framework": artifact.framework,
        "hyperparameters": _parameters(model),
        "num_trees": _trees(model),
        "input_features": width,
        "feature_names": names if len(names) == width and names != ["input"] else [],
        "class_names": list(spec.class_names),
        "output_shape": list(spec.outputs[0].dims) or [1],
        "batched": spec.batched,
        "means": _means(model, width),
        "compiled": artifact.road is not Road.PYTHON,
        "road": f"{artifact.road.value} ({artifact.rung})",
        "proven_rows": artifact.parity.rows,
    }


def _parameters(model: Any) -> dict[str, Any]:
    """Return those settings of the model that are plain values."""
    try:
        found = dict(model.get_params(deep=False))
    except Exception:  # noqa: BLE001  the code of the model is anybody's
        return {}
    kinds = (bool, int, str, type(None))
    return {
        str(name): value
        for name, value in found.items()
        if isinstance(value, kinds) or (isinstance(value, float) and math.isfinite(value))
    }


def _trees(model: Any) -> int | None:
    for name in ("num_boosted_rounds", "num_trees", "tree_count_", "n_estimators_", "n_estimators"):
        try:
            value = getattr(model, name)
            count = value() if callable(value) else value
        except Exception:  # noqa: BLE001, S112  as above
            continue
        if isinstance(count, int | np.integer):
            return int(count)
    return None


def _means(model: Any, width: int) -> list[float]:
    """Return the mean of each column in training, where the first step has kept it."""
    from converters import anatomy

    means = getattr(anatomy.first(model), "mean_", None)
    if isinstance(means, np.ndarray) and means.shape == (width,) and np.isfinite(means).all():
        return [float(mean) for mean in means]
    return []
