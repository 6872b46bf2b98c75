"""Sparse codes of rows in a dictionary: soft thresholds and orthogonal matching pursuit."""

from typing import Any

import numpy as np

from converters.estimators.registry import Answers, writes
from converters.estimators.table import Table
from converters.onnx_writer import Array, Graph, Tensor
from toolkit.errors import UnsupportedModelError

_MOST_ATOMS = 10
"""Steps of the pursuit that are written out one after the other."""

_EPS = float(np.finfo(np.float64).eps)


@writes("sklearn:DictionaryLearning", "sklearn:MiniBatchDictionaryLearning", "sklearn:SparseCoder")
def write_sparse_coding(graph: Graph, model: Any, x: Table) -> Answers:
    """Write the code of each row, positive and negative parts apart where asked."""
    own = getattr(model, "components_", None)
    dictionary = np.asarray(model.dictionary if own is None else own, dtype=np.float64)
    products = x.matrix() @ dictionary.T
    if model.transform_algorithm == "threshold":
        codes = _thresholded(products, model)
    elif model.transform_algorithm == "omp":
        codes = _pursued(graph, products, dictionary, model)
    else:
        msg = (
            f"{type(model).__name__}: transform_algorithm={model.transform_algorithm!r} "
            "solves an optimisation for each row"
        )
        raise UnsupportedModelError(msg, hint="'omp' and 'threshold' are written")
    if model.split_sign:
        codes = graph.concat([codes.clip(0.0, None), -codes.clip(None, 0.0)])
    return {"transform": codes}


def _thresholded(products: Tensor, model: Any) -> Tensor:
    level = model.transform_alpha
    if level is None:
        level = getattr(model, "alpha", 1.0)
    codes = products.apply("Sign") * (products.apply("Abs") - float(level)).clip(0.0, None)
    return codes.clip(0.0, None) if model.positive_code else codes


def _pursued(graph: Graph, products: Tensor, dictionary: Array, model: Any) -> Tensor:
    """Follow scikit-learn's ``_gram_omp``: each step adds the atom nearest to the rest."""
    count = model.transform_n_nonzero_coefs
    if count is None:
        count = min(max(dictionary.shape[1] / 10, 1), len(dictionary))
    if int(count) > _MOST_ATOMS:
        msg = f"{type(model).__name__}: a pursuit of {int(count)} atoms; {_MOST_ATOMS} are written"
        raise UnsupportedModelError(msg)
    pursuit = _Pursuit(graph, products, dictionary @ dictionary.T)
    for _ in range(int(count)):
        pursuit.step()
    return pursuit.codes


class _Pursuit:
    """The state of a pursuit, for all rows at once."""

    def __init__(self, graph: Graph, products: Tensor, gram: Array) -> None:
        self.graph, self.products, self.gram = graph, products, gram
        self.rest = products
        self.codes = products * 0.0
        self.going: Tensor | None = None
        self.chosen: list[Tensor] = []
        self.factor: list[list[Tensor]] = []

    def step(self) -> None:
        """Choose an atom for each row that still goes on, and solve for all chosen ones."""
        where = self.graph.where
        size = self.rest.apply("Abs")
        best = size.argmax()
        largest = size.reduce("ReduceMax", keepdims=False)
        good = largest * largest >= _EPS
        for index in self.chosen:
            good = good & ~best.eq(index)
        row: list[Tensor] = []
        for above, index in zip(self.factor, self.chosen, strict=True):
            value = self._gram_at(best, index)
            for known, other in zip(row, above[:-1], strict=True):
                value = value - known * other
            row.append(value / above[-1])
        pivot = best.lookup(np.diag(self.gram))
        for known in row:
            pivot = pivot - known * known
        if row:
            good = good & (pivot > _EPS)
        row.append(where(good, pivot, 1.0).apply("Sqrt"))
        self.going = good if self.going is None else self.going & good
        self.chosen.append(best)
        self.factor.append(row)
        self._solve()

    def _solve(self) -> None:
        atoms = self.products.width
        weights = self._weights()
        codes, beta = None, None
        for weight, index in zip(weights, self.chosen, strict=True):
            column = weight.reshape(-1, 1)
            hits = index.reshape(-1, 1).eq(np.arange(atoms)).cast(np.float64) * column
            part = index.lookup(self.gram) * column
            codes = hits if codes is None else codes + hits
            beta = part if beta is None else beta + part
        assert codes is not None
        assert beta is not None
        assert self.going is not None
        going = self.going.reshape(-1, 1)
        self.codes = self.graph.where(going, codes, self.codes)
        self.rest = self.graph.where(going, self.products - beta, self.rest)

    def _weights(self) -> list[Tensor]:
        """Solve with the triangular factor, down and up again."""
        down: list[Tensor] = []
        for row, index in zip(self.factor, self.chosen, strict=True):
            value = self._product_at(index)
            for known, other in zip(down, row[:-1], strict=True):
                value = value - known * other
            down.append(value / row[-1])
        up: dict[int, Tensor] = {}
        for i in reversed(range(len(down))):
            value = down[i]
            for j in range(i + 1, len(down)):
                value = value - self.factor[j][i] * up[j]
            up[i] = value / self.factor[i][i]
        return [up[i] for i in range(len(down))]

    def _gram_at(self, row: Tensor, column: Tensor) -> Tensor:
        return (row * len(self.gram) + column).lookup(self.gram.ravel())

    def _product_at(self, index: Tensor) -> Tensor:
        inputs = [self.products, index.reshape(-1, 1)]
        return self.graph.node("GatherElements", inputs, (None, 1), axis=1).reshape(-1)
