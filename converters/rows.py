"""The rows on which original and converted model are compared.

Rows hold what the original is asked. Their first axis counts rows, always; what is sent
to a server is made of them, in the data types of its model, by ``sent``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.spec import DType, TensorSpec

Array = npt.NDArray[Any]


class Form(StrEnum):
    """How the original wants its rows."""

    MATRIX = "matrix"
    """One matrix; a data frame of numbers if the model knows column names."""
    COLUMNS = "columns"
    """A data frame whose columns differ in type; one tensor a column."""
    TEXTS = "texts"
    """A list of texts."""
    TENSORS = "tensors"
    """Tensors of any shape, by position."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to ask a model: ``tensors`` maps tensor names to arrays, rows first.

    ``columns`` are the names the model was fitted with, in its order (empty: none).
    The first ``sample_rows`` rows are the user's, the others were generated; ``kinds`` says
    of which kind each run of rows is, from the first on.
    """

    form: Form
    columns: tuple[str, ...]
    tensors: Mapping[str, Array]
    sample_rows: int
    kinds: tuple[tuple[str, int], ...] = ()

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(next(iter(self.tensors.values())))

    def take(self, count: int) -> "Rows":
        """Return the first ``count`` rows."""
        values = {name: array[:count] for name, array in self.tensors.items()}
        return Rows(self.form, self.columns, values, min(self.sample_rows, count))

    def pick(self, chosen: Array) -> "Rows":
        """Return the rows at these positions, as generated ones of their first kind."""
        values = {name: array[chosen] for name, array in self.tensors.items()}
        kind = self.kinds[0][0] if self.kinds else "generated"
        return Rows(self.form, self.columns, values, 0, ((kind, len(chosen)),))

    def counted(self) -> dict[str, int]:
        """Return how many rows there are of each kind."""
        counts: dict[str, int] = {}
        for kind, count in self.kinds:
            counts[kind] = counts.get(kind, 0) + count
        return counts

    def kind_of(self, row: int) -> str:
        """Return the kind of one row."""
        for kind, count in self.kinds:
            if row < count:
                return kind
            row -= count
        return "sample" if row < self.sample_rows else "generated"


def sent(rows: Rows, inputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Return the rows as they are sent: each input's data type and dims, rows first."""
    return {
        tensor.name: _cast(array, tensor.dtype).reshape(len(array), *_shape(array, tensor))
        for tensor, array in zip(inputs, rows.tensors.values(), strict=True)
    }


def _shape(array: Array, tensor: TensorSpec) -> tuple[int, ...]:
    return tensor.dims if -1 not in tensor.dims else array.shape[1:]


def _cast(array: Array, dtype: DType) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype.numpy_name)
