"""The rows on which original and converted model are compared.

Rows hold what the original is asked. Their first axis counts rows, always; what is sent
to a server is made of them, in the data types of its model, by ``sent``.
"""

from collections.abc import Callable, Mapping
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
    The first ``sample_rows`` rows are the user's, the others were generated.
    """

    form: Form
    columns: tuple[str, ...]
    tensors: Mapping[str, Array]
    sample_rows: int

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(next(iter(self.tensors.values())))

    def take(self, count: int) -> "Rows":
        """Return the first ``count`` rows."""
        values = {name: array[:count] for name, array in self.tensors.items()}
        return Rows(self.form, self.columns, values, min(self.sample_rows, count))


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


def generate(rows: Rows, count: int, seed: int, accepts: Callable[[Rows], bool]) -> Rows:
    """Return ``rows`` with up to ``count`` generated ones after them.

    Each kind of row (moved a little, columns mixed, scaled, zeros, missing values, an
    unseen text) is kept only if the original answers it.
    """
    rng = np.random.default_rng(seed)
    kinds: tuple[tuple[Callable[[Array, int, np.random.Generator], Array], float], ...] = (
        (_jittered, 0.4),
        (_mixed, 0.25),
        (_scaled, 0.15),
        (_zeros, 0.01),
        *(((_unseen, 0.04),) if rows.form in {Form.COLUMNS, Form.TEXTS} else ()),
        (_missing, 0.15),
    )
    if rows.form is Form.TENSORS:
        kinds = kinds[:1] + kinds[2:4]
    blocks = [rows]
    for make, share in kinds:
        size = min(max(1, round(count * share)), count)
        if not size:
            break
        values = {name: make(array, size, rng) for name, array in rows.tensors.items()}
        block = Rows(rows.form, rows.columns, values, 0)
        if accepts(block):
            blocks.append(block)
    joined = {
        name: np.concatenate([block.tensors[name] for block in blocks]) for name in rows.tensors
    }
    return Rows(rows.form, rows.columns, joined, rows.sample_rows)


def _is_float(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _drawn(array: Array, size: int, rng: np.random.Generator) -> Array:
    return array[rng.integers(0, len(array), size)]


def _jittered(array: Array, size: int, rng: np.random.Generator) -> Array:
    drawn = _drawn(array, size, rng)
    if not _is_float(array):
        return drawn
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(_spread(array))
    moved: Array = drawn + rng.normal(size=drawn.shape) * 0.1 * spread
    return moved.astype(array.dtype)


def _spread(array: Array) -> Array:
    """Return the standard deviation over rows, missing values left out."""
    missing = np.isnan(array)
    known = np.where(missing, 0.0, array)
    counts = np.maximum((~missing).sum(axis=0), 1)
    mean = known.sum(axis=0) / counts
    squares = np.where(missing, 0.0, (known - mean) ** 2)
    spread: Array = np.sqrt(squares.sum(axis=0) / counts)
    return np.where(spread > 0, spread, np.abs(mean) * 0.1 + 1e-3)


def _mixed(array: Array, size: int, rng: np.random.Generator) -> Array:
    """Return rows whose every column comes from another row."""
    if array.ndim == 1:
        return _drawn(array, size, rng)
    picks = rng.integers(0, len(array), (size, array.shape[1]))
    return array[picks, np.arange(array.shape[1])]


def _scaled(array: Array, size: int, rng: np.random.Generator) -> Array:
    drawn = _drawn(array, size, rng)
    if not _is_float(array):
        return drawn
    factors = rng.choice(np.array([-1.0, 0.1, 3.0, 10.0]), size)
    scaled: Array = drawn * factors.reshape(-1, *(1,) * (array.ndim - 1))
    return scaled.astype(array.dtype)


def _zeros(array: Array, size: int, rng: np.random.Generator) -> Array:
    drawn = _drawn(array, size, rng)
    return np.zeros_like(drawn) if _is_float(array) else drawn


def _unseen(array: Array, size: int, rng: np.random.Generator) -> Array:
    drawn = _drawn(array, size, rng)
    if array.dtype == object:
        drawn[::2] = "never seen before"
    return drawn


def _missing(array: Array, size: int, rng: np.random.Generator) -> Array:
    drawn = _drawn(array, size, rng)
    if _is_float(array):
        drawn[rng.random(drawn.shape) < 0.2] = np.nan  # noqa: PLR2004 - a fifth of the cells
    return drawn
