"""The axes that a model wants: given where they are plain, explained where they are not."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.client.transport import TensorMetadata
from toolkit.errors import InvalidInputError


def fit(array: NDArray[Any], spec: TensorMetadata, *, column: bool) -> NDArray[Any]:
    """Return the array with the axes that the model wants: a lone row, or a plain column.

    ``column`` says that it came under a name, so that n values are n rows. Raises
    ``InvalidInputError`` with both shapes and, as its hint, what is likely wrong.
    """
    shape = spec.shape
    fitted = array
    if array.ndim == 0 and all(dim in {-1, 1} for dim in shape):
        fitted = array.reshape((1,) * len(shape))
    elif array.ndim == len(shape) - 1:
        is_row = shape[0] in {-1, 1} and _matches(array.shape, shape[1:])
        is_column = shape[-1] in {-1, 1} and _matches(array.shape, shape[:-1])
        if is_column and (column or not is_row):
            fitted = array[..., np.newaxis]
        elif is_row:
            fitted = array[np.newaxis]
    if array.size == 0:
        raise InvalidInputError(
            f"input {spec.name!r} got no rows (shape {list(array.shape)}), it takes {wanted(spec)}"
        )
    if fitted.ndim != len(shape) or not _matches(fitted.shape, shape):
        raise InvalidInputError(
            f"input {spec.name!r} takes {wanted(spec)}, got shape {list(array.shape)}",
            hint=likely_mistake(array.shape, shape),
        )
    return fitted


def wanted(spec: TensorMetadata) -> str:
    """Return the type and the shape of an input as a message shows them."""
    return f"{spec.datatype} of shape {list(spec.shape)}"


def wrong_width(given: int, trained: int) -> str:
    """Return what is likely wrong with rows of ``given`` values."""
    if given == trained + 1:
        return (
            f"one column too many: the model was trained on {trained};"
            " is the target, or an index, among them?"
        )
    if given == trained - 1:
        return f"one column too few: the model was trained on {trained}; did one become the index?"
    return f"the model was trained on {trained} columns, the rows have {given}"


def likely_mistake(given: Sequence[int], shape: Sequence[int]) -> str | None:
    """Return which of the two shapes is likely wrong and what to do, if it can be told."""
    given, shape = tuple(given), tuple(shape)
    if len(given) == len(shape):
        return _same_rank(given, shape)
    if len(given) == len(shape) - 1 and given:
        return _lone_row(given, shape)
    if len(given) == len(shape) + 1:
        spare = [axis for axis, dim in enumerate(given) if dim == 1]
        for axis in reversed(spare):
            if _matches(given[:axis] + given[axis + 1 :], shape):
                return f"an axis of length 1 too many: give rows.squeeze({axis})"
    return _flat(given, shape)


def _lone_row(given: tuple[int, ...], shape: tuple[int, ...]) -> str | None:
    if _matches(_moved(given), shape[1:]):
        return f"the channels come last: give rows.transpose({_order(given)})[None]"
    if _matches(_moved_back(given), shape[1:]):
        return f"the channels come first: give rows.transpose({_order_back(given)})[None]"
    if _matches(given, shape[1:]):
        return _fixed_batch(1, shape[0])
    row = (1, *given)
    return _same_rank(row, shape) if len(row) == 2 else _flat(row, shape)  # noqa: PLR2004


def _same_rank(given: tuple[int, ...], shape: tuple[int, ...]) -> str | None:
    if _matches(given[1:], shape[1:]):
        return _fixed_batch(given[0], shape[0])
    if len(given) == 2:  # noqa: PLR2004  rows x values
        if prod(given) == shape[1] > max(given):
            return "as many values as one row: give rows.reshape(1, -1)"
        transposed = abs(given[1] - shape[1]) > 1 and _matches(given[::-1], shape)
        return (
            "rows and columns look exchanged: give rows.T"
            if transposed
            else wrong_width(given[1], shape[1])
        )
    if _matches(_moved(given[1:]), shape[1:]):
        return f"the channels come last: give rows.transpose(0, {_order(given[1:], 1)})"
    if _matches(_moved_back(given[1:]), shape[1:]):
        return f"the channels come first: give rows.transpose(0, {_order_back(given[1:], 1)})"
    return _flat(given, shape)


def _flat(given: tuple[int, ...], shape: tuple[int, ...]) -> str | None:
    """Say so where a row has as many values as the model wants, in other axes."""
    row = shape[1:]
    if len(given) > 1 and row and -1 not in row and shape[0] == -1 and prod(given[1:]) == prod(row):
        return (
            f"as many values a row, in other axes: give rows.reshape({', '.join(map(str, shape))})"
        )
    return None


def _fixed_batch(given: int, rows: int) -> str:
    plural = "s" if rows != 1 else ""
    return (
        f"the model's shape is likely wrong: it was exported for exactly {rows} row{plural}, not"
        f" {given}; export it with a free first axis, or ask {rows} at a time"
    )


def _matches(given: Sequence[int], shape: Sequence[int]) -> bool:
    return len(given) == len(shape) and all(
        there in {-1, here} for here, there in zip(given, shape, strict=True)
    )


def _moved(row: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of a row with the last one first; none for what has no channels."""
    return (row[-1], *row[:-1]) if len(row) > 2 else ()  # noqa: PLR2004  an image or more


def _moved_back(row: tuple[int, ...]) -> tuple[int, ...]:
    return (*row[1:], row[0]) if len(row) > 2 else ()  # noqa: PLR2004


def _order(row: tuple[int, ...], first: int = 0) -> str:
    places = [*range(first, first + len(row))]
    return ", ".join(map(str, [places[-1], *places[:-1]]))


def _order_back(row: tuple[int, ...], first: int = 0) -> str:
    places = [*range(first, first + len(row))]
    return ", ".join(map(str, [*places[1:], places[0]]))
