"""The proof rows beside a model: what was sent, and what the artifact answered offline.

``proof.npz`` in a version folder holds ``input:NAME`` and ``expected:NAME`` arrays; the
first axis counts rows. Texts are kept as unicode arrays, so nothing is ever unpickled.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import RepositoryError

ROWS_FILE = "proof.npz"
REPORT_FILE = "parity.json"


@dataclass(frozen=True, slots=True)
class ProofRows:
    """Rows and the artifact's own answers to each of them, computed one at a time."""

    inputs: Mapping[str, NDArray[Any]]
    expected: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def read_rows(version: Path) -> ProofRows | None:
    """Return the proof rows in a version folder, or None when it holds none.

    Raises ``RepositoryError`` for a file that cannot be read.
    """
    path = version / ROWS_FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: _as_sent(stored[name]) for name in stored.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RepositoryError(
            f"{path} is damaged: {error}", hint="convert the model again"
        ) from error
    inputs = _with_prefix(arrays, "input:")
    expected = _with_prefix(arrays, "expected:")
    if not inputs or not expected or len({len(array) for array in arrays.values()}) != 1:
        raise RepositoryError(
            f"{path} is damaged: rows are missing", hint="convert the model again"
        )
    return ProofRows(inputs, expected)


def batch_spread(version: Path) -> float:
    """Return how far an answer inside a batch was seen to be from the answer alone.

    0.0 says bit for bit the same, and is the answer for a version without a report.
    """
    path = version / REPORT_FILE
    if not path.is_file():
        return 0.0
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["report"]["batch_spread"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RepositoryError(
            f"{path} is damaged: {error}", hint="convert the model again"
        ) from error


def _as_sent(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(object) if array.dtype.kind == "U" else array


def _with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
