"""Other sizes than the sample's: batches and lengths at which a torch model must answer alike.

An exporter that fixes an axis at the size of its example says nothing of it, so a converted
module is believed only after it was asked at other sizes.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from converters import parity, reference
from converters.answers import Answer, Output
from converters.interrupts import reraise_interrupt
from converters.offline import Runner
from converters.onnx_graph import first_line
from converters.options import ConversionOptions
from converters.rows import Array, Rows
from converters.table import Question
from toolkit.errors import ConfigError, ToolkitError, UnsupportedModelError
from toolkit.spec import DType, TensorSpec

_BATCHES = (1, 2, 3, 7, 257)
_MOST_CELLS = 4_000_000
_OPEN = -1

Axis = tuple[str, int]
"""A tensor's name and one of its axes; axis 0 counts rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """Rows of another size, the original's answer, and in words what the size is."""

    what: str
    rows: Rows
    answer: Answer


def open_axes(question: Question, options: ConversionOptions) -> dict[str, tuple[int, ...]]:
    """Return the axes beyond the rows that may have any length, by tensor, none left out.

    Raises:
        ConfigError: the option names a tensor or an axis that the sample does not have.
    """
    tensors = question.rows.tensors
    for name, axes in options.dynamic_axes.items():
        if name not in tensors:
            msg = f"dynamic axis {name}:{axes[0]}: the sample has no tensor {name!r}"
            raise ConfigError(msg, hint=f"its tensors: {', '.join(tensors)}")
        for axis in axes:
            if not 0 < axis < tensors[name].ndim:
                shape = list(tensors[name].shape)
                msg = f"dynamic axis {name}:{axis}: {name!r} has the shape {shape}"
                hint = "axis 0 counts rows and is always open; the next is 1"
                raise ConfigError(msg, hint=hint)
    return {name: tuple(sorted(set(options.dynamic_axes.get(name, ())))) for name in tensors}


def inputs(question: Question, options: ConversionOptions) -> tuple[TensorSpec, ...]:
    """Return the inputs for these rows, -1 where an axis is open."""
    opened = open_axes(question, options)
    return tuple(
        TensorSpec(
            name,
            _dtype(name, array),
            tuple(
                _OPEN if axis in opened[name] else size
                for axis, size in enumerate(array.shape[1:], start=1)
            ),
        )
        for name, array in question.rows.tensors.items()
    )


def outputs(question: Question, options: ConversionOptions) -> tuple[TensorSpec, ...]:
    """Return the outputs as the original gives them, -1 where another length changes them.

    Raises:
        UnsupportedModelError: an output has no row for every row.
    """
    dims = [list(_rows_first(output, question.rows).dims) for output in question.answer]
    for trial in lengths(question, options):
        for sizes, output in zip(dims, trial.answer, strict=True):
            if len(sizes) != len(output.dims):
                msg = f"{output.name!r} has another number of axes {trial.what}"
                raise UnsupportedModelError(msg)
            for axis, size in enumerate(output.dims):
                sizes[axis] = sizes[axis] if sizes[axis] == size else _OPEN
    return tuple(
        TensorSpec(output.name, _dtype(output.name, output.values), tuple(sizes))
        for output, sizes in zip(question.answer, dims, strict=True)
    )


def squeezed(
    question: Question, options: ConversionOptions, found: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    """Return those of the outputs ``found`` that lose the rows' axis in a batch of one."""
    one = _batch(question.rows, 1, 0)
    if not reference.accepts(question.source, one, options.outputs):
        return ()
    given = reference.ask(question.source, one, options.outputs)
    return tuple(
        tensor
        for tensor, output in zip(found, given, strict=True)
        if _OPEN not in tensor.dims
        and output.values.shape != (1, *tensor.dims)
        and output.values.size == math.prod(tensor.dims)
    )


def check(question: Question, options: ConversionOptions, run: Runner) -> None:
    """Ask the converted model at other batch sizes, with other data and at other lengths.

    ``run`` takes tensors by the names of the rows and gives outputs in the original's order.

    Raises:
        UnsupportedModelError: it answers differently there, or not at all.
    """
    for trial in (*_batches(question, options), *lengths(question, options)):
        try:
            given = run(trial.rows.tensors)
        except ToolkitError:
            raise
        except Exception as error:  # Whatever the runtime raises at a size it was not made for.
            reraise_interrupt(error)
            msg = f"the converted module fails {trial.what}: {first_line(error)}"
            raise UnsupportedModelError(msg) from error
        found = parity.compare(
            trial.answer, given, trial.rows, atol=options.atol, rtol=options.rtol
        )
        if not found.passed:
            by = f"by up to {found.worst_absolute:.3g}" if found.worst_absolute else "in a label"
            if np.isinf(found.worst_absolute):
                by = f"in shape or by infinity ({found.worst_row})"
            msg = f"the converted module answers differently {trial.what}, {by}"
            raise UnsupportedModelError(msg)


def lengths(question: Question, options: ConversionOptions) -> list[Trial]:
    """Return trials in which open axes have other lengths, those that the original takes.

    Raises:
        UnsupportedModelError: the original takes no other length of an axis.
    """
    opened = open_axes(question, options)
    axes = [(name, axis) for name, found in opened.items() for axis in found]
    missing = set(axes)
    trials = []
    for together in _groups(question.rows, axes):
        size = question.rows.tensors[together[0][0]].shape[together[0][1]]
        for length in dict.fromkeys((size + 1, 2 * size, size - 1, size // 2, size + 32, 1)):
            if length in {0, size}:
                continue
            rows = _of_length(_batch(question.rows, 3, 0), together, length)
            named = ", ".join(f"{name}:{axis}" for name, axis in together)
            trial = _asked(question, options, rows, f"at length {length} of {named}")
            if trial is not None:
                trials.append(trial)
                missing -= set(together)
    if missing:
        name, axis = min(missing)
        size = question.rows.tensors[name].shape[axis]
        msg = f"{question.source.class_name} itself takes no other length than {size} of"
        raise UnsupportedModelError(
            f"{msg} {name}:{axis}", hint=f"leave out --dynamic-axis {name}:{axis}"
        )
    return trials


def _groups(rows: Rows, axes: list[Axis]) -> list[list[Axis]]:
    """Return which axes to change at once: those of one length in several tensors belong together.

    Equal axes of one tensor (the sides of an image) are changed one by one as well.
    """
    by_length: dict[int, list[Axis]] = {}
    by_place: dict[tuple[int, int], list[Axis]] = {}
    seen: dict[tuple[str, int], int] = {}
    for name, axis in axes:
        size = rows.tensors[name].shape[axis]
        place = seen.get((name, size), 0)
        seen[name, size] = place + 1
        by_length.setdefault(size, []).append((name, axis))
        by_place.setdefault((size, place), []).append((name, axis))
    groups = [*by_length.values(), *by_place.values()]
    return [group for i, group in enumerate(groups) if group not in groups[:i]]


def _batches(question: Question, options: ConversionOptions) -> Iterator[Trial]:
    """Yield batches of several sizes, each of other rows; then all above and all below zero."""
    rows = question.rows
    cells = max(array[0].size for array in rows.tensors.values())
    for start, size in enumerate(_BATCHES):
        if size > max(_BATCHES[-2], _MOST_CELLS // max(cells, 1)):
            continue
        trial = _asked(question, options, _batch(rows, size, 5 * start), f"in a batch of {size}")
        if trial is not None:
            yield trial
    signs = (("positive", np.abs), ("negative", lambda array: -np.abs(array)))
    for word, change in signs:
        few = _batch(rows, 3, 0)
        values = {n: change(a) if a.dtype.kind == "f" else a for n, a in few.tensors.items()}
        changed = dataclasses.replace(few, tensors=values)
        trial = _asked(question, options, changed, f"for {word} numbers")
        if trial is not None:
            yield trial


def _batch(rows: Rows, size: int, start: int) -> Rows:
    picks = (start + np.arange(size)) % rows.count
    return dataclasses.replace(
        rows, tensors={name: array[picks] for name, array in rows.tensors.items()}, sample_rows=0
    )


def _of_length(rows: Rows, axes: list[Axis], length: int) -> Rows:
    """Return rows whose ``axes`` are cut or repeated to ``length``."""
    values: dict[str, Array] = dict(rows.tensors)
    for name, axis in axes:
        values[name] = values[name].take(np.arange(length) % values[name].shape[axis], axis=axis)
    return dataclasses.replace(rows, tensors=values)


def _asked(question: Question, options: ConversionOptions, rows: Rows, what: str) -> Trial | None:
    if not reference.accepts(question.source, rows, options.outputs):
        return None
    answer = reference.ask(question.source, rows, options.outputs)
    return Trial(what, rows, tuple(_rows_first(output, rows) for output in answer))


def _rows_first(output: Output, rows: Rows) -> Output:
    """Return the output with rows first, which a ``squeeze`` takes from a batch of one.

    Raises:
        UnsupportedModelError: its first axis does not count rows.
    """
    values = output.values
    if values.shape[:1] == (rows.count,):
        return output
    if rows.count == 1:
        return dataclasses.replace(output, values=values[None])
    msg = f"{output.name!r} has the shape {list(values.shape)} for {rows.count} rows"
    raise UnsupportedModelError(
        f"{msg}: its first axis does not count them",
        hint="let forward give tensors whose first axis is the batch, and no others",
    )


def _dtype(name: str, array: Array) -> DType:
    try:
        return DType.from_numpy(array.dtype)
    except ValueError as error:
        msg = f"{name!r} is {array.dtype}, which Triton has no data type for"
        raise UnsupportedModelError(msg) from error
