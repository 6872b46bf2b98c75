"""Put nodes together to an ONNX model: what is needed, under the names of the outputs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from converters.double_factors import keep_double
from converters.onnx_folding import folded, nodes_inside
from converters.releases import Limits

OPSET = 21
"""Of the default domain: the newest that every known container release reads."""

ML_OPSET = 5
"""Of ``ai.onnx.ml``: the first with ``TreeEnsemble``, in double precision."""

_ML = "ai.onnx.ml"
_MICROSOFT = "com.microsoft"


def assembled(
    shell: Any, nodes: Sequence[Any], constants: Mapping[str, Any], made: Mapping[str, str]
) -> Any:
    """Fill a ``GraphProto`` of inputs and outputs; ``made`` tells which tensor an output is.

    What a node of the graph makes is called by the output's name. Only an input, a
    constant, a tensor from outside or one that is two outputs goes through ``Identity``:
    even that takes time when there is one row.
    """
    from onnx import helper

    free = {tensor for node in nodes for tensor in node.output}
    renamed: dict[str, str] = {}
    copies = []
    for output, tensor in made.items():
        if tensor in free:
            renamed[tensor] = output
            free.remove(tensor)
        else:
            copies.append(helper.make_node("Identity", [tensor], [output]))
    outputs = {*made, *renamed}
    kept, _ = _needed([*nodes, *copies], outputs)
    kept, values = folded(kept, constants, outputs)
    kept, used = _needed(kept, outputs)
    shell.node.extend(kept)
    shell.initializer.extend(proto for name, proto in values.items() if name in used)
    for node in _nodes_of(shell):
        for names in (node.input, node.output):
            for place, tensor in enumerate(names):
                if tensor in renamed:
                    names[place] = renamed[tensor]
    keep_double(shell)
    return shell


def opened(graph: Any, limits: Limits) -> Any:
    """Return the model of a graph, with the operator sets that it uses."""
    from onnx import helper

    domains = {node.domain for node in _nodes_of(graph)}
    opsets = [helper.make_opsetid("", OPSET)]
    if _ML in domains:
        opsets.append(helper.make_opsetid(_ML, min(ML_OPSET, limits.ml_opset)))
    if _MICROSOFT in domains:
        opsets.append(helper.make_opsetid(_MICROSOFT, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=min(10, limits.ir_version))


def _nodes_of(graph: Any) -> Iterator[Any]:
    """Give the nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        yield from nodes_inside(node)


def _needed(nodes: Sequence[Any], outputs: Iterable[str]) -> tuple[list[Any], set[str]]:
    """Return the nodes that the outputs need, in order, and all names they use."""
    used = set(outputs)
    kept = []
    for node in reversed(nodes):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
            used.update(name for inner in nodes_inside(node) for name in inner.input)
    return kept[::-1], used
