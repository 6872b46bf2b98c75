"""What one step hands to the next: a matrix, or columns of different types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from converters.onnx_writer import Graph, Tensor


@dataclass(frozen=True, slots=True)
class Table:
    """Parts of shape ``(rows, n)`` that stand side by side, each of one dtype.

    ``names`` are the names of all columns where they matter to the next step: a data
    frame's; empty for what scikit-learn hands on as an array. ``examples`` are the texts
    and whole numbers that the rows to be proven hold, by column, of the very first table.
    """

    graph: Graph
    parts: tuple[Tensor, ...]
    names: tuple[str, ...] = ()
    examples: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """The number of columns."""
        return sum(part.width for part in self.parts)

    @property
    def has_text(self) -> bool:
        """Whether some column holds texts."""
        return any(part.is_text for part in self.parts)

    def matrix(self) -> Tensor:
        """Return all columns as one float64 tensor, as ``np.asarray(x, dtype=float)`` does."""
        return self.graph.concat([part.cast(np.float64) for part in self.parts])

    def columns(self) -> list[Tensor]:
        """Return each column as a tensor of shape ``(rows, 1)``."""
        return [
            part if part.width == 1 else part.take([i])
            for part in self.parts
            for i in range(part.width)
        ]

    def take(self, indices: Sequence[int]) -> "Table":
        """Pick columns by position, in this order."""
        names = tuple(self.names[i] for i in indices) if self.names else ()
        if len(self.parts) == 1:
            return Table(self.graph, (self.parts[0].take(indices),), names)
        columns = self.columns()
        return Table(self.graph, tuple(columns[i] for i in indices), names)

    def texts(self) -> Tensor:
        """Return the only column, of texts, as ``(rows,)``."""
        return self.columns()[0].reshape(-1)

    def renamed(self, names: Sequence[str]) -> "Table":
        """Return the same columns under other names."""
        return Table(self.graph, self.parts, tuple(str(name) for name in names))


def beside(graph: Graph, tables: Sequence[Table]) -> Table:
    """Put tables side by side; numeric ones are joined into one matrix."""
    parts = tuple(part for table in tables for part in table.parts)
    names = tuple(name for table in tables for name in table.names)
    if len({part.dtype for part in parts}) == 1:
        parts = (graph.concat(parts),)
    return Table(graph, parts, names)
