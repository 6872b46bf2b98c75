"""CatBoost's categories: hashes of texts, and the statistics that stand for categories.

CatBoost keeps no category, only hashes; the sample's texts are hashed to learn which text
each one is. A model that knows a category which the sample lacks is refused, since the
answer to that category could not be written.
"""

import ast
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UnsupportedModelError

Hashes = npt.NDArray[np.uint64]

# The multiplier of CatBoost's hash of a combination (model_export, ctr_calcer).
_MULTIPLIER = np.uint64(0x4906BA494954CB65)
_NO_HASH = 2**64 - 1
_MOST_COMBINATIONS = 1_000_000
_HINT = "give a sample that holds every category the model was fitted with"


@dataclass(frozen=True, slots=True)
class Statistic:
    """A CTR: what is combined, and its value for each combination.

    ``values`` has an axis for each of ``categories`` (the last entry is an unknown one),
    then one of length 2 for each of ``tests``: (kind, feature, border or hash).
    """

    categories: tuple[int, ...]
    tests: tuple[tuple[str, int, float], ...]
    values: npt.NDArray[np.float32]


def hashes(texts: Sequence[str]) -> dict[str, int]:
    """Return CatBoost's hash of each text, as its own export tells it."""
    import catboost

    frame = [[float(i), text] for i, text in enumerate(texts)] + [[-1.0, ""]]
    labels = [float(i % 2) for i in range(len(frame))]
    pool = catboost.Pool(frame, labels, cat_features=[1])
    tiny = catboost.CatBoost(
        {
            "iterations": 1,
            "depth": 1,
            "thread_count": 1,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }
    )
    tiny.fit(pool)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hashes.py"
        tiny.save_model(str(path), format="python", pool=pool)
        exported = path.read_text(encoding="utf-8")
    section = exported.partition("cat_features_hashes = {")[2].partition("\n}")[0]
    found: dict[str, int] = {}
    for literal, number in re.findall(r'^\s*("(?:[^"\\]|\\.)*"): (-?\d+),', section, re.MULTILINE):
        # The export escapes bytes as C does, and UTF-8 is what they are.
        found[bytes(ast.literal_eval(f"b{literal}")).decode("utf-8")] = int(number)
    if missing := [text for text in texts if text not in found]:
        msg = f"CatBoost does not tell the hash of category {missing[0]!r}"
        raise UnsupportedModelError(msg)
    return {text: found[text] for text in texts}


def check_known(feature: str, wanted: Sequence[int], known: Mapping[str, int]) -> None:
    """Raise unless each hash of a feature is that of a known text."""
    if unknown := set(wanted) - set(known.values()):
        msg = f"CatBoost: {len(unknown)} categories of {feature!r} are in no row of the sample"
        raise UnsupportedModelError(msg, hint=_HINT)


def statistic(
    ctr: Mapping[str, Any],
    table: Mapping[str, Any],
    known: Mapping[int, Sequence[int]],
) -> Statistic:
    """Return the values of a CTR for all combinations of ``known`` hashes by feature.

    Raises:
        UnsupportedModelError: the model knows a combination of other categories, or
            there are too many combinations.
    """
    elements = ctr["elements"]
    categories = tuple(
        element["cat_feature_index"]
        for element in elements
        if element["combination_element"] == "cat_feature_value"
    )
    tests = tuple(_tests(elements))
    sizes = tuple(len(known[feature]) for feature in categories)
    cells = int(np.prod([size + 1 for size in sizes]) * 2 ** len(tests))
    if cells > _MOST_COMBINATIONS:
        msg = f"CatBoost: a CTR of {len(categories)} features has {cells} combinations"
        raise UnsupportedModelError(msg)
    combined = np.zeros((), dtype=np.uint64)
    for feature in categories:
        combined = _mixed(combined, np.array(known[feature], dtype=np.int64).view(np.uint64))
    for _ in tests:
        combined = _mixed(combined, np.array([0, 1], dtype=np.uint64))
    values, empty = _values(ctr, table)
    if unknown := len(set(values) - set(combined.ravel().tolist())):
        msg = f"CatBoost: {unknown} combinations of categories are in no row of the sample"
        raise UnsupportedModelError(msg, hint=_HINT)
    filled = [values.get(key, empty) for key in combined.ravel().tolist()]
    inner = np.array(filled, dtype=np.float32).reshape(combined.shape)
    full = np.full((*(size + 1 for size in sizes), *(2,) * len(tests)), empty, dtype=np.float32)
    full[tuple(slice(size) for size in sizes)] = inner
    return Statistic(categories, tests, full)


def _tests(elements: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float]]:
    """Return the tests that are combined with categories, numbers before texts."""
    numbers = [
        ("FloatFeature", element["float_feature_index"], element["border"])
        for element in elements
        if element["combination_element"] == "float_feature"
    ]
    texts = [
        ("OneHotFeature", element["cat_feature_index"], element["value"])
        for element in elements
        if element["combination_element"] == "cat_feature_exact_value"
    ]
    if len(numbers) + len(texts) + sum(
        element["combination_element"] == "cat_feature_value" for element in elements
    ) != len(elements):
        msg = "CatBoost: a CTR combines what is not known"
        raise UnsupportedModelError(msg)
    return numbers + texts


def _mixed(combined: Hashes, more: Hashes) -> Hashes:
    """Return the hashes of all pairs, on a new last axis."""
    with np.errstate(over="ignore"):
        mixed: Hashes = _MULTIPLIER * (combined[..., None] + _MULTIPLIER * more)
    return mixed


def _values(ctr: Mapping[str, Any], table: Mapping[str, Any]) -> tuple[dict[int, float], float]:
    """Return the value by hash, and the value of what was never seen."""
    stride = table["hash_stride"]
    rows = np.array(table["hash_map"], dtype=object).reshape(-1, stride)
    keys = [int(key) for key in rows[:, 0]]
    counts = rows[:, 1:].astype(np.float64)
    kind = ctr["ctr_type"]
    border = ctr["target_border_idx"]
    if kind in {"Counter", "FeatureFreq"}:
        good, total = counts[:, 0], np.full(len(counts), float(table["counter_denominator"]))
        never = float(table["counter_denominator"])
    elif kind in {"BinarizedTargetMeanValue", "FloatTargetMeanValue"}:
        good, total, never = counts[:, 0], counts[:, 1], 0.0
    elif kind == "Buckets":
        good, total, never = counts[:, border], counts.sum(axis=1), 0.0
    elif kind == "Borders":
        good, total, never = counts[:, border + 1 :].sum(axis=1), counts.sum(axis=1), 0.0
    else:
        msg = f"CatBoost: CTRs of type {kind} are not written as exact ONNX"
        raise UnsupportedModelError(msg)
    computed = _calculated(ctr, good, total).tolist()
    values = {key: value for key, value in zip(keys, computed, strict=True) if key != _NO_HASH}
    return values, float(_calculated(ctr, np.zeros(1), np.full(1, never))[0])


def _calculated(
    ctr: Mapping[str, Any], good: npt.NDArray[np.float64], total: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return the CTR, in float32 as CatBoost does."""
    numerator = good.astype(np.float32) + np.float32(ctr["prior_numerator"])
    denominator = total.astype(np.float32) + np.float32(ctr["prior_denomerator"])
    value: npt.NDArray[np.float32] = (numerator / denominator + np.float32(ctr["shift"])) * (
        np.float32(ctr["scale"])
    )
    return value
