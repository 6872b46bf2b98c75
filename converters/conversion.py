"""From a model file to a proven artifact: load, ask the original, convert, prove."""

import dataclasses
import shutil
from pathlib import Path

from converters import (
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
from toolkit.errors import ConfigError, ParityError, UnsupportedModelError
from toolkit.spec import ModelSpec, Road, check_model_name

_MOST_CELLS = 2_000_000


def convert(path: Path, options: ConversionOptions, workdir: Path) -> Artifact:
    """Convert the model in ``path`` and prove it; write its files below ``workdir``.

    The rungs of its framework's ladder are tried in order, or those of ``options.road``
    alone. The artifact says in ``refused`` why each earlier rung was left.

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
    refused: list[str] = []
    faster = False
    for entry in entries:
        if faster and entry.road is Road.ONNX:
            refused.append(f"{entry.road.value} ({entry.rung}): the original is preferred")
            continue
        folder = workdir / f"{entry.road.value}-{entry.rung}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return _take(entry, question, options, tuple(refused), folder)
        except (UnsupportedModelError, ParityError) as error:
            if len(entries) == 1:
                raise
            faster = isinstance(error, _OriginalFasterError)
            refused.append(f"{entry.road.value} ({entry.rung}): {error.message}")
    raise _no_road(source, refused)


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


def _take(
    entry: table.Entry,
    question: table.Question,
    options: ConversionOptions,
    refused: tuple[str, ...],
    folder: Path,
) -> Artifact:
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
    written = proof.write(proven, options, refused, cost, folder)
    return Artifact(
        spec=_named(converted.spec, question),
        road=entry.road,
        framework=question.source.framework,
        files={**proven.converted.files, **written},
        parity=proven.report,
        warmup=proof.warmup(converted.spec, proven.inputs),
        rung=f"{entry.rung}, quantized" if options.quantize else entry.rung,
        refused=refused,
        notes=notes,
    )


def _left_out(rows: int) -> tuple[str, ...]:
    if not rows:
        return ()
    why = "the original itself answers them otherwise in batches of other sizes"
    return (f"{rows} rows are no part of the proof: {why} (neighbours equally far)",)


class _OriginalFasterError(UnsupportedModelError):
    """The converted model is right, and slower than the original."""


def _compared_in_speed(
    entry: table.Entry,
    question: table.Question,
    converted: table.Converted,
    options: ConversionOptions,
) -> tuple[str, ...]:
    """Return a note if the original is faster.

    Raises:
        _OriginalFasterError: it is, and speed is preferred.
    """
    roads = {each.road for each in table.ladder(question.source.framework, options.road)}
    if entry.road is not Road.ONNX or Road.PYTHON not in roads:
        return ()
    times = speed.advantage_of_original(question, converted, options)
    if not speed.worth_a_word(times):
        return ()
    told = (
        f"{question.source.class_name} itself answers {options.batch_size} rows {times:.1f} times"
    )
    if options.prefer == "speed":
        msg = f"{told} as fast"
        raise _OriginalFasterError(msg)
    return (f"{told} as fast as this ONNX; --prefer speed serves it itself",)


def _named(spec: ModelSpec, question: table.Question) -> ModelSpec:
    """Keep the names of the columns where they are joined into one input."""
    columns = question.rows.columns if len(spec.inputs) == 1 else ()
    return dataclasses.replace(spec, feature_names=columns)


def _no_road(source: LoadedModel, refused: list[str]) -> UnsupportedModelError:
    tried = "; ".join(refused)
    msg = f"no road leads from this {source.class_name} to Triton: {tried}"
    return UnsupportedModelError(msg)
