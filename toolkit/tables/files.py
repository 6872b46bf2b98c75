"""Images and texts, each file a row."""

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client import media
from toolkit.errors import InvalidInputError
from toolkit.tables.fitting import Piece, Takes


def is_media(path: Path) -> bool:
    """Return whether the name says that this is an image or a text."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    return kind.startswith(("image/", "text/"))


@dataclass(slots=True)
class Files:
    """The files of a folder, or a single one, in the order of their names."""

    name: str
    folder: Path
    paths: Sequence[Path]
    done: int = 0

    @property
    def path(self) -> Path | None:
        """The file, if it is a single one."""
        return self.paths[0] if len(self.paths) == 1 else None

    @property
    def read(self) -> float:
        """How much was read, from 0 to 1."""
        return self.done / len(self.paths)

    def close(self) -> None:
        """Do nothing: each file is closed once it is read."""

    def pieces(self, takes: Takes, rows: int) -> Iterator[Piece]:
        """Yield the rows for a model, ``rows`` files at a time.

        Raises ``InvalidInputError`` for a model that takes neither images nor texts.
        """
        if all(spec.datatype != "BYTES" and len(spec.shape) < 3 for spec in takes.inputs):  # noqa: PLR2004  height, width, and one more
            listed = ", ".join(f"{i.name} {i.datatype}{list(i.shape)}" for i in takes.inputs)
            raise InvalidInputError(
                f"{self.name}: the model takes neither images nor texts ({listed})",
                hint="give rows: CSV, Parquet, JSON, JSON Lines or NPY",
            )
        for start in range(0, len(self.paths), rows):
            yield self._piece(self.paths[start : start + rows], takes)

    def _piece(self, paths: Sequence[Path], takes: Takes) -> Piece:
        names = [str(path.relative_to(self.folder)) for path in paths]
        tensors: dict[str, list[NDArray[Any]]] = {}
        errors: dict[int, str] = {}
        for row, path in enumerate(paths):
            self.done += 1
            try:
                read: Any = media.to_rows(path, takes.inputs)
                _check_shape(read, tensors)
            except InvalidInputError as error:
                errors[row] = error.message
                continue
            for name, array in read.items():
                tensors.setdefault(name, []).append(array)
        joined = {name: np.concatenate(arrays) for name, arrays in tensors.items()}
        return Piece(len(paths), joined, errors, lambda row: names[row], names)


def _check_shape(
    read: Mapping[str, NDArray[Any]], before: Mapping[str, Sequence[NDArray[Any]]]
) -> None:
    for name, array in read.items():
        first = before.get(name, [array])[0]
        if array.shape != first.shape:
            raise InvalidInputError(
                f"has shape {list(array.shape[1:])}, the files before it {list(first.shape[1:])}"
            )
