"""Each column's own part of a model's raw answer, where its framework can tell it exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UnsupportedModelError

# Each of their columns is made of the one at the same place alone.
_COLUMN_BY_COLUMN = frozenset(
    {"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PowerTransformer"}
)


def of(model: Any, row: list[Any]) -> dict[str, Any]:
    """Return the parts of the answer to ``row``: ``values``, their ``base`` and their ``source``.

    ``base`` and the parts add up to the raw answer: of a regressor its prediction, of a
    classifier the log-odds or score of the class it chooses. Raises ``UnsupportedModelError``.
    """
    if type(model).__module__.partition(".")[0] == "catboost":
        return _told(_catboost(model, row), "CatBoost ShapValues")
    try:
        rows = np.array([row], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnsupportedModelError(
            "exact contributions of texts are known to CatBoost alone"
        ) from error
    model, rows = _behind_scalers(model, rows)
    root = type(model).__module__.partition(".")[0]
    if root == "xgboost":
        return _told(_xgboost(model, rows), "XGBoost pred_contribs")
    if root == "lightgbm":
        return _told(_lightgbm(model, rows), "LightGBM pred_contrib")
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return _told(_linear(model, rows), "linear coefficients")
    raise UnsupportedModelError(
        f"a {type(model).__name__} does not tell the exact contributions of its columns",
        hint="those who do: XGBoost, LightGBM, CatBoost, linear models; ask for perturbation",
    )


def _behind_scalers(model: Any, rows: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
    """Walk through the steps of a pipeline as long as columns stay columns."""
    steps = getattr(model, "steps", None)
    if not isinstance(steps, list):
        return model, rows
    for _, step in steps[:-1]:
        if step == "passthrough":
            continue
        if type(step).__name__ not in _COLUMN_BY_COLUMN:
            raise UnsupportedModelError(
                f"{type(step).__name__} mixes columns, so none has a part of its own",
                hint="ask for perturbation",
            )
        rows = np.asarray(step.transform(rows))
    return steps[-1][1], rows


def _xgboost(model: Any, rows: NDArray[Any]) -> NDArray[Any]:
    import xgboost

    booster = model.get_booster() if hasattr(model, "get_booster") else model
    data = xgboost.DMatrix(rows, feature_names=booster.feature_names)
    return np.asarray(booster.predict(data, pred_contribs=True, strict_shape=True)[0])


def _lightgbm(model: Any, rows: NDArray[Any]) -> NDArray[Any]:
    booster = getattr(model, "booster_", model)
    parts = np.asarray(booster.predict(rows, pred_contrib=True)[0])
    return parts.reshape(-1, rows.shape[1] + 1)


def _catboost(model: Any, row: list[Any]) -> NDArray[Any]:
    import catboost

    texts = model.get_cat_feature_indices()
    pool = catboost.Pool([row], cat_features=texts, feature_names=model.feature_names_)
    parts = np.asarray(model.get_feature_importance(pool, type="ShapValues")[0])
    return parts.reshape(-1, len(row) + 1)


def _linear(model: Any, rows: NDArray[Any]) -> NDArray[Any]:
    coefficients = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    if coefficients.shape[1] != rows.shape[1]:
        raise UnsupportedModelError(f"a {type(model).__name__} has no coefficient a column")
    bases = np.broadcast_to(np.ravel(model.intercept_), len(coefficients))
    return np.column_stack([coefficients * rows, bases])


def _told(parts: NDArray[Any], source: str) -> dict[str, Any]:
    """Choose, of the classes' parts, those of the class with the highest score."""
    chosen = parts[int(np.argmax(parts.sum(axis=1)))].astype(float).tolist()
    return {"values": chosen[:-1], "base": chosen[-1], "source": source}
