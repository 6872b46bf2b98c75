"""Compare the original's answer with the converted model's, row by row."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converters.answers import Answer, Kind, Output
from converters.rows import Array, Rows

_MOST_SHOWN = 16

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs: the worst over all rows, and the worst row as it can be shown.

    ``over`` are the positions of the rows over the tolerance.
    """

    worst_absolute: float
    worst_relative: float
    label_mismatches: int
    over: tuple[int, ...]
    worst_row: Mapping[str, object] | None

    @property
    def rows_over(self) -> int:
        """How many rows are over the tolerance."""
        return len(self.over)

    @property
    def passed(self) -> bool:
        """Whether no row is over the tolerance."""
        return not self.over


def compare(
    answer: Answer, given: Mapping[str, Array], rows: Rows, *, atol: float, rtol: float
) -> Comparison:
    """Compare ``given`` (outputs by name, in the order of ``answer``) with ``answer``.

    Labels and texts must be equal; probabilities may differ by ``atol``, other numbers by
    ``atol`` or ``rtol`` of the original's, whichever is more. NaN equals NaN.
    """
    count = rows.count
    excess = np.zeros(count)
    mismatched = np.zeros(count, dtype=bool)
    absolute = relative = 0.0
    for output, values in zip(answer, given.values(), strict=True):
        if values.shape != output.values.shape:
            return _shapes_differ(output, values, rows)
        if output.kind is Kind.LABEL:
            wrong = (output.values != values).reshape(count, -1).any(axis=1)
            mismatched |= wrong
            excess = np.maximum(excess, np.where(wrong, np.inf, 0.0))
            continue
        difference, allowed, size = _differences(output, values, atol, rtol)
        excess = np.maximum(excess, _largest(np.nan_to_num(difference / allowed, posinf=np.inf)))
        absolute = max(absolute, float(difference.max(initial=0.0)))
        shares = np.divide(difference, size, out=np.zeros_like(difference), where=size > 0)
        relative = max(relative, float(shares.max(initial=0.0)))
    worst = int(excess.argmax())
    shown = _row(worst, rows, answer, given) if excess[worst] > 0 else None
    over = tuple(np.flatnonzero(excess > 1).tolist())
    return Comparison(absolute, relative, int(mismatched.sum()), over, shown)


def _largest(values: Floats) -> Floats:
    """Return the largest value of each row."""
    largest: Floats = values.reshape(len(values), -1).max(axis=1, initial=0.0)
    return largest


def _differences(
    output: Output, values: Array, atol: float, rtol: float
) -> tuple[Floats, Floats, Floats]:
    """Return absolute differences, what is allowed, and the original's magnitudes."""
    expected = output.values.astype(np.float64)
    found = values.astype(np.float64)
    with np.errstate(all="ignore"):
        difference = np.abs(expected - found)
        size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    share = 0.0 if output.kind is Kind.PROBABILITY else rtol
    # The smallest positive number keeps a tolerance of zero from dividing zero by zero.
    allowed = np.maximum(np.maximum(atol, share * size), np.finfo(np.float64).tiny)
    return difference, allowed, size


def spread(alone: Mapping[str, Array], together: Mapping[str, Array]) -> float:
    """Return the largest difference between a row's answer alone and inside a batch.

    0.0 is bit for bit the same; a label that differs is infinite.
    """
    largest = 0.0
    for name, one in alone.items():
        other = together[name]
        if one.shape != other.shape:
            return float("inf")
        if one.dtype.kind != "f":
            largest = max(largest, 0.0 if np.array_equal(one, other) else float("inf"))
            continue
        output = Output(name, Kind.VALUE, one)
        difference = _differences(output, other, 0.0, 0.0)[0]
        largest = max(largest, float(difference.max(initial=0.0)))
    return largest


def _shapes_differ(output: Output, values: Array, rows: Rows) -> Comparison:
    shown: dict[str, object] = {
        "output": output.name,
        "original_shape": list(output.values.shape),
        "converted_shape": list(values.shape),
    }
    return Comparison(float("inf"), float("inf"), 0, tuple(range(rows.count)), shown)


def _row(index: int, rows: Rows, answer: Answer, given: Mapping[str, Array]) -> dict[str, object]:
    return {
        "row": index,
        "from": rows.kind_of(index),
        "inputs": {name: _plain(array[index]) for name, array in rows.tensors.items()},
        "original": {output.name: _plain(output.values[index]) for output in answer},
        "converted": {
            output.name: _plain(values[index])
            for output, values in zip(answer, given.values(), strict=True)
        },
    }


def _plain(value: object) -> object:
    """Return one row's tensor as plain numbers and texts, its beginning if it is long."""
    array = np.asarray(value)
    flat = [_json_safe(cell) for cell in array.ravel()[:_MOST_SHOWN].tolist()]
    if not array.ndim:
        return flat[0]
    return [*flat, "..."] if array.size > _MOST_SHOWN else flat


def _json_safe(cell: object) -> object:
    # JSON has no NaN and no infinity.
    return str(cell) if isinstance(cell, float) and not np.isfinite(cell) else cell
