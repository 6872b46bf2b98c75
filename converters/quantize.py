"""Make a proven ONNX model smaller: int8 weights (``dynamic``) or half precision (``fp16``).

A quantized model is never the same as the original. It is judged by a tolerance of its own
and by how often the labels agree, and what it costs is measured and told.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters import int8_graph, offline, onnx_graph, parity, proof
from converters.answers import Answer, Kind, Output
from converters.interrupts import reraise_interrupt
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Array, Rows, sent
from converters.table import Converted, Question
from toolkit.artifact import ParityReport
from toolkit.errors import ModelFileError, ParityError, UnsupportedModelError

TOLERANCES: Mapping[str, float] = {"dynamic": 0.05, "fp16": 0.01}
"""What a kind may cost when nobody says otherwise: the share of an output's size."""

ROWS_TO_HOLD = 0.99
"""The share of rows, rounded down, on which a quantized model must hold its tolerance."""

_ROUNDING = 1e-4
_LARGEST_HALF = 65504.0
_ROWS_AT_ONCE = 16
_HINT = "allow more with --atol and --rtol, or leave --quantize out"


@dataclasses.dataclass(frozen=True, slots=True)
class Quantization:
    """What quantizing cost and gained.

    The differences are from the original, of the ONNX model before and of the quantized
    one after. ``label_agreement`` is the share of rows with the original's label, or with
    its largest column at the same place; ``None`` where the model gives neither.
    """

    kind: str
    bytes_before: int
    bytes_after: int
    worst_absolute_before: float
    worst_absolute_after: float
    label_agreement: float | None


def exactly(options: ConversionOptions) -> ConversionOptions:
    """Return the options under which the model is proven before it is quantized."""
    atol, rtol = min(options.atol, _ROUNDING), min(options.rtol, _ROUNDING)
    return dataclasses.replace(options, atol=atol, rtol=rtol)


def quantized(
    exact: proof.Proof, options: ConversionOptions, workdir: Path
) -> tuple[proof.Proof, Quantization]:
    """Quantize a proven ONNX model into ``workdir``; prove that by its own rule.

    On 99 % of the rows, labels must be the original's, and a number may differ by
    ``options.atol``, or by ``options.rtol`` of the largest number in that row of the
    output (of the median row, where that is more). On all, what was finite stays so.

    Raises:
        UnsupportedModelError: there is nothing to quantize, or ONNX Runtime cannot.
        ParityError: it differs by more.
    """
    import onnx

    kind = str(options.quantize)
    before = exact.converted.files["model.onnx"]
    model = onnx.load(str(before))
    shrink: dict[str, Callable[[Any, Path], Any]] = {"dynamic": int8_graph.shrink, "fp16": _fp16}
    with quiet(), _no_advice():
        smaller = shrink[kind](model, workdir)
    if kind == "fp16":
        _check_range(before, exact)
    data = onnx_graph.finished(smaller, options.name, exact.question.release.limits)
    _check_signature(before, data)
    path = workdir / "model.onnx"
    size = before.stat().st_size
    path.write_bytes(data)
    converted = dataclasses.replace(
        exact.converted, files={**exact.converted.files, "model.onnx": path}
    )
    return _judged(exact, converted, options, (size, len(data)))


def _check_signature(before: Path, data: bytes) -> None:
    try:
        found = onnx_graph.signature(onnx_graph.session(data))
    except ModelFileError as error:
        msg = f"the quantized graph does not load: {error.message}"
        raise UnsupportedModelError(msg) from error
    if found != onnx_graph.signature(onnx_graph.session(before)):
        msg = "quantizing changed the inputs or outputs of the graph"
        raise UnsupportedModelError(msg)


def _judged(
    exact: proof.Proof, converted: Converted, options: ConversionOptions, sizes: tuple[int, int]
) -> tuple[proof.Proof, Quantization]:
    question, spec = exact.question, converted.spec
    inputs = sent(question.rows, spec.inputs)
    folder = converted.files["model.onnx"].parent
    run = offline.open_runner(spec, folder, proof.threads(question, options))
    count = question.rows.count
    together = run(inputs) if spec.batched else offline.run_rows(spec, run, inputs, count)
    kept = len(next(iter(exact.inputs.values())))
    alone = offline.run_rows(spec, run, exact.inputs, kept)
    batch = run(exact.inputs) if spec.batched else alone
    found = parity.compare(
        question.answer, together, question.rows, atol=options.atol, rtol=options.rtol
    )
    report = dataclasses.replace(
        exact.report,
        worst_absolute=found.worst_absolute,
        worst_relative=found.worst_relative,
        label_mismatches=found.label_mismatches,
        batch_spread=parity.spread(alone, batch),
        atol=options.atol,
        rtol=options.rtol,
        passed=True,
        worst_row=found.worst_row,
    )
    cost = Quantization(
        kind=str(options.quantize),
        bytes_before=sizes[0],
        bytes_after=sizes[1],
        worst_absolute_before=exact.report.worst_absolute,
        worst_absolute_after=found.worst_absolute,
        label_agreement=_agreement(question.answer, together),
    )
    _check(question, together, report, cost)
    _check_independence(question, alone, batch, options)
    return dataclasses.replace(exact, converted=converted, report=report, expected=alone), cost


def sentence(cost: Quantization, rows: int) -> str:
    """Return in one line what quantizing cost."""
    labels = ""
    if cost.label_agreement is not None:
        labels = f"; labels agree on {round(cost.label_agreement * rows)} of {rows} rows"
    return (
        f"quantized ({cost.kind}): {cost.bytes_before:,} -> {cost.bytes_after:,} bytes, differs by"
        f" up to {cost.worst_absolute_after:.3g} (before: {cost.worst_absolute_before:.3g}){labels}"
    )


def _check(
    question: Question,
    given: Mapping[str, Array],
    report: ParityReport,
    cost: Quantization,
) -> None:
    """Raise ``ParityError`` where a number is over the tolerance or too many labels differ."""
    spared = report.rows - int(ROWS_TO_HOLD * report.rows)
    if report.label_mismatches > spared:
        msg = f"{sentence(cost, report.rows)}, and {ROWS_TO_HOLD:.0%} must"
        raise ParityError(msg, hint="leave --quantize out")
    for output, values in zip(question.answer, given.values(), strict=True):
        if output.kind is Kind.LABEL:
            continue
        over = _rows_over(output, values, (report.atol, report.rtol), question.rows)
        lost = int((np.isfinite(output.values) & ~np.isfinite(values)).sum())
        if over > spared or lost:
            what = f"{lost} numbers are no longer finite" if lost else f"{over} rows are over"
            msg = f"{sentence(cost, report.rows)}: {what} in {output.name!r}"
            msg += f" (atol {report.atol:g}, rtol {report.rtol:g})"
            raise ParityError(msg, hint=_HINT)


def _rows_over(output: Output, values: Array, tolerance: tuple[float, float], rows: Rows) -> int:
    """Count the rows with a number that differs by more than the tolerance.

    What int8 rounds off is a share of the largest number, not of each: one near zero would
    never hold a relative tolerance of its own.
    """
    expected = output.values.astype(np.float64).reshape(rows.count, -1)
    found = values.astype(np.float64).reshape(rows.count, -1)
    with np.errstate(all="ignore"):
        same = (expected == found) | (np.isnan(expected) & np.isnan(found))
        difference = np.where(same, 0.0, np.abs(expected - found))
        finite = np.where(np.isfinite(expected), np.abs(expected), 0.0)
        largest = finite.max(axis=1, initial=0.0)
        largest = np.maximum(largest, np.median(largest))
        atol, rtol = tolerance
        share = 0.0 if output.kind is Kind.PROBABILITY else rtol
        allowed = np.maximum(atol, share * largest)[:, None]
        # Written so that NaN counts.
        return int((~(difference <= allowed)).any(axis=1).sum())


def _agreement(answer: Answer, given: Mapping[str, Array]) -> float | None:
    """Return the share of rows whose labels, or else whose largest columns, are the same."""
    pairs = list(zip(answer, given.values(), strict=True))
    labels = [(out.values, values) for out, values in pairs if out.kind is Kind.LABEL]
    if not labels:
        labels = [
            (out.values.argmax(axis=1), values.argmax(axis=1))
            for out, values in pairs
            if out.values.ndim == 2 and out.values.shape[1] > 1  # noqa: PLR2004 - a matrix
        ]
    if not labels:
        return None
    same = [(a == b).reshape(len(a), -1).all(axis=1) for a, b in labels]
    return float(np.logical_and.reduce(same).mean())


def _check_independence(
    question: Question,
    alone: Mapping[str, Array],
    batch: Mapping[str, Array],
    options: ConversionOptions,
) -> None:
    """Refuse a graph that mixes rows; half precision rounds what a batch changes once more."""
    rows = question.rows.take(len(next(iter(alone.values()))))
    half = options.quantize == "fp16"
    allowed = (options.atol, options.rtol) if half else (_ROUNDING, _ROUNDING)
    for output, values, beside in zip(question.answer, alone.values(), batch.values(), strict=True):
        if output.kind is Kind.LABEL:
            continue
        one = dataclasses.replace(output, values=values)
        if _rows_over(one, beside, allowed, rows):
            msg = "the quantized model answers a row differently when other rows are in the batch"
            raise UnsupportedModelError(f"{msg}, so requests cannot share a batch")


def _check_range(before: Path, exact: proof.Proof) -> None:
    """Refuse a model that computes with numbers above the largest of half precision.

    On a CPU ONNX Runtime computes in float32 all the same, so that no answer shows it.
    """
    import onnx

    question, spec = exact.question, exact.converted.spec
    model = onnx.load(str(before))
    shown = {value.name for value in model.graph.output} | {""}
    inside = [name for node in model.graph.node for name in node.output if name not in shown]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside)
    session = onnx_graph.session(model.SerializeToString())
    names = [value.name for value in session.get_outputs() if value.type == "tensor(float)"]
    inputs = sent(question.rows, spec.inputs)
    step = _ROWS_AT_ONCE if spec.batched else 1
    for start in range(0, question.rows.count, step):
        part = slice(start, start + step) if spec.batched else start
        feeds = {name: array[part] for name, array in inputs.items()}
        for name, values in zip(names, session.run(names, feeds), strict=True):
            finite = np.abs(values[np.isfinite(values)])
            if finite.max(initial=0.0) > _LARGEST_HALF:
                msg = f"--quantize fp16 does not hold it: {name!r} reaches {finite.max():.3g}"
                msg += f", and half precision ends at {_LARGEST_HALF:g}"
                raise UnsupportedModelError(msg, hint="--quantize dynamic keeps the range")


def _fp16(model: Any, _workdir: Path) -> Any:
    """Return the model in half precision inside, its inputs and outputs as they were."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    wide = onnx.TensorProto.FLOAT
    del model.graph.value_info[:]
    before = sum(tensor.data_type == wide for tensor in model.graph.initializer)
    try:
        smaller = convert_float_to_float16(model, keep_io_types=True)
    except Exception as error:  # It raises anything on graphs it does not know.
        reraise_interrupt(error)
        msg = f"onnxruntime cannot make half precision of it: {onnx_graph.first_line(error)}"
        raise UnsupportedModelError(msg) from error
    if sum(tensor.data_type == wide for tensor in smaller.graph.initializer) == before:
        raise int8_graph.nothing(
            "fp16", "the graph has no float32 weights (trees, or float64 inside)"
        )
    return smaller


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Keep the advice that onnxruntime.quantization logs from the terminal."""
    root = logging.getLogger()
    level, silent = root.level, logging.NullHandler()
    root.addHandler(silent)  # Without one, the first message would set up a handler for good.
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(silent)
