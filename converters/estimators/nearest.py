"""The nearest training rows of each row, as scikit-learn's searches find them."""

from typing import Any

import numpy as np

from converters.estimators import metrics
from converters.estimators.dense import dense
from converters.estimators.distances import squared_euclidean
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

_SPARE = 16
"""How many rows more than asked for are kept until their distances are known exactly."""

_MOST_FEATURES = 64
"""Beyond that, the spare rows' features would be too much to hold at once."""

_CHECKED = 2_000
_CHECKED_TIES = 50


class Neighbourhood:
    """The training rows of a model, in the order in which its search meets them."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name = type(model).__name__
        self.metric = str(model.effective_metric_)
        if callable(model.effective_metric_) or self.metric in {"precomputed", "pyfunc"}:
            self._refuse(f"a metric that is {model.metric!r} is not written as exact ONNX")
        points = dense(model._fit_X, model)  # noqa: SLF001
        self.by_tree = model._tree is not None  # noqa: SLF001
        if self.by_tree and self.metric == "braycurtis":
            # It breaks the triangle inequality, by which scikit-learn's tree leaves rows out.
            self._refuse("its search by a tree misses neighbours where the metric is 'braycurtis'")
        count = len(points)
        self.order = np.asarray(model._tree.get_arrays()[1]) if self.by_tree else np.arange(count)  # noqa: SLF001
        self.points = points[self.order]

    def _refuse(self, why: str) -> None:
        msg = f"{self.name}: {why}"
        raise UnsupportedModelError(msg)

    def all(self, x: Tensor) -> Tensor:
        """Return the distance to every row, squared where the metric is euclidean."""
        if self.metric in {"euclidean", "l2"}:
            if self.by_tree:
                return metrics.squared(x, self.points)
            return squared_euclidean(x, self.points)
        parameters = dict(self.model.effective_metric_params_ or {})
        try:
            return metrics.between(x, self.points, self.metric, parameters)
        except UnsupportedModelError as error:
            self._refuse(error.message)
            raise

    def nearest(self, graph: Graph, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return distances and positions of the nearest rows, the nearest first."""
        euclidean = self.metric in {"euclidean", "l2"}
        few = len(self.points) <= 2 * (count + _SPARE)
        if not euclidean or not self.by_tree or few or x.width > _MOST_FEATURES:
            found, indices = metrics.nearest(graph, self.all(x), count)
            if self.metric == "cosine":
                found, indices = self._of_nothing(graph, x, found, indices)
        else:
            found, indices = self._refined(graph, x, count)
        return (found.apply("Sqrt") if euclidean else found), indices

    def _refined(self, graph: Graph, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Choose by the fast product form, then decide by the tree's own metrics."""
        spare = count + _SPARE
        rough = metrics.squared_about_middle(x, self.points)
        _, candidates = metrics.nearest(graph, rough, spare)
        shape = (None, spare)
        kinds = [(np.dtype(np.int64), shape), (np.dtype(np.int64), shape)]
        inputs: list[Tensor | Array] = [candidates, np.array([spare])]
        candidates, _ = graph.nodes("TopK", inputs, kinds, axis=1, largest=0, sorted=1)
        exact: Tensor | None = None
        for i in range(x.width):
            apart = x.take([i]) - candidates.lookup(np.ascontiguousarray(self.points[:, i]))
            square = apart * apart
            exact = square if exact is None else exact + square
        assert exact is not None
        found, positions = metrics.nearest(graph, exact, count)
        picked = graph.node(
            "GatherElements", [candidates, positions], (None, count), dtype=np.int64, axis=1
        )
        return found, picked

    def _of_nothing(
        self, graph: Graph, x: Tensor, found: Tensor, indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Answer a row of zeros, equally far from all, as the library's sort does."""
        nothing = x.apply("Abs").reduce("ReduceMax").eq(0.0)
        zeros = np.zeros((1, x.width))
        apart, chosen = self.model.kneighbors(zeros, n_neighbors=indices.width)
        return graph.where(nothing, apart, found), graph.where(nothing, chosen, indices)

    def refuse_ties(self, count: int, targets: Array) -> None:
        """Refuse if a tie for the last place among the nearest decides an answer.

        Which of two rows that are equally far is taken depends on the search's path (a
        tree's) or on the batch (brute force), so it cannot be written. The training rows
        themselves show whether the data has such ties.

        Raises:
            UnsupportedModelError: it has.
        """
        if count >= len(self.points):
            return
        targets = np.asarray(targets)[self.order].reshape(len(self.points), -1)
        asked = self.points[:_CHECKED]
        if self.metric != "cosine":
            asked = np.vstack([asked, np.zeros_like(asked[:1])])
        width = min(len(self.points), count + _CHECKED_TIES)
        found, indices = self.model.kneighbors(asked, n_neighbors=width)
        limit = found[:, count - 1 : count]
        place = np.empty(len(self.points), dtype=np.int64)
        place[self.order] = np.arange(len(self.points))
        # Brute force leaves the square root of a rounding error where a distance is zero.
        noise = 0.0 if self.by_tree else 1e-7 * float(np.abs(self.points).max(initial=0.0))
        tied = np.isclose(found, limit, rtol=1e-12, atol=noise)
        for at, neighbours in zip(tied, targets[place[indices]], strict=True):
            open_ended = at[-1] and width < len(self.points)
            if at[count] and (open_ended or (neighbours[at] != neighbours[at][0]).any()):
                self._refuse(
                    "its training rows hold ties: neighbours equally far with different "
                    "targets, which the search's own order decides"
                )
