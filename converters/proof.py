"""Prove a converted model, and write the proof beside it: ``parity.json``, ``proof.npz``.

Both are the same bytes for the same conversion, so that converting again changes nothing.
"""

import dataclasses
import importlib.metadata
import json
import zipfile
from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path

import numpy as np

from converters import causes, offline, parity
from converters.interrupts import reraise_interrupt
from converters.onnx_graph import first_line
from converters.options import ConversionOptions
from converters.rows import Array, Rows, sent
from converters.table import Converted, Question
from toolkit.artifact import ParityReport, WarmupInput
from toolkit.errors import ParityError, ToolkitError, UnsupportedModelError
from toolkit.spec import DType, ModelSpec, Road

_MOST_KEPT_ROWS = 256
_MOST_KEPT_BYTES = 16_000_000
_ROUNDING = 1e-4
PART_SIZES = (2, 7)  # Batches besides one row and all rows: Triton makes any.
_ROADS = {
    "onnxruntime": Road.ONNX,
    "pytorch": Road.TORCHSCRIPT,
    "python": Road.PYTHON,
    "fil": Road.FIL,
}
_LIBRARIES = {
    "sklearn": ("scikit-learn", "skl2onnx"),
    "xgboost": ("xgboost", "onnxmltools"),
    "lightgbm": ("lightgbm", "onnxmltools"),
    "catboost": ("catboost",),
    "torch": ("torch", "onnxscript"),
    "torchscript": ("torch",),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """The report, the rows as they are sent and the artifact's answers to each alone."""

    question: Question
    converted: Converted
    report: ParityReport
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]


def prove(question: Question, converted: Converted, options: ConversionOptions) -> Proof:
    """Run the converted model on the rows and compare.

    Raises:
        ParityError: it answers differently, or not at all; the worst row is in the message.
        UnsupportedModelError: its answer to a row depends on the rows beside it.
    """
    spec, rows = converted.spec, question.rows
    inputs = sent(rows, spec.inputs)
    kept = rows_to_keep(rows)
    first = {name: array[kept] for name, array in inputs.items()}
    try:
        folder = next(iter(converted.files.values())).parent
        run = offline.open_runner(spec, folder, threads(question, options))
        together = run(inputs) if spec.batched else offline.run_rows(spec, run, inputs, rows.count)
        alone = offline.run_rows(spec, run, first, len(kept))
        parts = [offline.run_parts(run, first, size) for size in PART_SIZES if spec.batched]
    except ToolkitError:
        raise
    except Exception as error:  # Whatever the runtime raises on rows the original takes.
        reraise_interrupt(error)
        msg = f"the converted model fails on rows the original answers: {first_line(error)}"
        raise ParityError(msg) from error
    found = parity.compare(question.answer, together, rows, atol=options.atol, rtol=options.rtol)
    batch = {name: value[kept] for name, value in together.items()}
    spread = max(parity.spread(alone, other) for other in (batch, *parts))
    report = _report(question, found, spread, options)
    if not report.passed:
        cause = causes.of(question, found, together)
        raise ParityError(_failure(found, report, cause), hint=_hint(question, options))
    for other in (batch, *parts):
        _check_independence(question, rows.pick(kept), alone, other, options)
    return Proof(question, converted, report, first, alone)


def _check_independence(
    question: Question,
    rows: Rows,
    alone: Mapping[str, Array],
    batch: Mapping[str, Array],
    options: ConversionOptions,
) -> None:
    """Refuse a model that mixes rows: Triton would put those of several callers together.

    What other rows change by rounding is no mixing, even for a caller who wants no tolerance.
    """
    answer = tuple(
        dataclasses.replace(output, values=values)
        for output, values in zip(question.answer, alone.values(), strict=True)
    )
    atol, rtol = max(options.atol, _ROUNDING), max(options.rtol, _ROUNDING)
    found = parity.compare(answer, batch, rows, atol=atol, rtol=rtol)
    if found.passed:
        return
    size = "another label" if found.label_mismatches else f"up to {found.worst_absolute:.3g}"
    msg = (
        "the model answers a row differently when other rows are in the batch"
        f" (by {size}), so requests cannot share a batch"
    )
    hint = "write the batch out of the graph, or serve it by hand with max_batch_size: 0"
    raise UnsupportedModelError(msg, hint=hint)


def threads(question: Question, options: ConversionOptions) -> int | None:
    """Return the threads of the offline session: 1 for tabular models unless told."""
    if options.intra_op_thread_count is None and question.source.framework in {
        "sklearn",
        "xgboost",
        "lightgbm",
        "catboost",
        "predictor",
    }:
        return 1
    return options.intra_op_thread_count


def rows_to_keep(rows: Rows) -> Array:
    """Choose rows of the sample and hard ones, as many of either, evenly spaced."""
    a_row = sum(max(int(np.asarray(array[0]).nbytes), 1) for array in rows.tensors.values())
    most = max(1, min(rows.count, _MOST_KEPT_ROWS, _MOST_KEPT_BYTES // a_row))
    made = rows.count - rows.sample_rows
    of_sample = min(rows.sample_rows, max(most - made, (most + 1) // 2))
    sample = np.linspace(0, rows.sample_rows - 1, of_sample)
    hard = np.linspace(rows.sample_rows, rows.count - 1, most - of_sample)
    kept: Array = np.unique(np.concatenate([sample, hard]).astype(np.int64))
    return kept


def _report(
    question: Question, found: parity.Comparison, spread: float, options: ConversionOptions
) -> ParityReport:
    versions = _versions(question.source.framework, options.road)
    library = _LIBRARIES.get(question.source.framework, ("onnxruntime",))[0]
    if question.source.framework == "predictor":
        library = "numpy"
    reference = f"{question.source.class_name} ({library} {versions[library]})"
    if question.source.framework == "onnx":
        reference = f"ONNX file (onnxruntime {versions['onnxruntime']})"
    return ParityReport(
        reference=reference,
        rows=question.rows.count,
        sample_rows=question.rows.sample_rows,
        worst_absolute=found.worst_absolute,
        worst_relative=found.worst_relative,
        label_mismatches=found.label_mismatches,
        batch_spread=spread,
        atol=options.atol,
        rtol=options.rtol,
        passed=found.passed,
        kinds=question.rows.counted(),
        worst_row=found.worst_row,
        versions=versions,
    )


def _versions(framework: str, road: Road | None) -> dict[str, str]:
    names = [*_LIBRARIES.get(framework, ()), "numpy", "onnx", "onnxruntime"]
    names += ["treelite"] if road is Road.FIL else []
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # A road that was not taken needs no library.
    return versions


def _failure(found: parity.Comparison, report: ParityReport, cause: str | None) -> str:
    over, labels, rows = found.rows_over, report.label_mismatches, report.rows
    what = (
        f"gives another label for {labels} of {rows} rows"
        if labels
        else f"differs on {over} of {rows} rows, by up to {report.worst_absolute:.3g}"
    )
    why = f" ({cause})" if cause else ""
    row = json.dumps(report.worst_row, ensure_ascii=False)
    return f"the converted model {what}{why}; worst row: {row}"


def _hint(question: Question, options: ConversionOptions) -> str | None:
    if options.road is Road.FIL:
        return "leave --road fil out; if callers hold float32 numbers, --sample with such a .npy"
    return "--road python serves the original itself" if question.source.pickled else None


def write(
    proof: Proof,
    options: ConversionOptions,
    refused: tuple[str, ...],
    quantization: object,
    workdir: Path,
) -> dict[str, Path]:
    """Write ``parity.json`` and ``proof.npz`` into ``workdir``; return name to path.

    ``quantization`` is a dataclass of what quantizing cost, or ``None``.
    """
    question, spec = proof.question, proof.converted.spec
    document = {
        "framework": question.source.framework,
        "road": _ROADS[spec.backend].value,
        "refused": list(refused),
        "release": question.release.name,
        "release_onnxruntime": question.release.onnxruntime,
        "source_sha256": _digest(question.source.path),
        "model_sha256": _digest(proof.converted.files[spec.model_file]),
        "intra_op_thread_count": threads(question, options),
        "seed": options.seed,
        "report": _finite(dataclasses.asdict(proof.report)),
    }
    if dataclasses.is_dataclass(quantization) and not isinstance(quantization, type):
        document["quantization"] = dataclasses.asdict(quantization)
    report = workdir / "parity.json"
    report.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = workdir / "proof.npz"
    arrays = {f"input:{name}": array for name, array in proof.inputs.items()}
    arrays |= {f"expected:{name}": array for name, array in proof.expected.items()}
    _write_arrays(rows, arrays)
    return {report.name: report, rows.name: rows}


def _finite(report: dict[str, object]) -> dict[str, object]:
    """Spell out infinities, which JSON cannot hold."""
    return {
        key: str(value) if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in report.items()
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an ``.npz`` that is the same bytes every time: ``np.savez`` adds the time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            texts = array.astype("U") if array.dtype == object else array
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(texts), allow_pickle=False)


def warmup(spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, WarmupInput]:
    """Return the first row of each input in Triton's raw binary form."""
    return {
        tensor.name: WarmupInput(
            tuple(inputs[tensor.name].shape[1:]),
            _raw(inputs[tensor.name][0], tensor.dtype),
        )
        for tensor in spec.inputs
    }


def _raw(row: Array, dtype: DType) -> bytes:
    if dtype is not DType.BYTES:
        return np.ascontiguousarray(row).tobytes()
    texts = [str(text).encode("utf-8") for text in np.asarray(row).ravel().tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
