"""What the nearest training rows say: graphs of neighbours and embeddings of manifolds."""

from typing import Any

import numpy as np

from converters.estimators.bins import ones
from converters.estimators.decomposition import kernel_components
from converters.estimators.nearest import Neighbourhood
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError

_MOST_ROWS = 4_000
"""Training rows of an Isomap: the model holds the distance of each to each."""


@writes("sklearn:KNeighborsTransformer")
def write_k_neighbors_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the dense matrix of distances to (or 1 for) the nearest training rows."""
    values, hood = x.matrix(), Neighbourhood(model)
    count = int(model.n_neighbors) + (model.mode == "distance")
    hood.refuse_ties(count, np.arange(len(hood.order)))
    distances, positions = hood.nearest(graph, values, count)
    cells = distances if model.mode == "distance" else distances * 0.0 + 1.0
    empty = ones(values) * np.zeros((1, len(hood.order)))
    indices = positions.lookup(hood.order.astype(np.int64))
    return {"transform": graph.node("ScatterElements", [empty, indices, cells], axis=1)}


@writes("sklearn:RadiusNeighborsTransformer")
def write_radius_neighbors_transformer(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the dense matrix of distances to (or 1 for) the training rows within reach."""
    hood = Neighbourhood(model)
    distances, radius = hood.all(x.matrix()), float(model.radius)
    euclidean = hood.metric in {"euclidean", "l2"}
    near = distances <= (radius * radius if euclidean else radius)
    cells: Tensor | float = 1.0
    if model.mode == "distance":
        cells = distances.apply("Sqrt") if euclidean else distances
    dense = near.cast(np.float64) if isinstance(cells, float) else graph.where(near, cells, 0.0)
    return {"transform": dense.take(np.argsort(hood.order).tolist())}


@writes("sklearn:Isomap")
def write_isomap(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the shortest ways over a neighbour to each training row, and their kernel PCA."""
    if model.n_neighbors is None:
        msg = "Isomap: neighbours within a radius are not written as exact ONNX"
        raise UnsupportedModelError(msg, hint="fit it with n_neighbors")
    ways = np.asarray(model.dist_matrix_, dtype=np.float64)
    if len(ways) > _MOST_ROWS:
        msg = f"Isomap: {len(ways)} training rows; up to {_MOST_ROWS} are written"
        raise UnsupportedModelError(msg)
    hood = Neighbourhood(model.nbrs_)
    count = int(model.n_neighbors)
    hood.refuse_ties(count, np.arange(len(ways)))
    distances, positions = hood.nearest(graph, x.matrix(), count)
    shortest: Tensor | None = None
    for i in range(count):
        index = positions.take([i]).reshape(-1)
        over = index.lookup(ways[hood.order]) + distances.take([i])
        shortest = over if shortest is None else graph.node("Min", [shortest, over])
    assert shortest is not None
    return {"transform": kernel_components(shortest * shortest * -0.5, model.kernel_pca_)}


@writes("sklearn:LocallyLinearEmbedding")
def write_locally_linear_embedding(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the embeddings of the nearest training rows, by barycentric weights."""
    values, hood = x.matrix(), Neighbourhood(model.nbrs_)
    count = int(model.n_neighbors)
    hood.refuse_ties(count, np.arange(len(hood.order)))
    _, positions = hood.nearest(graph, values, count)
    apart = positions.lookup(hood.points) - values.reshape(-1, 1, values.width)
    gram = apart @ apart.transpose(0, 2, 1)
    trace = (gram * np.eye(count)).sum(2).sum(1)
    ridge = graph.where(trace > 0.0, trace * float(model.reg), float(model.reg))
    inverse = graph.node("Inverse", [gram + ridge * np.eye(count)], domain="com.microsoft")
    weights = inverse.sum(2)
    weights = weights / weights.sum(1)
    embedded = positions.lookup(np.asarray(model.embedding_, dtype=np.float64)[hood.order])
    return {"transform": (embedded * weights).sum(1, keepdims=False)}
