"""Rows of any source through a served model, piece by piece."""

import itertools
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.errors import InvalidInputError, RequestError, ToolkitError

if TYPE_CHECKING:
    from toolkit.client import Client, Prediction
    from toolkit.client.asking import Part
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
        from toolkit.client.asking import signature_of
        from toolkit.tables import Takes

        about = self.model, self.flags["model_version"]
        known = signature_of(self.client.metadata(*about), self.client.config(*about))
        dropped = frozenset(_listed(self.flags["drop"]))
        takes = Takes(known.metadata.inputs, known.optional, known.feature_names, dropped)
        return takes, known.max_batch_size

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
        import numpy as np

        from toolkit.client.asking import ask_about
        from toolkit.client.many import Plan

        flags = self.flags
        question = ask_about(self.model, timeout=flags["deadline"], **self._request())
        plan = Plan(question, piece.tensors, flags["concurrency"], flags["batch_size"])
        answers, lost, place = [], [], 0
        for part in itertools.chain.from_iterable(self.client.batches(plan)):
            asked = rows[place : place + part.count]
            place += part.count
            if not isinstance(part.outcome, RequestError):
                self.classes = part.outcome.class_names
                answers.append(self._columns(part))
                continue
            lost.append(part.outcome)
            errors.update((row, f"{piece.place(row)}: {part.outcome.message}") for row in asked)
            self.first = self.first or (errors[asked[0]], part.outcome)
        # A server that answers none of so many is gone; the rest would only wait for it.
        self.given_up = not answers and all(error.retryable for error in lost)
        if not answers:
            return {}
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _columns(self, part: "Part") -> Mapping[str, Any]:
        """Return the outputs of an answer with their axis of rows."""
        answer: Any = part.outcome
        if part.alone:
            return {name: values[None] for name, values in answer.items()}
        self._check(answer, part.count, "ask with --batch-size 1")
        return dict(answer)

    def _whole(self, piece: "Piece", rows: int) -> Mapping[str, Any]:
        """Ask a model without a batch axis: what its answer has to do with rows is its own."""
        answer = self.client.predict(self.model, piece.tensors, **self._request())
        if piece.errors or self.per_row:
            hint = "leave --output and --format out, or ask with --batch-size 1"
            self._check(answer, rows, hint)
        self.classes = answer.class_names
        return dict(answer)

    def _check(self, answer: "Prediction", rows: int, hint: str) -> None:
        """Raise ``InvalidInputError`` for an output that has not one value a row."""
        odd = [name for name, values in answer.items() if values.shape[:1] != (rows,)]
        if odd:
            shape = list(answer[odd[0]].shape)
            raise InvalidInputError(
                f"model {self.model!r} gives {odd[0]!r} of shape {shape} for {rows} rows,"
                " which is not one a row",
                hint=hint,
            )

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
