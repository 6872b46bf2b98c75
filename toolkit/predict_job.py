"""Rows of any source through a served model, piece by piece."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.errors import InvalidInputError, RequestError, ToolkitError

if TYPE_CHECKING:
    from toolkit.client import Client
    from toolkit.tables import Block, Files, Piece, Source, Takes

_AT_ONCE = 32  # Batches in a piece; the bytes of a piece are bounded too.
_PIECE_BYTES = 1 << 25
_NOT_ASKED = "not asked, the server had stopped answering"


@dataclass(slots=True)
class Job:
    """The rows of a source through a model; counts what became of them."""

    client: "Client"
    model: str
    source: "Source | Files"
    flags: Mapping[str, Any]
    per_row: bool
    rows: int = 0
    failed: int = 0
    first: tuple[str, RequestError | None] | None = None
    given_up: bool = False
    classes: Sequence[str] = ()
    began: float = field(default_factory=time.monotonic)

    def blocks(self) -> "Iterator[Block]":
        """Yield the answers, piece by piece; the first has an answer.

        Raises the first error if no row is answered.
        """
        takes, batch = self._takes()
        size = _piece_rows(takes, min(self.flags["batch_size"] or batch, batch)) if batch else 0
        waiting: list[Block] = []
        answered = False
        for piece in self.source.pieces(takes, size or sys.maxsize):
            block = self._asked(piece, whole=not batch and not self.flags["batch_size"])
            answered = answered or len(block.errors) < block.count
            waiting.append(block)
            if answered:
                yield from waiting
                waiting.clear()
            elif piece.tensors:
                break
        if not answered:
            raise self._nothing()

    def _takes(self) -> "tuple[Takes, int]":
        """Return what the model takes, and how many rows at once; 0 without a batch axis."""
        from toolkit.pbtxt import FEATURE_NAMES
        from toolkit.tables import Takes

        version = self.flags["model_version"]
        config = self.client.config(self.model, version)
        names = config.get("parameters", {}).get(FEATURE_NAMES, {}).get("string_value", "[]")
        optional = (spec["name"] for spec in config.get("input", ()) if spec.get("optional"))
        inputs = self.client.metadata(self.model, version).inputs
        batch = int(config.get("max_batch_size", 0))
        dropped = frozenset(_listed(self.flags["drop"]))
        return Takes(inputs, frozenset(optional), tuple(json.loads(names)), dropped), batch

    def _asked(self, piece: "Piece", *, whole: bool) -> "Block":
        """Return the answers to a piece, an error for each row that has none."""
        from toolkit.tables import Block

        errors = dict(piece.errors)
        rows = piece.good.tolist() if piece.tensors else []
        outputs: Mapping[str, Any] = {}
        if self.given_up:
            errors.update((row, f"{piece.place(row)}: {_NOT_ASKED}") for row in rows)
        elif rows and whole:
            outputs = self._whole(piece, len(rows))
        elif rows:
            outputs = self._each(piece, rows, errors)
        self.rows += piece.count
        self.failed += len(errors)
        if errors and self.first is None:
            self.first = next(iter(sorted(errors.items())))[1], None
        return Block(piece.count, outputs, errors, piece.names, self.classes)

    def _each(self, piece: "Piece", rows: Sequence[int], errors: dict[int, str]) -> Any:
        outcomes = self.client.predict_many(
            self.model,
            piece.tensors,
            max_in_flight=self.flags["concurrency"],
            batch_size=self.flags["batch_size"],
            **self._request(),
        )
        answers, lost = [], []
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, RequestError):
                lost.append(outcome)
                errors[row] = f"{piece.place(row)}: {outcome.message}"
                self.first = self.first or (errors[row], outcome)
            else:
                answers.append(outcome)
        # A server that answers none of so many is gone; the rest would only wait for it.
        self.given_up = not answers and all(error.retryable for error in lost)
        if not answers:
            return {}
        self.classes = answers[0].class_names
        return {name: _stacked([answer[name] for answer in answers]) for name in answers[0]}

    def _whole(self, piece: "Piece", rows: int) -> Mapping[str, Any]:
        """Ask a model without a batch axis: what its answer has to do with rows is its own."""
        answer = self.client.predict(self.model, piece.tensors, **self._request())
        odd = [name for name, values in answer.items() if values.shape[:1] != (rows,)]
        if odd and (piece.errors or self.per_row):
            shape = list(answer[odd[0]].shape)
            raise InvalidInputError(
                f"model {self.model!r} gives {odd[0]!r} of shape {shape} for {rows} rows,"
                " which is not one a row",
                hint="leave --output and --format out, or ask with --batch-size 1",
            )
        self.classes = answer.class_names
        return dict(answer)

    def _request(self) -> dict[str, Any]:
        flags = self.flags
        return {
            "version": flags["model_version"],
            "outputs": _listed(flags["outputs"]) or None,
            "priority": flags["priority"],
        }

    def _nothing(self) -> ToolkitError:
        message, error = self.first or ("there were no rows", None)
        if error is not None:
            return error
        return InvalidInputError(f"{self.source.name}, {message}")

    def summary(self) -> dict[str, Any]:
        """Return what became of the rows."""
        seconds = time.monotonic() - self.began
        return {
            "rows": self.rows,
            "answered": self.rows - self.failed,
            "failed": self.failed,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / max(seconds, 1e-9), 1),
        }


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _piece_rows(takes: "Takes", batch: int) -> int:
    from toolkit.client.tensors import DTYPES

    width = sum(
        math.prod(max(dim, 1) for dim in spec.shape[1:]) * DTYPES[spec.datatype].itemsize
        for spec in takes.inputs
        if spec.datatype in DTYPES
    )
    return batch * max(1, min(_AT_ONCE, _PIECE_BYTES // max(width * batch, 1)))


def _stacked(values: Sequence[Any]) -> Any:
    """Return one array of all rows' values."""
    import numpy as np

    first = np.asarray(values[0])
    if first.dtype.kind != "O":
        return np.stack(values)
    array = np.empty((len(values), *first.shape), dtype=object)
    for row, value in enumerate(values):
        array[row] = value if first.shape else value.item()
    return array
