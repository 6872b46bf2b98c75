"""Answers of some rows, and the columns they make in a table."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ConfigError

ERROR = "error"
FILE = "file"
_MOST_COLUMNS = 10_000


@dataclass(frozen=True, slots=True)
class Block:
    """Answers of ``count`` rows in order.

    ``outputs`` holds a value for each row that is not in ``errors``; ``names`` is the file
    of each row of a folder; ``classes`` are what values of one a class stand for.
    """

    count: int
    outputs: Mapping[str, NDArray[Any]]
    errors: Mapping[int, str]
    names: Sequence[str] | None = None
    classes: Sequence[str] = ()

    def answered(self) -> list[int]:
        """Return the numbers of the rows that have an answer."""
        return [row for row in range(self.count) if row not in self.errors]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one object a row, for JSON."""
        columns = [(name, plain(values)) for name, values in self.outputs.items()]
        place = 0
        for row in range(self.count):
            record: dict[str, Any] = {} if self.names is None else {FILE: self.names[row]}
            if row in self.errors:
                record[ERROR] = self.errors[row]
            else:
                record.update((name, values[place]) for name, values in columns)
                place += 1
            yield record


def plain(values: NDArray[Any]) -> Any:
    """Return the values for JSON, which has no word for NaN and infinity: None."""
    if values.dtype.kind == "O":
        shown = [v.decode(errors="backslashreplace") if isinstance(v, bytes) else v
                 for v in values.flat]  # fmt: skip
        array = np.empty(len(shown), dtype=object)
        array[:] = shown
        return array.reshape(values.shape).tolist()
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values.tolist()
    shown_numbers = values.astype(object)
    shown_numbers[~np.isfinite(values)] = None
    return shown_numbers.tolist()


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a table: a vector ``p`` becomes ``p_0``, ``p_1`` …, or has a column a class."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]
    with_files: bool
    classes: Sequence[str]

    @classmethod
    def of(cls, block: Block) -> Self:
        """Return the columns that these answers make."""
        shapes = {name: values.shape[1:] for name, values in block.outputs.items()}
        width = sum(int(np.prod(shape)) for shape in shapes.values())
        if width > _MOST_COLUMNS:
            raise ConfigError(
                f"the answers have {width:,} values a row, too many for columns",
                hint="write JSON Lines or NPZ: --output answers.npz",
            )
        if ERROR in shapes or (FILE in shapes and block.names is not None):
            raise ConfigError(
                "the model calls an output as the table calls its column of errors or files",
                hint="choose others: --outputs",
            )
        dtypes = {name: values.dtype for name, values in block.outputs.items()}
        return cls(shapes, dtypes, block.names is not None, block.classes)

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return [
            *([FILE] if self.with_files else []),
            *(column for name, shape in self.shapes.items() for column in self._of(name, shape)),
            ERROR,
        ]

    def _of(self, name: str, shape: tuple[int, ...]) -> Iterator[str]:
        """Yield the names of an output's columns."""
        if shape in {(), (1,)}:
            yield name
            return
        ends = self.classes if shape == (len(self.classes),) else range(math.prod(shape[:1]))
        for end, *rest in itertools.product(ends, *map(range, shape[1:])):
            yield "_".join([name, *map(str, (end, *rest))])

    def table(self, block: Block, *, for_text: bool = False) -> Any:
        """Return the rows as an Arrow table; a row that failed has nulls and its error."""
        import pyarrow as pa

        self._check(block)
        place = np.full(block.count, -1)
        place[block.answered()] = np.arange(block.count - len(block.errors))
        failed = place < 0
        made = [pa.array(block.names or [], pa.string())] if self.with_files else []
        for name, shape in self.shapes.items():
            values = block.outputs.get(name)
            for index in np.ndindex(*shape):
                column = None if values is None else values[(slice(None), *index)]
                made.append(_arrow(column, self.dtypes[name], place, failed, for_text=for_text))
        made.append(pa.array([block.errors.get(row) for row in range(block.count)], pa.string()))
        return pa.Table.from_arrays(made, names=self.names)

    def _check(self, block: Block) -> None:
        for name, values in block.outputs.items():
            if values.shape[1:] != self.shapes[name]:
                raise ConfigError(
                    f"output {name!r} has {list(values.shape[1:])} values a row here and"
                    f" {list(self.shapes[name])} before, which columns cannot hold",
                    hint="write JSON Lines: --output answers.jsonl",
                )


def _arrow(
    values: NDArray[Any] | None,
    dtype: np.dtype[Any],
    place: NDArray[np.intp],
    failed: NDArray[np.bool_],
    *,
    for_text: bool,
) -> Any:
    import pyarrow as pa

    kind = pa.string() if dtype.kind == "O" else pa.from_numpy_dtype(dtype.newbyteorder("="))
    if for_text and dtype == np.float16:
        kind = pa.float32()
    if values is None or not len(values):
        return pa.nulls(len(place), kind)
    spread = values[np.maximum(place, 0)]
    if dtype.kind == "O":
        texts = [None if bad else text for bad, text in zip(failed, plain(spread), strict=True)]
        return pa.array(texts, kind)
    return pa.array(spread.astype(dtype.newbyteorder("=")), mask=failed).cast(kind)
