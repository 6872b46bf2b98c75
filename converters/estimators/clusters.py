"""Clusterings that tell where a new row belongs."""

from typing import Any

import numpy as np

from converters.estimators import metrics
from converters.estimators.distances import squared_euclidean
from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Graph, Tensor
from toolkit.errors import UnsupportedModelError


@writes("sklearn:KMeans", "sklearn:MiniBatchKMeans")
def write_k_means(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the nearest centre, and the distances to all."""
    rows = x.matrix()
    index = metrics.first_nearest(rows, model.cluster_centers_)
    return {"predict": index, "index": index, "transform": _distances(rows, model.cluster_centers_)}


@writes("sklearn:BisectingKMeans")
def write_bisecting_k_means(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the way down the tree of splits, and the distances to all centres."""
    rows = x.matrix()

    def label(node: Any) -> Tensor:
        if node.left is None:
            return graph.constant(np.array([node.label], dtype=np.int64))
        centers = np.vstack((node.left.center, node.right.center))
        if hasattr(model, "_X_mean"):
            centers = centers + model._X_mean  # noqa: SLF001
        first = metrics.first_nearest(rows, centers).eq(0)
        return graph.where(first, label(node.left), label(node.right))

    index = label(model._bisecting_tree)  # noqa: SLF001
    return {"predict": index, "index": index, "transform": _distances(rows, model.cluster_centers_)}


@writes("sklearn:MeanShift")
def write_mean_shift(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the nearest centre."""
    index = metrics.first_nearest(x.matrix(), model.cluster_centers_)
    return {"predict": index, "index": index}


@writes("sklearn:AffinityPropagation")
def write_affinity_propagation(_graph: Graph, model: Any, x: Table) -> Answers:
    """Write the nearest exemplar.

    Raises:
        UnsupportedModelError: it holds no exemplars.
    """
    centers = getattr(model, "cluster_centers_", None)
    if centers is None or not len(centers):
        why = "its affinity is precomputed" if centers is None else "it did not converge"
        msg = f"{type(model).__name__}: it has no cluster centers ({why})"
        raise UnsupportedModelError(msg)
    index = metrics.first_nearest(x.matrix(), centers)
    return {"predict": index, "index": index}


@writes("sklearn:Birch")
def write_birch(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the label of the nearest subcluster, and the distances to all subclusters."""
    rows = x.matrix()
    nearest = metrics.first_nearest(rows, model.subcluster_centers_)
    labels = graph.constant(np.asarray(model.subcluster_labels_, dtype=np.int64))
    index = nearest.lookup(labels)
    return {
        "predict": index,
        "index": index,
        "transform": _distances(rows, model.subcluster_centers_),
    }


def _distances(x: Tensor, centers: Any) -> Tensor:
    return squared_euclidean(x, centers).apply("Sqrt")
