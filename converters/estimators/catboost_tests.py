"""What the nodes of CatBoost's trees compare: numbers, codes of categories, and CTRs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.estimators import catboost_categories
from converters.estimators.catboost_categories import Statistic
from converters.estimators.catboost_trees import CTR, FLOAT, ONE_HOT, CatBoostModel
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tests:
    """The columns that are compared, and of each of the model's splits how.

    ``place`` is the column, ``border`` what it is compared with: for equality where
    ``equal``, else whether it is above. ``missing_left`` says that NaN is not above.
    """

    matrix: Tensor
    place: Array
    border: Array
    equal: Array
    missing_left: Array


@dataclass(frozen=True, slots=True)
class _Codes:
    """The categories of one feature: the column of codes, and the hash of each code."""

    column: Tensor
    hashes: Sequence[int]


def tests_of(graph: Graph, model: CatBoostModel, x: Table) -> Tests:
    """Return the tests of a model's splits on ``x``.

    Raises:
        UnsupportedModelError: categories that cannot be told from their hashes.
    """
    floats, places = _floats(model, x)
    columns = [floats] if floats.width else []
    codes = _codes(graph, model, x)
    place, border = [], []
    for feature, coded in codes.items():
        places[ONE_HOT, feature] = sum(column.width for column in columns)
        columns.append(coded.column.cast(np.float64))
    used = {split.number for split in model.splits if split.kind == CTR}
    for number in sorted(used):
        ctr = model.features["ctrs"][number]
        table = model.tables[ctr["identifier"]]
        known = {feature: coded.hashes for feature, coded in codes.items()}
        statistic = catboost_categories.statistic(ctr, table, known)
        places[CTR, number] = sum(column.width for column in columns)
        columns.append(_looked_up(graph, statistic, codes, floats, places))
    for split in model.splits:
        place.append(places[split.kind, split.number])
        coded_as = split.kind == ONE_HOT
        border.append(
            codes[split.number].hashes.index(int(split.border)) if coded_as else split.border
        )
    above = _nan_is_above(model)
    return Tests(
        graph.concat(columns),
        np.array(place, dtype=np.int64),
        np.array(border, dtype=np.float64),
        np.array([split.kind == ONE_HOT for split in model.splits]),
        np.array([(split.kind, split.number) not in above for split in model.splits]),
    )


def _floats(model: CatBoostModel, x: Table) -> tuple[Tensor, dict[tuple[str, int], int]]:
    """Return the numbers rounded to float32, in float64, and the place of each."""
    features = model.features.get("float_features", ())
    flat = [feature["flat_feature_index"] for feature in features]
    if x.has_text or model.features.get("categorical_features"):
        chosen = x.take(flat).matrix() if flat else None
    elif len(x.parts) == 1:
        chosen = x.parts[0].take(flat)
    else:
        chosen = x.matrix().take(flat)
    places = {(FLOAT, feature["feature_index"]): i for i, feature in enumerate(features)}
    if chosen is None:
        return x.graph.constant(np.zeros((1, 0))), places
    return chosen.cast(np.float32).cast(np.float64), places


def _nan_is_above(model: CatBoostModel) -> set[tuple[str, int]]:
    """Return the features whose NaN counts as larger than all borders (``nan_mode="Max"``)."""
    return {
        (FLOAT, feature["feature_index"])
        for feature in model.features.get("float_features", ())
        if feature["nan_value_treatment"] == "AsTrue"
    }


def _codes(graph: Graph, model: CatBoostModel, x: Table) -> dict[int, _Codes]:
    """Return the codes of all features of categories: the places of the sample's values."""
    features = model.features.get("categorical_features", ())
    if not features:
        return {}
    columns = x.columns()
    found = {}
    for feature in features:
        name = x.names[feature["flat_feature_index"]] if x.names else ""
        column = columns[feature["flat_feature_index"]]
        known = x.examples.get(name, ())
        if not known:
            msg = f"CatBoost: no category of {name!r} is known, only hashes of them"
            raise UnsupportedModelError(msg, hint="give a sample with all categories")
        hashes = catboost_categories.hashes([str(value) for value in known])
        catboost_categories.check_known(name, feature.get("values", ()), hashes)
        listed = [hashes[str(value)] for value in known]
        found[feature["feature_index"]] = _Codes(_coded(graph, column, known), listed)
    return found


def _coded(graph: Graph, column: Tensor, known: Sequence[str | int]) -> Tensor:
    """Return the place of each category among the known, int64; unknown ones come after."""
    kind = "strings" if column.is_text else "int64s"
    keys: dict[str, Any] = {
        f"keys_{kind}": [str(value) if column.is_text else value for value in known]
    }
    if not column.is_text and column.dtype != np.int64:
        msg = f"CatBoost: categories of {column.dtype} are not written as exact ONNX"
        raise UnsupportedModelError(msg)
    return graph.node(
        "LabelEncoder",
        [column],
        dtype=np.int64,
        domain="ai.onnx.ml",
        values_int64s=list(range(len(known))),
        default_int64=len(known),
        **keys,
    )


def _looked_up(
    graph: Graph,
    statistic: Statistic,
    codes: Mapping[int, _Codes],
    floats: Tensor,
    places: Mapping[tuple[str, int], int],
) -> Tensor:
    """Return a CTR's value by the combination of its categories and tests."""
    parts = [codes[feature].column for feature in statistic.categories]
    for kind, feature, border in statistic.tests:
        if kind == FLOAT:
            held = floats.take([places[FLOAT, feature]]) > border
        else:
            coded = codes[feature]
            held = coded.column.eq(coded.hashes.index(int(border)))
        parts.append(held.cast(np.int64))
    index: Tensor | None = None
    for part, size in zip(parts, statistic.values.shape, strict=True):
        index = part if index is None else index * size + part
    if index is None:
        msg = "CatBoost: a CTR combines nothing"
        raise UnsupportedModelError(msg)
    return index.lookup(graph.constant(statistic.values.ravel(), np.float64))
