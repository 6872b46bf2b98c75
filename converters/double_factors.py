"""Keep ``MatMul`` from being merged with its neighbours, which float64 does not survive.

ONNX Runtime 1.31 merges it with a ``Mul`` or ``Div`` by one constant before or after it
into ``FusedMatMul``, whose ``alpha`` is a float32: a factor of 1/6 is then wrong in its
eighth digit. 1.23 merges it with a ``Transpose`` before it, and then has no such operator
for float64. Both look for constants and direct neighbours only, so a zero that depends on
the number of rows is added in between. (``Gemm`` is not merged like that.)
"""

from typing import Any

import numpy as np

_LOOKED_THROUGH = {"MatMul", "Mul", "Div", "Transpose", "Cast"}
"""What a factor merges with, at once or when its neighbour is merged."""

_NOTHING = "rows_nothing"


def keep_double(graph: Any) -> None:
    """Change a ``GraphProto`` in place so that ONNX Runtime keeps its float64 products."""
    from onnx import helper

    if not any(node.op_type == "MatMul" for node in graph.node):
        return
    factors = _kept_factors(graph)
    nodes: list[Any] = []
    makers = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "MatMul":
            for i, name in enumerate(node.input):
                if makers.get(name) == "Transpose":
                    node.input[i] = f"{node.output[0]}_side{i}"
                    nodes.append(helper.make_node("Add", [name, _NOTHING], [node.input[i]]))
        nodes.append(node)
    if not factors and len(nodes) == len(graph.node):
        return
    added = [helper.make_node("Add", [_NOTHING, old], [new]) for old, new in factors.items()]
    nodes = [*_nothing(graph), *added, *nodes]
    del graph.node[:]
    graph.node.extend(nodes)


def _kept_factors(graph: Any) -> dict[str, str]:
    """Give factors near a product another name; return them by their old ones."""
    inexact = _inexact_constants(graph)
    replaced: dict[str, str] = {}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    users: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, set()).add(node.op_type)
    for node in graph.node:
        if node.op_type not in {"Mul", "Div"}:
            continue
        for i in range(1 if node.op_type == "Div" else 0, 2):
            around = {makers.get(node.input[1 - i], ""), *users.get(node.output[0], ())}
            if node.input[i] in inexact and around & _LOOKED_THROUGH:
                name = node.input[i]
                node.input[i] = replaced.setdefault(name, f"{name}_kept")
    return replaced


def _inexact_constants(graph: Any) -> set[str]:
    """Return the double constants of one element that float32 cannot hold."""
    from onnx import TensorProto, numpy_helper

    found = set()
    for constant in graph.initializer:
        if constant.data_type == TensorProto.DOUBLE and all(size == 1 for size in constant.dims):
            value = numpy_helper.to_array(constant).item()
            with np.errstate(over="ignore"):
                if float(np.float32(value)) != value:
                    found.add(constant.name)
    return found


def _nothing(graph: Any) -> list[Any]:
    """Return the nodes of a zero that is no constant: the number of rows times zero."""
    from onnx import TensorProto, helper

    graph.initializer.append(helper.make_tensor("rows_zero", TensorProto.DOUBLE, [1], [0.0]))
    return [
        helper.make_node("Shape", [graph.input[0].name], ["rows_shape"], start=0, end=1),
        helper.make_node("Cast", ["rows_shape"], ["rows_double"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["rows_double", "rows_zero"], [_NOTHING]),
    ]
