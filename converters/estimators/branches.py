"""A part of a graph that runs only for batches that need it."""

from collections.abc import Callable

from converters.onnx_writer import Graph, Tensor

Part = Callable[[Graph], Tensor]


def only_if(condition: Tensor, write: Part, otherwise: Part) -> Tensor:
    """Return ``write(graph)`` where ``condition``, one bool, holds, else ``otherwise(graph)``.

    Each adds nodes to a graph of its own; ``Tensor.seen_by`` brings in those around it.
    Both answers have one shape and dtype.
    """
    graph = condition.graph
    prefix = f"if_{condition.name}_"
    asked, sure = Graph(graph.limits, f"{prefix}then_"), Graph(graph.limits, f"{prefix}else_")
    given, kept = write(asked), otherwise(sure)
    return graph.node(
        "If",
        [condition],
        kept.shape,
        dtype=kept.dtype,
        then_branch=asked.model(f"{prefix}then", {f"{prefix}yes": given}).graph,
        else_branch=sure.model(f"{prefix}else", {f"{prefix}no": kept}).graph,
    )
