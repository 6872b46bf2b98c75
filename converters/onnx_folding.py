"""Fewer nodes for the same numbers: each costs as much as a small model takes for a row.

A scaler's division moves into the constant factor of the product after it, and a constant
row added to a product becomes its third input. Either changes the last bit at most.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_MATRIX = 2
_WITHOUT_SUMMAND = 2


def nodes_inside(node: Any) -> Iterator[Any]:
    """Give the nodes of the graphs that a node has as attributes."""
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield inner
            yield from nodes_inside(inner)


def folded(
    nodes: Sequence[Any], constants: Mapping[str, Any], outputs: Iterable[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the nodes, some with neighbours folded in, and the constants there are then."""
    folding = _Folding(nodes, constants, outputs)
    for place, node in enumerate(nodes):
        if node.op_type == "Gemm" and not node.attribute:
            folding.take_divisor(place, node)
            folding.take_product(place)
        elif node.op_type in {"Add", "Sub"}:
            folding.give_summand(place, node)
    return [node for node in folding.nodes if node is not None], folding.constants


def _is_row(array: Array, width: int) -> bool:
    """Say whether an array goes with each row of a matrix of this width."""
    return array.ndim <= _MATRIX and array.shape[:-1] in {(), (1,)} and array.size in {1, width}


class _Folding:
    """The nodes as they are so far, with ``None`` for those that others took in."""

    def __init__(
        self, nodes: Sequence[Any], constants: Mapping[str, Any], outputs: Iterable[str]
    ) -> None:
        self.nodes = list(nodes)
        self.constants = dict(constants)
        self._places = {name: i for i, node in enumerate(nodes) for name in node.output}
        self._uses = Counter(outputs)
        for node in nodes:
            self._uses.update(node.input)
            for inner in nodes_inside(node):
                self._uses.update(inner.input)

    def take_divisor(self, place: int, product: Any) -> None:
        """``(x / row) @ factor`` is ``x @ (factor / column)``."""
        from onnx import helper

        quotient = self._lone_maker(product.input[0], "Div")
        factor = self._constant(product.input[1])
        if quotient is None or factor is None:
            return
        divisor = self._constant(quotient.input[1])
        if divisor is None or not _is_row(divisor, len(factor)):
            return
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scaled = factor / divisor.reshape(-1, 1)
        if not np.isfinite(scaled).all():
            return
        name = self._add(scaled, product.output[0], "factor")
        inputs = [quotient.input[0], name, *product.input[2:]]
        self._drop(quotient)
        self.nodes[place] = helper.make_node("Gemm", inputs, list(product.output))

    def take_product(self, place: int) -> None:
        """``(x @ factor + row) @ chosen`` is one product where ``chosen`` copies columns."""
        from onnx import helper

        last = self.nodes[place]
        first, chosen = self._lone_maker(last.input[0], "Gemm"), self._constant(last.input[1])
        if first is None or chosen is None or len(last.input) > _WITHOUT_SUMMAND:
            return
        values = [self._constant(name) for name in first.input[1:]]
        copies = np.isin(chosen, (0.0, 1.0)).all() and (chosen.sum(axis=0) <= 1).all()
        if not copies or any(value is None for value in values):
            return
        made = [
            np.broadcast_to(v, (*v.shape[:-1], len(chosen))) @ chosen
            for v in values
            if v is not None
        ]
        names = [self._add(v, last.output[0], f"copied{i}") for i, v in enumerate(made)]
        self._drop(first)
        self.nodes[place] = helper.make_node("Gemm", [first.input[0], *names], [*last.output])

    def give_summand(self, place: int, total: Any) -> None:
        """``x @ factor + row`` is one ``Gemm``."""
        from onnx import helper

        sides = list(total.input) if total.op_type == "Add" else [total.input[0]]
        for side in sides:
            product = self._lone_maker(side, "Gemm")
            other = total.input[1] if side == total.input[0] else total.input[0]
            summand = self._constant(other)
            if product is None or summand is None or len(product.input) > _WITHOUT_SUMMAND:
                continue
            factor = self._constant(product.input[1])
            if factor is None or not _is_row(summand, factor.shape[1]):
                continue
            row = summand.reshape(-1) if total.op_type == "Add" else -summand.reshape(-1)
            name = self._add(row, total.output[0], "summand")
            self._drop(product)
            self.nodes[place] = helper.make_node("Gemm", [*product.input, name], [*total.output])
            return

    def _lone_maker(self, name: str, op_type: str) -> Any:
        """Return the node that makes a tensor, if of this type and nobody else needs it."""
        place = self._places.get(name)
        maker = None if place is None else self.nodes[place]
        if maker is None or maker.op_type != op_type or maker.attribute:
            return None
        return maker if self._uses[name] == 1 else None

    def _constant(self, name: str) -> Array | None:
        from onnx import TensorProto, numpy_helper

        proto = self.constants.get(name)
        if proto is None or proto.data_type != TensorProto.DOUBLE:
            return None
        return np.asarray(numpy_helper.to_array(proto))

    def _add(self, array: Array, beside: str, what: str) -> str:
        from onnx import numpy_helper

        name = f"{beside}_{what}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _drop(self, node: Any) -> None:
        self.nodes[self._places[node.output[0]]] = None
