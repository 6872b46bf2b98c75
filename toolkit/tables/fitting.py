"""From columns, or rows without names, to the tensors that a model takes."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client import TensorMetadata
from toolkit.client.rows import to_tensors
from toolkit.client.tensors import DTYPES
from toolkit.errors import InvalidInputError, SampleError
from toolkit.tables.cells import Column

_NUMBERED = re.compile(r"(.+)_\d+")


@dataclass(frozen=True, slots=True)
class Takes:
    """What a served model takes.

    ``feature_names`` are the columns of its one input, in order, where they are known;
    ``optional`` inputs may be missing. ``dropped`` are columns of the rows that are not for
    the model.
    """

    inputs: tuple[TensorMetadata, ...]
    optional: frozenset[str] = frozenset()
    feature_names: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()

    @property
    def alone(self) -> TensorMetadata | None:
        """The model's one input; None where it has several."""
        return self.inputs[0] if len(self.inputs) == 1 else None

    @property
    def columns(self) -> frozenset[str]:
        """The names that columns may have, as far as they are known."""
        return frozenset(self.feature_names) | {spec.name for spec in self.inputs}

    def cell(self, column: str) -> tuple[str, tuple[int, ...]]:
        """Return data type and shape of what stands in a column; text if it is unknown."""
        named = {spec.name: spec for spec in self.inputs}
        if column in named:
            return named[column].datatype, named[column].shape[1:]
        numbered = _NUMBERED.fullmatch(column)
        if numbered and numbered[1] in named:
            return named[numbered[1]].datatype, ()
        return (self.alone.datatype if self.alone else "BYTES"), ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows in order: tensors of those that fit, reasons for those that do not.

    ``place`` says where a row stands (``line 3``), and each reason begins with it;
    ``names`` is the file of each row of a folder.
    """

    count: int
    tensors: Mapping[str, NDArray[Any]]
    errors: Mapping[int, str]
    place: Callable[[int], str]
    names: Sequence[str] | None = None

    @property
    def good(self) -> NDArray[np.intp]:
        """Numbers of the rows that are in ``tensors``."""
        if not self.errors:
            return np.arange(self.count)
        return np.array([row for row in range(self.count) if row not in self.errors], np.intp)


@dataclass(slots=True)
class Fitter:
    """Makes pieces for one model from one source, called ``name`` in errors."""

    name: str
    takes: Takes
    checked: tuple[str, ...] | None = field(default=None)

    def check(self, columns: Sequence[str]) -> list[str]:
        """Return the columns that are for the model, before anything else is read.

        Refuses columns that the model does not take, and lacking ones.
        """
        dropped = self.takes.dropped
        absent = sorted(dropped - set(columns))
        if absent:
            raise SampleError(
                f"{self.name} has no column {', '.join(map(repr, absent))} to drop",
                hint=f"it has {', '.join(map(repr, columns))}",
            )
        kept = [name for name in columns if name not in dropped]
        if self.checked != tuple(kept):
            try:
                self._tensors({name: self._nothing(name) for name in kept})
            except InvalidInputError as error:
                error.hint = self._with_drop(error.hint, kept)
                raise
            self.checked = tuple(kept)
        return kept

    def _with_drop(self, hint: str | None, columns: Sequence[str]) -> str | None:
        """Add what to do about columns too many, where none is missing."""
        takes = self.takes
        names = takes.feature_names or [spec.name for spec in takes.inputs]
        unknown = [name for name in columns if name not in takes.columns]
        enough = takes.optional.union(columns).issuperset(names)
        if not unknown or not enough:
            return hint
        drop = f"leave out what is not for the model: --drop {','.join(unknown)}"
        return f"{hint}\n{drop}" if hint else drop

    def piece(
        self,
        columns: Mapping[str, Column] | Column,
        count: int,
        place: Callable[[int], str],
        errors: Mapping[int, str],
    ) -> Piece:
        """Return the rows as tensors; a row that is bad in any column is left out."""
        bad = {row: f"{place(row)}: {reason}" for row, reason in errors.items()}
        named = {"": columns} if isinstance(columns, tuple) else columns
        for name, (_, reasons) in named.items():
            column = f", column {name!r}" if name else ""
            for row, reason in reasons.items():
                bad.setdefault(row, f"{place(row)}{column}: {reason}")
        if len(bad) == count:
            return Piece(count, {}, bad, place)
        keep = np.array([row not in bad for row in range(count)]) if bad else slice(None)
        arrays = {name: array[keep] for name, (array, _) in named.items()}
        rows = arrays[""] if isinstance(columns, tuple) else arrays
        return Piece(count, self._tensors(rows), bad, place)

    def bad_column(self, column: str, reason: object) -> SampleError:
        """Return the error for a column that as a whole is of the wrong kind."""
        named = f", column {column!r}" if column else ""
        return SampleError(f"{self.name}{named}: {reason}")

    def _nothing(self, column: str) -> NDArray[Any]:
        datatype, dims = self.takes.cell(column)
        shape = (2, *(max(dim, 1) for dim in dims))
        if DTYPES[datatype].kind == "O":
            return np.full(shape, "", dtype=object)
        return np.zeros(shape, DTYPES[datatype])

    def _tensors(self, rows: Any) -> Mapping[str, NDArray[Any]]:
        takes = self.takes
        if isinstance(rows, dict):
            rows = _joined(rows, takes)
        try:
            return to_tensors(
                rows, takes.inputs, optional=takes.optional, feature_names=takes.feature_names
            )
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.name}: {error.message}", hint=error.hint) from error


def _joined(columns: Mapping[str, NDArray[Any]], takes: Takes) -> Mapping[str, NDArray[Any]]:
    """Return the columns ``x_0``, ``x_1`` … as the one input ``x`` that the model takes."""
    joined = dict(columns)
    for spec in takes.inputs:
        parts = [f"{spec.name}_{place}" for place in range(len(columns))]
        parts = [name for name in parts if name in columns]
        if spec.name not in columns and parts and (takes.alone is None or len(spec.shape) > 1):
            together = np.stack([joined.pop(name) for name in parts], axis=1)
            dims = [abs(dim) for dim in spec.shape[1:]]
            whole = int(np.prod(dims)) == len(parts)
            joined[spec.name] = together.reshape(-1, *dims) if whole else together
    return joined
