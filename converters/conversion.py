"""From a model file to a proven artifact: load, ask the original, convert, prove."""

import dataclasses
import shutil
from pathlib import Path

from converters import (
    anatomy,
    apart,
    hard_rows,
    loading,
    proof,
    quantize,
    reference,
    releases,
    samples,
    speed,
    steady,
    table,
)
from converters.extras import needed
from converters.options import ConversionOptions
from converters.rows import Rows
from converters.source import LoadedModel
from toolkit.artifact import Artifact
from toolkit.errors import ConfigError, ParityError, ToolkitError, UnsupportedModelError
from toolkit.spec import ModelSpec, Road, check_model_name

_MOST_CELLS = 2_000_000


def convert(path: Path, options: ConversionOptions, workdir: Path) -> Artifact:
    """Convert the model in ``path`` and prove it; write its files below ``workdir``.

    The rungs of its framework's ladder are tried in order, or those of ``options.road``
    alone. The first that proves is taken, with ``options.prefer`` ``speed`` the fastest of
    all that do. The artifact says in ``refused`` why each other one that was tried was left.

    Raises:
        ConversionError: the file, the model or the sample is no good, or, on a given
            road, the converted model answers differently.
        ConfigError: an option is invalid. MissingDependencyError: an extra is missing.
    """
    check_model_name(options.name)
    release = releases.find(options.release)
    source = loading.load(path, trusted=options.trusted, framework=options.framework)
    if options.dynamic_axes and source.framework != "torch":
        msg = f"--dynamic-axis is for torch modules, and this is a {source.framework} model"
        raise ConfigError(msg)
    # Only an ONNX model can be quantized.
    entries = table.ladder(source.framework, Road.ONNX if options.quantize else options.road)
    with needed(entries[0].extra):
        question = _ask(source, options, release)
    proven, wrong = _climbed(entries, question, options, workdir)
    if not proven:
        raise _no_road(source, _refused(entries, wrong))
    taken, slower = _weighed(proven, options)
    # The proof of a conversion is the same bytes each time, and times differ.
    recorded = _refused(entries, wrong | dict.fromkeys(slower, "right, but not the fastest"))
    return _artifact(taken, _refused(entries, wrong | slower), recorded, options)


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    """A rung that proved: what it gave in ``folder``, and what its user ought to know."""

    entry: table.Entry
    proven: proof.Proof
    notes: tuple[str, ...]
    cost: quantize.Quantization | None
    folder: Path


_Reasons = dict[table.Entry, str]
"""Why each of some rungs was left."""


def _climbed(
    entries: tuple[table.Entry, ...],
    question: table.Question,
    options: ConversionOptions,
    workdir: Path,
) -> tuple[list[_Candidate], _Reasons]:
    """Try the rungs until one proves, or all of them where speed is to choose."""
    proven: list[_Candidate] = []
    left: _Reasons = {}
    for entry in entries:
        folder = workdir / f"{entry.road.value}-{entry.rung}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            proven.append(_proven(entry, question, options, folder))
        except ToolkitError as error:
            # What goes wrong with a further rung, its extra is missing too, harms no proven one.
            expected = isinstance(error, UnsupportedModelError | ParityError)
            if len(entries) == 1 or not (expected or proven):
                raise
            left[entry] = error.message
        if proven and options.prefer != "speed":
            break
    return proven, left


def _weighed(proven: list[_Candidate], options: ConversionOptions) -> tuple[_Candidate, _Reasons]:
    """Return the rung to take, and what the others lose by; one alone is not measured."""
    if len(proven) == 1:
        return proven[0], {}
    times = speed.seconds([candidate.proven for candidate in proven], options.batch_size)
    best = speed.first_of_the_fastest(times)
    taken = proven[best]
    slower = {
        candidate.entry: speed.comparison(
            seconds / times[best], taken.entry.title, options.batch_size
        )
        for candidate, seconds in zip(proven, times, strict=True)
        if candidate is not taken
    }
    return taken, slower


def _refused(entries: tuple[table.Entry, ...], reasons: _Reasons) -> tuple[str, ...]:
    return tuple(f"{entry.title}: {reasons[entry]}" for entry in entries if entry in reasons)


def _ask(
    source: LoadedModel, options: ConversionOptions, release: releases.Release
) -> table.Question:
    first = samples.first_rows(source, options)
    # Asked at once, so that a sample the model refuses is told as such.
    outputs = tuple(out.name for out in reference.ask(source, first, options.outputs))
    asked = hard_rows.generate(
        source,
        first,
        _generated(first, options),
        options.seed,
        lambda block: reference.accepts(source, block, outputs),
    )
    return table.Question(source, asked, reference.ask(source, asked, outputs), release)


def _generated(first: Rows, options: ConversionOptions) -> int:
    """Return how many rows to make: fewer where one row is a large tensor."""
    a_row = sum(int(array[:1].size) for array in first.tensors.values())
    return min(options.generated_rows, max(_MOST_CELLS // max(a_row, 1), 10))


def _proven(
    entry: table.Entry, question: table.Question, options: ConversionOptions, folder: Path
) -> _Candidate:
    exactly = quantize.exactly(options) if options.quantize else options
    if entry.apart:
        converted = apart.convert(entry, question, exactly, folder)
    else:
        with needed(entry.extra):
            converted = entry.load()(question, exactly, folder)
    question = converted.question or question
    asked = question.rows.count
    if entry.road is Road.PYTHON:
        question = steady.steady(question)
    proven = proof.prove(question, converted, exactly)
    notes = (
        *converted.notes,
        *_left_out(asked - question.rows.count),
        *_compared_in_speed(entry, question, converted, options),
    )
    cost = None
    if options.quantize:
        proven, cost = quantize.quantized(proven, options, folder)
        notes = (*notes, quantize.sentence(cost, proven.report.rows))
    return _Candidate(entry, proven, notes, cost, folder)


def _artifact(
    taken: _Candidate,
    refused: tuple[str, ...],
    recorded: tuple[str, ...],
    options: ConversionOptions,
) -> Artifact:
    """Write the proof, with why other rungs were left as ``recorded``; return what was made."""
    entry, proven = taken.entry, taken.proven
    converted, question = proven.converted, proven.question
    written = proof.write(proven, options, recorded, taken.cost, taken.folder)
    return Artifact(
        spec=_named(converted.spec, question),
        road=entry.road,
        framework=question.source.framework,
        files={**converted.files, **written},
        parity=proven.report,
        warmup=proof.warmup(converted.spec, proven.inputs),
        rung=f"{entry.rung}, quantized" if options.quantize else entry.rung,
        refused=refused,
        notes=taken.notes,
    )


def _left_out(rows: int) -> tuple[str, ...]:
    if not rows:
        return ()
    why = "the original itself answers them otherwise in batches of other sizes"
    return (f"{rows} rows are no part of the proof: {why} (neighbours equally far)",)


def _compared_in_speed(
    entry: table.Entry,
    question: table.Question,
    converted: table.Converted,
    options: ConversionOptions,
) -> tuple[str, ...]:
    """Return a note if the original is faster, unless the fastest is taken anyway."""
    roads = {each.road for each in table.ladder(question.source.framework, options.road)}
    only_onnx = options.quantize or Road.PYTHON not in roads
    if options.prefer == "speed" or entry.road is not Road.ONNX or only_onnx:
        return ()
    times = speed.advantage_of_original(question, converted, options)
    if not speed.worth_a_word(times):
        return ()
    told = (
        f"{question.source.class_name} itself answers {options.batch_size} rows {times:.1f} times"
    )
    return (f"{told} as fast as this ONNX; --prefer speed serves it itself",)


def _named(spec: ModelSpec, question: table.Question) -> ModelSpec:
    """Keep the names of the columns where they are joined into one input, and of the classes."""
    columns = question.rows.columns if len(spec.inputs) == 1 else ()
    classes = anatomy.class_names(question.source.model)
    told = any(output.dims == (len(classes),) for output in spec.outputs)
    return dataclasses.replace(
        spec, feature_names=columns, class_names=classes if classes and told else ()
    )


def _no_road(source: LoadedModel, refused: tuple[str, ...]) -> UnsupportedModelError:
    tried = "; ".join(refused)
    msg = f"no road leads from this {source.class_name} to Triton: {tried}"
    return UnsupportedModelError(msg)
