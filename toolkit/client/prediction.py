"""A model's answer, as arrays, as records or as a DataFrame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Names = Sequence[str] | Mapping[Any, str]
"""Names of classes, in the order of the classes; or what each value of a label is called."""

Labels = Sequence[str] | Mapping[str, Names]
"""Names for every output that has one value a class, or for the outputs that it names."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction(Mapping[str, NDArray[Any]]):
    """A model's answer: output name to array, one entry a row; text outputs hold ``str``.

    ``single`` says that it is the answer to one row and its arrays have no axis of rows.
    ``class_names`` are those of the model, for outputs of one value a class, if it tells them.
    """

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, NDArray[Any]]
    single: bool = False
    class_names: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def rows(self) -> int:
        """The number of rows; ``InvalidInputError`` if the outputs differ in it."""
        if self.single:
            return 1
        counts = {name: len(array) if array.ndim else 1 for name, array in self.outputs.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise InvalidInputError(
                f"the outputs of {self.model!r} differ in their number of rows: {listed}",
                hint="read them by name: answer['…']",
            )
        return next(iter(counts.values()), 0)

    def row(self, place: int) -> "Prediction":
        """Return the answer to one row: the same outputs without the axis of rows.

        ``place`` counts from 0, or from the end if negative; ``IndexError`` beyond them.
        The arrays are views. One value a row becomes an array of shape ``()``.
        """
        if self.single:
            if place in {0, -1}:
                return self
            raise IndexError(place)
        outputs = {name: array[place, ...] for name, array in self.outputs.items()}
        return Prediction(
            self.model, self.version, self.request_id, outputs, True, self.class_names
        )

    def part(self, start: int, stop: int) -> "Prediction":
        """Return the answer to the rows from ``start`` to before ``stop``, as views."""
        outputs = {name: array[start:stop] for name, array in self._columns().items()}
        return replace(self, outputs=outputs, single=False)

    def records(self, labels: Labels | None = None) -> list[dict[str, Any]]:
        """Return one dict a row, of plain Python values: numbers, texts and lists.

        An output that ``labels`` names the classes of becomes a dict of class to value, a
        label becomes its name; see ``to_pandas``. Raises ``InvalidInputError`` for
        ``labels`` that do not fit.
        """
        count, chosen = self.rows, self._named(labels)
        columns: dict[str, Sequence[Any]] = {}
        for name, array in self._columns().items():
            names = chosen.get(name)
            if names is None:
                columns[name] = array.tolist()
            elif array.ndim == 1:
                columns[name] = _looked_up(array, names, name)
            else:
                columns[name] = [dict(zip(names, row, strict=True)) for row in array.tolist()]
        return [{name: values[place] for name, values in columns.items()} for place in range(count)]

    def to_pandas(self, labels: Labels | None = None) -> "pd.DataFrame":
        """Return a DataFrame with a row for each row.

        One value a row is a column with the output's name; several are ``name_0``,
        ``name_1`` and so on; more axes are one column of arrays. ``labels`` is the names
        of the classes in their order, for every output of that width (``name_cat``); or a
        dict of output name to such names, or to a dict of label to name. Left out, the
        names that the model tells; ``{}`` for none.

        Raises ``InvalidInputError`` for ``labels`` that do not fit.
        """
        import pandas as pd

        flat = self._flat(labels)
        return pd.DataFrame(
            {name: list(array) if array.ndim > 1 else array for name, array in flat.items()}
        )

    def to_polars(self, labels: Labels | None = None) -> "pl.DataFrame":
        """Return the same as a polars DataFrame; ``MissingDependencyError`` without polars."""
        try:
            import polars as pl
        except ModuleNotFoundError as error:
            if error.name != "polars":
                raise
            raise MissingDependencyError(
                "a polars DataFrame needs polars", hint="pip install polars, or use to_pandas()"
            ) from error
        flat = self._flat(labels)
        return pl.DataFrame(
            {
                name: array.tolist() if array.dtype == object else array
                for name, array in flat.items()
            }
        )

    def _columns(self) -> Mapping[str, NDArray[Any]]:
        """Return the outputs with an axis of rows."""
        if not self.single:
            return {name: np.atleast_1d(array) for name, array in self.outputs.items()}
        return {name: array[np.newaxis, ...] for name, array in self.outputs.items()}

    def _flat(self, labels: Labels | None) -> dict[str, NDArray[Any]]:
        """Return the columns of a DataFrame; one of them has more axes where an output has."""
        _ = self.rows
        chosen = self._named(labels)
        flat: dict[str, NDArray[Any]] = {}
        for name, array in self._columns().items():
            names = chosen.get(name)
            if array.ndim == 1 and names is not None:
                values = np.empty(len(array), dtype=object)
                values[:] = _looked_up(array, names, name)
                found = {name: values}
            elif array.ndim != 2:  # noqa: PLR2004  rows x values
                found = {name: array}
            elif array.shape[1] == 1 and names is None:
                found = {name: array[:, 0]}
            else:
                ends = names if names is not None else range(array.shape[1])
                found = {f"{name}_{end}": array[:, place] for place, end in enumerate(ends)}
            repeated = flat.keys() & found.keys()
            if repeated:
                raise InvalidInputError(
                    f"the outputs of {self.model!r} make two columns {min(repeated)!r}",
                    hint="use records(), or read them by name: answer['…']",
                )
            flat.update(found)
        return flat

    def _named(self, labels: Labels | None) -> Mapping[str, Names]:
        """Return the names for each output that ``labels`` holds names for, checked."""
        columns = self._columns()
        if not isinstance(labels, Mapping):
            names = _listed(self.class_names if labels is None else labels)
            wide = {
                name: names
                for name, array in columns.items()
                if array.ndim == 2 and array.shape[1] == len(names)  # noqa: PLR2004  values a row
            }
            if labels and not wide:
                raise InvalidInputError(
                    f"{len(names)} labels, but no output of {self.model!r} has as many values"
                    f" a row: {_shapes(columns)}"
                )
            return wide
        unknown = [name for name in labels if name not in columns]
        if unknown:
            raise InvalidInputError(
                f"labels for {', '.join(map(repr, unknown))},"
                f" but the outputs are {_shapes(columns)}"
            )
        given: dict[str, Names] = {
            name: one if isinstance(one, Mapping) else _listed(one) for name, one in labels.items()
        }
        for name, one in given.items():
            shape = columns[name].shape
            if shape[1:] not in {(), (len(one),)} or (shape[1:] and isinstance(one, Mapping)):
                raise InvalidInputError(
                    f"{len(one)} labels do not fit output {name!r} of shape {list(shape)}"
                )
        return given


def _listed(names: Names) -> list[str]:
    if isinstance(names, str):
        raise InvalidInputError(f"labels are a list of names, not one text: {names!r}")
    listed = [str(name) for name in names]
    if len(set(listed)) < len(listed):
        raise InvalidInputError(f"labels repeat: {', '.join(map(repr, listed[:10]))}")
    return listed


def _looked_up(array: NDArray[Any], names: Names, output: str) -> list[str]:
    """Return the name of each label; of a list, the labels are the places."""
    known = names if isinstance(names, Mapping) else dict(enumerate(names))
    values = array.tolist()
    missing = next((value for value in values if value not in known), None)
    if missing is not None:
        raise InvalidInputError(
            f"output {output!r} holds {missing!r}, which the labels do not name",
            hint="give a dict of label to name",
        )
    return [known[value] for value in values]


def _shapes(columns: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in columns.items())
