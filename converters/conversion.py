"""From a model file to a proven artifact: load, ask the original, convert, prove."""

import dataclasses
import shutil
from pathlib import Path

from converters import loading, proof, reference, releases, rows, samples, table
from converters.extras import needed
from converters.options import ConversionOptions
from converters.source import LoadedModel
from toolkit.errors import ParityError, UnsupportedModelError
from toolkit.spec import Artifact, ModelSpec, Road, check_model_name


def convert(path: Path, options: ConversionOptions, workdir: Path) -> Artifact:
    """Convert the model in ``path`` and prove it; write its files below ``workdir``.

    The roads of its framework are tried in order, or ``options.road`` alone. The artifact
    says in ``refused`` why an earlier road was left.

    Raises:
        ConversionError: the file, the model or the sample is no good, or, on a given
            road, the converted model answers differently.
        ConfigError: an option is invalid. MissingDependencyError: an extra is missing.
    """
    check_model_name(options.name)
    release = releases.find(options.release)
    source = loading.load(path, trusted=options.trusted, framework=options.framework)
    entries = table.ladder(source.framework, options.road)
    with needed(entries[0].extra):
        question = _ask(source, options, release)
    refused: list[str] = []
    for entry in entries:
        folder = workdir / entry.road.value
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return _take(entry, question, options, tuple(refused), folder)
        except (UnsupportedModelError, ParityError) as error:
            if len(entries) == 1:
                raise
            refused.append(f"{entry.road.value}: {error.message}")
    raise _no_road(source, refused)


def _ask(
    source: LoadedModel, options: ConversionOptions, release: releases.Release
) -> table.Question:
    first = samples.first_rows(source, options)
    reference.ask(source, first)  # So that a sample the model refuses is told as such.
    asked = rows.generate(
        first, options.generated_rows, options.seed, lambda block: reference.accepts(source, block)
    )
    return table.Question(source, asked, reference.ask(source, asked), release)


def _take(
    entry: table.Entry,
    question: table.Question,
    options: ConversionOptions,
    refused: tuple[str, ...],
    folder: Path,
) -> Artifact:
    with needed(entry.extra):
        converted = entry.load()(question, options, folder)
    proven = proof.prove(question, converted, options)
    written = proof.write(proven, options, refused, folder)
    return Artifact(
        spec=_named(converted.spec, question),
        road=entry.road,
        framework=question.source.framework,
        files={**converted.files, **written},
        parity=proven.report,
        warmup=proof.warmup(converted.spec, proven.inputs),
        refused=refused,
    )


def _named(spec: ModelSpec, question: table.Question) -> ModelSpec:
    """Keep the names of the columns where they are joined into one input."""
    columns = question.rows.columns if len(spec.inputs) == 1 else ()
    return dataclasses.replace(spec, feature_names=columns)


def _no_road(source: LoadedModel, refused: list[str]) -> UnsupportedModelError:
    tried = "; ".join(refused)
    msg = f"no road leads from this {source.class_name} to Triton: {tried}"
    if source.framework != "torch":
        return UnsupportedModelError(msg)
    return UnsupportedModelError(
        f"{msg}; {Road.PYTHON.value}: a torch module has no predict",
        hint="wrap it in a class with predict, in a module of its own, and pickle that",
    )
