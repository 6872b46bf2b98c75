"""Vectorizers of dicts: the table's names are the keys."""

from typing import Any

import numpy as np

from converters.estimators.categories import looked_up
from converters.estimators.hashing import murmur, placed, refuse_wide, scattered
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:DictVectorizer")
def write_dict_vectorizer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write numbers into the column of their name, and 1.0 for ``name=text``."""
    _refuse_dtype(model)
    known = model.vocabulary_
    places, values = [], []
    for name, column in _named(x, model):
        nowhere = _same(column, len(known))
        if column.is_text:
            start = f"{name}{model.separator}"
            codes = {key[len(start) :]: int(at) for key, at in known.items() if _starts(key, start)}
            places.append(looked_up(column, list(codes), list(codes.values()), len(known)))
            values.append(_ones(column))
        elif name in known:
            places.append(_same(column, int(known[name])))
            values.append(_numbers(column, model))
        else:
            places.append(nowhere)
            values.append(_ones(column))
    return {"transform": scattered(graph.concat(places), graph.concat(values), len(known))}


@writes("sklearn:FeatureHasher")
def write_feature_hasher(graph: Graph, model: Any, x: Table) -> Answers:
    """Write numbers at the hash of their name, and 1.0 at the hash of ``name=text``."""
    from sklearn.utils import murmurhash3_32

    _refuse_dtype(model)
    refuse_wide(model)
    if model.input_type == "string":
        msg = "FeatureHasher: input_type='string' takes lists of texts, which ONNX has no type for"
        raise UnsupportedModelError(msg)
    places, values = [], []
    for name, column in _named(x, model):
        if column.is_text:
            start = graph.constant(np.array([[f"{name}="]], dtype=object))
            hashes = murmur(graph.node("StringConcat", [start, column], column.shape))
            amounts = _ones(column)
        else:
            hashes = _same(column, int(murmurhash3_32(name.encode())))
            amounts = _numbers(column, model)
        place, sign = placed(hashes, model)
        # The original leaves zeros out, and so never makes a negative zero.
        places.append(graph.where(amounts.eq(0.0), _same(column, model.n_features), place))
        values.append(amounts * sign)
    rows = scattered(graph.concat(places), graph.concat(values), model.n_features)
    return {"transform": rows}


def _named(x: Table, model: Any) -> list[tuple[str, Tensor]]:
    if len(x.names) != x.width:
        msg = f"{type(model).__name__}: the names of its values are not known"
        raise UnsupportedModelError(msg, hint="give a sample with named columns")
    return list(zip(x.names, x.columns(), strict=True))


def _starts(key: Any, start: str) -> bool:
    return isinstance(key, str) and key.startswith(start)


def _refuse_dtype(model: Any) -> None:
    if np.dtype(model.dtype).kind != "f":
        msg = f"{type(model).__name__}: dtype={np.dtype(model.dtype)} changes values"
        raise UnsupportedModelError(msg, hint="fit it with dtype=float")


def _numbers(column: Tensor, model: Any) -> Tensor:
    return column.cast(model.dtype).cast(np.float64)


def _ones(column: Tensor) -> Tensor:
    return _same(column, 1).cast(np.float64)


def _same(column: Tensor, number: int) -> Tensor:
    """Return ``number`` for each cell of a column, int64."""
    graph = column.graph
    shape = graph.node("Shape", [column], (2,), dtype=np.int64)
    return graph.node("Expand", [np.array(number), shape], column.shape, dtype=np.int64)
