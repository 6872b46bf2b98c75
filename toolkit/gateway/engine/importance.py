"""Which columns of a row its answer depends on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InvalidInputError, RequestError, ToolkitError
from toolkit.gateway.engine import asking, loading
from toolkit.gateway.engine.model import Model, stamp
from toolkit.gateway.engine.state import Engine
from toolkit.gateway.exchange import Refused
from toolkit.gateway.replies import told as in_words

METHODS = ("perturbation", "exact")
_EXACT_SECONDS = 120.0
_FAILED = "Failed to calculate feature importance: "


async def explain(engine: Engine, features: list[Any], method: str) -> dict[str, Any]:
    """Return the importance of each column of the first row, the largest first; they add to 1.

    ``perturbation`` puts one column after the other to its mean in training, where that is
    known, else to 0, and takes how far all outputs together move. ``exact`` asks the original
    for each column's own part of its raw answer. Raises as ``asking.predict``.
    """
    model = engine.require_model()
    asking.require_rectangular(features)
    row = _plain_row(features)
    names = _names(model, len(row))
    try:
        baseline = await asking.asked(engine, model, [row], cached=False)
        extra: dict[str, Any] = {}
        if method == "exact":
            contributions = await _contributions(engine, model, row)
            weights = np.abs(np.array(contributions["values"]))
            extra = {
                "contributions": dict(zip(names, contributions["values"], strict=True)),
                "base_value": contributions["base"],
                "source": contributions["source"],
            }
        else:
            weights = await _moved(engine, model, row)
    except InvalidInputError as error:
        raise asking.invalid(error) from error
    except RequestError as error:
        if asking.is_outage(error):
            raise
        raise Refused(500, _FAILED + in_words(error)) from error
    if not np.isfinite(weights).all():
        raise Refused(500, f"{_FAILED}the model's answers are not finite numbers")
    return {
        "success": True,
        "feature_importance": _ranked(names, weights),
        "baseline_prediction": list(baseline.predictions[0]),
        "timestamp": asking.now(),
        "method": method,
        **extra,
    }


def _plain_row(features: list[Any]) -> list[Any]:
    row = features[0]
    if not isinstance(row, list) or not row or any(isinstance(one, list | dict) for one in row):
        raise Refused(
            400, "Invalid feature format: importance is for rows that are lists of values"
        )
    return row


def _names(model: Model, width: int) -> tuple[str, ...]:
    if len(model.feature_names) == width:
        return model.feature_names
    return tuple(f"feature_{i}" for i in range(width))


async def _moved(engine: Engine, model: Model, row: list[Any]) -> NDArray[np.float64]:
    """Return how far the outputs move with each column: all are asked in one batch."""
    means = model.means if len(model.means) == len(row) else (0.0,) * len(row)
    rows = [row]
    for place, value in enumerate(row):
        rows.append([*row[:place], _neutral(value, means[place]), *row[place + 1 :]])
    if not model.batched:
        raise Refused(400, "importance is for models that take many rows at once")
    told = await asking.asked(engine, model, rows, cached=False)
    return distances(told.outputs)


def _neutral(value: Any, mean: float) -> Any:
    if isinstance(value, str):
        return ""
    return False if isinstance(value, bool) else mean


def distances(outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return how far each row but the first is from the first, all outputs together.

    Scores and probabilities say more than the labels made of them, so labels count only
    where there is nothing else; a text that differs is 1 away.
    """
    kinds = ("f", "iub", "OUS")
    chosen: Sequence[NDArray[Any]] = ()
    for kind in kinds:
        chosen = [array for array in outputs.values() if array.dtype.kind in kind]
        if chosen:
            break
    total = np.zeros(len(next(iter(outputs.values()))) - 1)
    for array in chosen:
        flat = array.reshape(len(array), -1)
        if flat.dtype.kind in "OUS":
            total += (flat[1:] != flat[:1]).sum(axis=1)
        else:
            wide = flat.astype(np.float64)
            total += np.abs(wide[1:] - wide[:1]).sum(axis=1)
    return total


def _ranked(names: Sequence[str], weights: NDArray[np.float64]) -> dict[str, float]:
    total = weights.sum()
    shares = weights / total if total > 0 else weights
    order = np.argsort(-shares, kind="stable")
    return {names[place]: float(shares[place]) for place in order}


async def _contributions(engine: Engine, model: Model, row: list[Any]) -> Mapping[str, Any]:
    if stamp(Path(model.path)) != model.stamp:
        raise Refused(
            409, f"{model.path} is not the file that was loaded: load it again, then explain it"
        )
    asked = {
        "task": "explain",
        "path": model.path,
        "root": model.root,
        "model_type": model.asked_type,
        "trusted": model.trusted or engine.around.allow_pickle,
        "row": row,
    }
    try:
        return await loading.apart(asked, _EXACT_SECONDS)
    except RequestError:
        raise
    except ToolkitError as error:
        raise Refused(400, f"method exact: {in_words(error)}") from error
