"""Rows that are hard to get right, made from a fitted model and a sample."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import judging
from benchmarks.models.case import Array, Sample, objects

_UNSEEN = ("", " ", "never seen", "ÄÖÜ ß", "naïve-café", "42", "UPPER lower", "a\tb", "日本語")

Block = tuple[str, Sample]


def make(model: Any, sample: Sample, count: int, seed: int) -> tuple[Sample, Array]:
    """Return ``count`` rows that the original answers, and the kind of each."""
    rng = np.random.default_rng(seed)
    blocks = [_ordinary(sample, count // 2, rng)]
    blocks += [block for block in _hard(model, sample, count, rng) if judging.rows_of(block[1])]
    kept = [(kind, part) for kind, rows in blocks if (part := _accepted(model, rows)) is not None]
    have = sum(judging.rows_of(part) for _, part in kept)
    if have < count:
        kept.append(("ordinary", _taken(sample, rng.integers(0, judging.rows_of(sample), count))))
    rows = _joined([part for _, part in kept])
    kinds = objects(kind for kind, part in kept for _ in range(judging.rows_of(part)))
    return _taken(rows, slice(0, count)), kinds[:count]


def _ordinary(sample: Sample, count: int, rng: np.random.Generator) -> Block:
    """Return rows of the sample, some moved a little, some with columns of several rows."""
    third = count // 3
    plain = _taken(sample, rng.integers(0, judging.rows_of(sample), third))
    moved = _each(sample, lambda array: _moved(array, third, rng))
    return "ordinary", _joined([plain, moved, _mixed(sample, count - 2 * third, rng)])


def _hard(
    model: Any, sample: Sample, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, Sample]]:
    if not isinstance(sample, dict) and sample.dtype == object:
        yield "texts", _texts(sample, count // 2, rng)
        return
    for kind, make_some in (("threshold", _on_thresholds), ("jump", _on_jumps)):
        yield kind, make_some(model, sample, count // 5, rng)
    # XGBoost 3.2 mixes up the known categories beside an unseen one that is not ASCII.
    if isinstance(sample, dict) and not type(model).__module__.startswith("xgboost"):
        yield "unseen", _unseen(dict(_mixed(sample, count // 10, rng)), rng)
    yield "scaled", _each(_mixed(sample, count // 10, rng), lambda array: _scaled(array, rng))
    yield "missing", _with_gaps(_mixed(sample, count // 10, rng), rng)


def _each(sample: Sample, change: Callable[[Array], Array]) -> Sample:
    if isinstance(sample, dict):
        return {name: change(array) for name, array in sample.items()}
    return change(sample)


def _taken(sample: Sample, rows: Any) -> Sample:
    return _each(sample, lambda array: array[rows].copy())


def _joined(parts: list[Sample]) -> Sample:
    first = parts[0]
    if isinstance(first, dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in first}
    return np.concatenate([part for part in parts if not isinstance(part, dict)])


def _accepted(model: Any, rows: Sample) -> Sample | None:
    """Return the rows that the original answers; ``None`` if there are none."""
    if _answers(model, rows):
        return rows
    count = judging.rows_of(rows)
    tried = range(min(count, 200))
    good = [row for row in tried if _answers(model, _taken(rows, slice(row, row + 1)))]
    return _taken(rows, np.array(good)) if good else None


def _answers(model: Any, rows: Sample) -> bool:
    names = [name for name in judging.METHODS if _has(model, name)]
    try:
        judging.ask(model, rows, tuple(names))
    except Exception:  # noqa: BLE001 - the original may raise anything at rows it does not take.
        return False
    return True


def _has(model: Any, name: str) -> bool:
    if type(model).__name__ == "Booster":
        return name == "prediction"
    wanted = judging.METHODS[name]
    return name != "prediction" and any(hasattr(model, method) for method in wanted)


def _is_whole(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.all(np.isnan(array) | (array == np.rint(array))))


def _moved(array: Array, count: int, rng: np.random.Generator) -> Array:
    drawn = array[rng.integers(0, len(array), count)].copy()
    if _is_whole(array):
        return drawn
    spread = np.nanstd(array, axis=0) * 0.1
    return np.asarray(drawn + rng.normal(size=drawn.shape) * spread)


def _mixed(sample: Sample, count: int, rng: np.random.Generator) -> Sample:
    """Return rows whose every column comes from another row."""

    def draw(array: Array) -> Array:
        if array.ndim != 2:
            return array[rng.integers(0, len(array), count)].copy()
        picks = rng.integers(0, len(array), (count, array.shape[1]))
        return array[picks, np.arange(array.shape[1])]

    return _each(sample, draw)


def _scaled(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    factors = 10.0 ** rng.uniform(2, 6, len(array)) * rng.choice([-1, 1], len(array))
    return np.asarray(array * factors.reshape(-1, *(1,) * (array.ndim - 1)))


def _with_gaps(rows: Sample, rng: np.random.Generator) -> Sample:
    """Empty a quarter of the cells: of numbers, and of texts where the sample misses some."""
    missing = _missing_text(rows)
    for array in rows.values() if isinstance(rows, dict) else [rows]:
        if array.dtype.kind == "f" or (missing and array.dtype == object):
            array[rng.random(array.shape) < 0.25] = np.nan
    return rows


def _missing_text(rows: Sample) -> bool:
    arrays = rows.values() if isinstance(rows, dict) else []
    return any(array.dtype == object and judging.missing(array).any() for array in arrays)


def _unseen(rows: dict[str, Array], rng: np.random.Generator) -> Sample:
    # Where texts may be missing, the empty text is how a missing one is sent.
    texts = objects(text for text in _UNSEEN if text or not _missing_text(rows))
    for array in rows.values():
        if array.dtype == object:
            chosen = rng.random(len(array)) < 0.5
            array[chosen] = rng.choice(texts, int(chosen.sum()))
    return rows


def _texts(sample: Array, count: int, rng: np.random.Generator) -> Array:
    """Return texts made of the words of the sample and of others, and empty ones."""
    words = sorted({word for text in sample for word in str(text).split()})
    made = []
    for number in range(count):
        chosen = rng.choice(words, rng.integers(1, 9)).tolist()
        chosen += rng.choice(_UNSEEN, rng.integers(0, 3)).tolist()
        rng.shuffle(chosen)
        text = str(rng.choice([" ", ", ", ". ", "\n", "/"])).join(chosen)
        made.append((text, text.upper(), text.title(), text[::-1])[number % 4])
    made[:: max(1, count // 20)] = [*_UNSEEN, *_UNSEEN, *_UNSEEN][
        : len(made[:: max(1, count // 20)])
    ]
    return objects(made)


def _on_thresholds(model: Any, sample: Sample, count: int, rng: np.random.Generator) -> Sample:
    """Return rows with one cell on a threshold of the model's trees or one step off it."""
    rows = _taken(sample, rng.integers(0, judging.rows_of(sample), count))
    cells = _cells(rows)
    found = [
        (feature, value)
        for feature, value in dict.fromkeys(thresholds(model))
        if feature < len(cells) and _column(rows, cells[feature]).dtype.kind == "f"
    ]
    if not found:
        return _taken(rows, slice(0, 0))
    for row in range(count):
        feature, value = found[rng.integers(len(found))]
        _column(rows, cells[feature])[row] = _near(value, row)
    return rows


def _cells(rows: Sample) -> list[Any]:
    """Return what ``_column`` takes: the names of columns, or numbers in a matrix."""
    if isinstance(rows, dict):
        return list(rows)
    return list(range(rows.shape[1])) if rows.ndim == 2 else []


def _near(value: float, number: int) -> float:
    steps = (value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf))
    with np.errstate(over="ignore"):
        return float((*steps, float(np.float32(value)))[number % 4])


def thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """Yield feature and threshold of every split of every tree in the model.

    Inside a pipeline they belong to the features of its last step.
    """
    for part in _parts(model, set()):
        kind = type(part).__name__
        root = type(part).__module__.partition(".")[0]
        if kind == "Tree" and root == "sklearn":
            inner = part.children_left != -1
            yield from zip(
                part.feature[inner].tolist(), part.threshold[inner].tolist(), strict=True
            )
        elif kind == "TreePredictor":
            nodes = part.nodes[(part.nodes["is_leaf"] == 0) & (part.nodes["is_categorical"] == 0)]
            yield from zip(
                nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True
            )
        elif kind == "Booster" and root == "lightgbm":
            yield from _of_lightgbm(part)
        elif kind == "Booster" and root == "xgboost":
            yield from _of_xgboost(part)
        elif root == "catboost" and hasattr(part, "get_borders") and part.is_fitted():
            yield from ((f, v) for f, vs in part.get_borders().items() for v in vs)


def _of_lightgbm(booster: Any) -> Iterator[tuple[int, float]]:
    table = booster.trees_to_dataframe()
    splits = table[table["decision_type"] == "<="]
    names = {name: index for index, name in enumerate(booster.feature_name())}
    for name, value in zip(splits["split_feature"], splits["threshold"], strict=True):
        yield names[name], float(value)


def _of_xgboost(booster: Any) -> Iterator[tuple[int, float]]:
    import json

    names = booster.feature_names or [f"f{i}" for i in range(booster.num_features())]
    for tree in booster.get_dump(dump_format="json"):
        nodes = [json.loads(tree)]
        while nodes:
            node = nodes.pop()
            nodes += node.get("children", [])
            if isinstance(node.get("split_condition"), int | float):
                yield names.index(node["split"]), float(node["split_condition"])


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield everything a fitted model is made of."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | type(None) | type):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, np.ndarray):
        inner = value.ravel().tolist() if value.dtype == object else ()
    else:
        yield value
        if type(value).__module__.partition(".")[0] in {"numpy", "scipy", "pandas", "builtins"}:
            return
        inner = list(getattr(value, "__dict__", {}).values())
    for one in inner:
        yield from _parts(one, seen)


_STEPS = ("Tree", "TreePredictor", "Booster", "KBinsDiscretizer", "Binarizer", "CatBoost")
_SMOOTH = ("KNeighbors", "RadiusNeighbors", "KMeans", "NearestCentroid", "LocalOutlierFactor")
_BLENDED = ("Stacking", "Normalizer", "PowerTransformer", "KNNImputer")
_BLENDING = (
    "sklearn.cross_decomposition",
    "sklearn.decomposition",
    "sklearn.kernel_approximation",
    "sklearn.random_projection",
)


def _has_fair_jumps(model: Any) -> bool:
    """Say whether the answer jumps, and only where one column passes a number.

    Where two distances are equal, or a sum over columns meets a threshold, the last bit of
    the original's own rounding decides: no other arithmetic can place such a jump alike.
    """
    kinds = {type(part) for part in _parts(model, set())}
    jumps = any(kind.__name__.startswith(_STEPS) for kind in kinds)
    return jumps and not any(
        kind.__name__.startswith(_SMOOTH + _BLENDED) or kind.__module__.startswith(_BLENDING)
        for kind in kinds
    )


def _on_jumps(model: Any, sample: Sample, count: int, rng: np.random.Generator) -> Sample:
    """Return rows on both sides of a jump of the answer, found by halving.

    One cell is moved until two neighbouring float64 numbers get different answers: that
    finds the thresholds behind any preprocessing.
    """
    if not _has_fair_jumps(model):
        return _taken(sample, slice(0, 0))
    pairs = count // 2
    low = _taken(sample, rng.integers(0, judging.rows_of(sample), pairs))
    floats = [cell for cell in _cells(low) if _column(low, cell).dtype.kind == "f"]
    if not floats:
        return _taken(sample, slice(0, 0))
    chosen = [floats[i] for i in rng.integers(0, len(floats), pairs)]
    other = _taken(sample, rng.integers(0, judging.rows_of(sample), pairs))
    below = np.array([_column(low, cell)[row] for row, cell in enumerate(chosen)])
    above = np.array([_column(other, cell)[row] for row, cell in enumerate(chosen)])
    below, above = _halved(model, low, chosen, below, above)
    upper = _with(low, chosen, above)
    lower = _with(low, chosen, below)
    jumps = _differ(model, lower, upper)
    return _joined([_taken(lower, jumps), _taken(upper, jumps)])


def _halved(
    model: Any, rows: Sample, chosen: list[Any], below: Array, above: Array
) -> tuple[Array, Array]:
    good = _differ(model, _with(rows, chosen, below), _with(rows, chosen, above))
    for _ in range(70):
        middle = below + (above - below) / 2
        done = (middle == below) | (middle == above) | ~good
        if done.all():
            break
        left = _differ(model, _with(rows, chosen, below), _with(rows, chosen, middle))
        above = np.where(~done & left, middle, above)
        below = np.where(~done & ~left, middle, below)
    return below, above


def _column(rows: Sample, cell: Any) -> Array:
    return rows[cell] if isinstance(rows, dict) else rows[:, cell]


def _with(rows: Sample, chosen: list[Any], values: Array) -> Sample:
    changed = _taken(rows, slice(None))
    for row, (cell, value) in enumerate(zip(chosen, values, strict=True)):
        _column(changed, cell)[row] = value
    return changed


def _differ(model: Any, one: Sample, two: Sample) -> Array:
    """Say for each row whether the two answers are more apart than rounding brings."""
    labels = hasattr(model, "classes_")
    continuous = ("probabilities", "scores") if labels else ("scores", "transformed")
    names = [name for name in continuous if _has(model, name)]
    if labels and not names:
        # Labels alone, and votes, change on smooth borders too, where rounding decides.
        return np.zeros(judging.rows_of(one), dtype=bool)
    name = names[0] if names else "prediction"
    both = judging.ask(model, _joined([one, two]), (name,))[name]
    if both.dtype.kind not in "biuf":
        return np.zeros(judging.rows_of(one), dtype=bool)
    first, second = np.split(both.astype(np.float64), 2)
    return np.asarray((np.abs(first - second) > 1e-6 * (1 + np.abs(first))).any(axis=1))
