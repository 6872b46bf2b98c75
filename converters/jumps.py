"""Find, by halving, where the answer of a model jumps between two neighbouring numbers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from converters import reference
from converters.rows import Array, Form, Rows
from converters.source import LoadedModel
from toolkit.errors import ToolkitError

_STEPS = 70
_ROUNDING = 1e-6
_BATCHES = (7, 1)
_MOST_BATCHES = 40

Cell = tuple[str, int]
"""The name of a tensor and the column in it; -1 for a tensor of one column."""


def cells(rows: Rows) -> list[Cell | None]:
    """Return where each column of the rows is kept; ``None`` for one without fractions."""
    found: list[Cell | None] = []
    for name, array in rows.tensors.items():
        fractions = bool(np.issubdtype(array.dtype, np.floating))
        columns = range(array.shape[1]) if array.ndim == 2 else (-1,)  # noqa: PLR2004
        found += [(name, column) if fractions else None for column in columns]
    return found


def put(tensors: dict[str, Array], cell: Cell, row: int, value: float) -> None:
    """Write one cell."""
    name, column = cell
    if column < 0:
        tensors[name][row] = value
    else:
        tensors[name][row, column] = value


def found(
    source: LoadedModel, low: Rows, other: dict[str, Array], rng: np.random.Generator, until: float
) -> Iterator[Rows]:
    """Give the rows of ``low`` with one cell on either side of a jump.

    The jump lies between the cell's number and that of the row of ``other``; what is not
    found by the time ``until`` is left out.
    """
    usable = [cell for cell in cells(low) if cell is not None]
    if not usable or low.form is Form.TENSORS:
        return
    chosen = [usable[i] for i in rng.integers(0, len(usable), low.count)]
    last = reference.ask(source, low.take(2))[-1].name
    search = _Search(source, low, chosen, (last,))
    below, above = search.values(dict(low.tensors)), search.values(other)
    try:
        told = search.answers(below)
        different = apart(told, search.answers(above))
        for _ in range(_STEPS):
            middle = below + (above - below) / 2
            done = (middle == below) | (middle == above) | ~different
            if done.all() or time.monotonic() > until:
                break
            said = search.answers(middle)
            left = apart(told, said)
            above = np.where(~done & left, middle, above)
            moved = ~done & ~left
            below, told = np.where(moved, middle, below), np.where(moved[:, None], said, told)
        ended = np.flatnonzero(different & (np.nextafter(below, above) == above))
    except ToolkitError:
        return  # The original refuses a row in between.
    sides = [search.rows(values).pick(ended) for values in (below, above)]
    if ended.size and not any(_sums_decide(source, side, (last,), until) for side in sides):
        yield from sides


def _sums_decide(source: LoadedModel, rows: Rows, outputs: tuple[str, ...], until: float) -> bool:
    """Say whether the original itself answers another way in batches of another size.

    Matrix products are summed in another order then (OpenBLAS has a kernel of its own for
    one row), so that behind them the last bit places a jump, not the model. Such jumps are
    no question to ask of a conversion.
    """
    together = _numbers(source, rows, outputs)
    for size in _BATCHES:
        count = min(rows.count, _MOST_BATCHES * size)
        for start in range(0, count, size):
            if time.monotonic() > until:
                break
            part = np.arange(start, min(start + size, count))
            if apart(together[part], _numbers(source, rows.pick(part), outputs)).any():
                return True
    return False


@dataclass(frozen=True, slots=True)
class _Search:
    """One cell of each row, whose number is moved."""

    source: LoadedModel
    low: Rows
    chosen: list[Cell]
    outputs: tuple[str, ...]

    def values(self, tensors: dict[str, Array]) -> Array:
        """Return the numbers in the chosen cells."""
        numbers = [
            tensors[name][row] if column < 0 else tensors[name][row, column]
            for row, (name, column) in enumerate(self.chosen)
        ]
        return np.nan_to_num(np.array(numbers, dtype=np.float64).reshape(-1))

    def rows(self, values: Array) -> Rows:
        """Return the rows with these numbers in the chosen cells."""
        tensors = {name: array.copy() for name, array in self.low.tensors.items()}
        for row, (cell, value) in enumerate(zip(self.chosen, values.tolist(), strict=True)):
            put(tensors, cell, row, value)
        return Rows(self.low.form, self.low.columns, tensors, 0, self.low.kinds)

    def answers(self, values: Array) -> Array:
        """Return what the original says, in columns; of several outputs the last."""
        return _numbers(self.source, self.rows(values), self.outputs)


def _numbers(source: LoadedModel, rows: Rows, outputs: tuple[str, ...]) -> Array:
    """Return the last of the outputs; texts as their checksums."""
    values = reference.ask(source, rows, outputs)[-1].values
    if values.dtype.kind not in "biuf":
        texts = values.astype(str).ravel().tolist()
        # Small enough for ``apart`` to tell any two of them apart.
        checksums = [crc32(text.encode()) % 100_003 for text in texts]
        values = np.array(checksums, dtype=np.float64)
    return np.nan_to_num(values.astype(np.float64)).reshape(rows.count, -1)


def apart(one: Array, two: Array) -> Array:
    """Say for each row whether two answers are more apart than rounding brings."""
    far = np.abs(one - two) > _ROUNDING * (1.0 + np.abs(one))
    different: Array = far.any(axis=1)
    return different
