"""Random projections and pooled columns."""

from itertools import pairwise
from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph
from toolkit.errors import UnsupportedModelError

_MOST_TERMS = 64


@writes("sklearn:GaussianRandomProjection", "sklearn:SparseRandomProjection")
def write_random_projection(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write ``x @ components_.T``; sparse components are summed in SciPy's order."""
    components = model.components_
    if not hasattr(components, "toarray"):
        return {"transform": x.matrix() @ np.asarray(components).T}
    components = components.tocsr()
    terms = int(np.diff(components.indptr).max(initial=1))
    if terms > _MOST_TERMS:
        return {"transform": x.matrix() @ components.toarray().T}
    # SciPy adds one product after the other, a matrix product in another order: in trees
    # behind it the last bit would tell.
    columns = np.zeros((terms, components.shape[0]), dtype=np.int64)
    factors = np.zeros(columns.shape)
    for row, (start, end) in enumerate(pairwise(components.indptr.tolist())):
        columns[: end - start, row] = components.indices[start:end]
        factors[: end - start, row] = components.data[start:end]
    values = x.matrix()
    total = values.take(columns[0]) * factors[0]
    for column, factor in zip(columns[1:], factors[1:], strict=True):
        total = total + values.take(column) * factor
    return {"transform": total}


@writes("sklearn:FeatureAgglomeration")
def write_feature_agglomeration(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the mean, sum, largest or smallest of each cluster of columns."""
    values, labels = x.matrix(), np.asarray(model.labels_)
    pool, clusters = model.pooling_func, np.unique(labels)
    if pool in (np.mean, np.sum):
        members = (labels[:, None] == clusters).astype(np.float64)
        total = values @ members
        return {"transform": total / members.sum(axis=0) if pool is np.mean else total}
    reduction = {np.max: "ReduceMax", np.min: "ReduceMin"}.get(pool)
    if reduction is None:
        name = getattr(pool, "__name__", repr(pool))
        msg = f"FeatureAgglomeration: pooling_func={name} is not written as exact ONNX"
        raise UnsupportedModelError(msg, hint="np.mean, np.sum, np.max and np.min are")
    pooled = [
        values.take(np.flatnonzero(labels == cluster).tolist()).reduce(reduction)
        for cluster in clusters
    ]
    return {"transform": graph.concat(pooled)}
