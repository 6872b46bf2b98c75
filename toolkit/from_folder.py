"""``convert --from-folder``: each model of a folder by its YAML, each in a process of its own.

What one of them does, a crash of its library included, stops no other; nor do two classes in
files of the same name meet.
"""

import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit import model_folders, screen
from toolkit.artifact import Artifact
from toolkit.conversion_flags import conversion_options
from toolkit.errors import (
    ConfigError,
    ModelFileError,
    SampleError,
    ToolkitError,
    UntrustedModelError,
)
from toolkit.model_yaml import Backend, FolderModel, is_inside
from toolkit.options import serving_config
from toolkit.repository import Written, write
from toolkit.spec import ServingConfig, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from converters import ConversionOptions

_OF_ONE_MODEL = ("name", "sample", "drop", "outputs", "framework", "dynamic_axes")
_OF_BATCHES = ("max_batch_size", "preferred_batch_size", "max_queue_delay_microseconds")
_MADE_UP = "the sample is made up, in the shape and data type of input in the YAML"
_OPEN_LENGTH = 8
_MOST_ROWS = 1000
_RESERVED = frozenset(
    {"model.py", "predictor.pkl", "predictor.json", "requirements.txt", "parity.json", "proof.npz"}
)


def check_usage(path: Path | None, folder: Path | None, flags: Mapping[str, Any]) -> None:
    """Raise ``click.UsageError`` unless either a file or a folder is to be converted."""
    if path is None and folder is None:
        msg = "Missing argument 'PATH': a model file, or --from-folder with a folder of them."
        raise click.UsageError(msg)
    if path is not None and folder is not None:
        msg = "PATH is one model file and --from-folder many: give one of them."
        raise click.UsageError(msg)
    given = [name for name in _OF_ONE_MODEL if flags[name]] if folder is not None else []
    if given:
        flag = "--" + given[0].replace("_", "-").replace("axes", "axis")
        msg = f"{flag} is about one model, and the YAML of each in the folder says it."
        raise click.UsageError(msg)


def convert_folder(folder: Path, repository: Path, flags: Mapping[str, Any]) -> bool:
    """Convert every model below ``folder``, say how each went, and whether all went well.

    Raises ``ConfigError`` if there is none.
    """
    reading = model_folders.read(folder)
    for path in reading.skipped:
        screen.note(f"{path} is left alone: it has no 'model:'")
    for path, refusal in reading.refused:
        screen.error(_of(path, refusal))
    good = 0
    for model in reading.models:
        try:
            artifact, written = _written(model, repository, flags)
        except ToolkitError as error:
            screen.error(_of(model.path, _hinted(error, folder)))
            continue
        good += 1
        click.echo(str(model.path))
        if flags["explain"]:
            _explain(artifact, flags)
        screen.converted(artifact, written, explained=flags["explain"])
    count = len(reading.models) + len(reading.refused)
    screen.note(f"{good} of {count} model(s) of {folder} converted")
    return good == count


def _of(path: Path, error: ToolkitError) -> ToolkitError:
    return ToolkitError(f"{path}: {error.message}", hint=error.hint)


def _hinted(error: ToolkitError, folder: Path) -> ToolkitError:
    if isinstance(error, UntrustedModelError):
        error.hint = f"toolkit convert --from-folder {folder} --trusted      (if you made them)"
    elif isinstance(error, SampleError):
        error.hint = "put rows that it takes beside the YAML: sample.npy, sample.csv"
    return error


def _explain(artifact: Artifact, flags: Mapping[str, Any]) -> None:
    from converters.table import ladder
    from toolkit.spec import Road

    road = Road(flags["road"]) if flags["road"] else None
    screen.ladder(ladder(artifact.framework, road), artifact)


def _written(
    model: FolderModel, repository: Path, flags: Mapping[str, Any]
) -> tuple[Artifact, Written]:
    said = _flags_of(model, flags)
    if model.target and not flags["trusted"]:
        raise UntrustedModelError(f"class {model.target} is Python code, and converting runs it")
    with tempfile.TemporaryDirectory() as workdir:
        with screen.progress(f"converting {model.name}"):
            artifact = _in_a_process(model, said, Path(workdir))
        if not artifact.spec.batched:  # There is nothing to join.
            said = {**said, **{name: flags[name] for name in _OF_BATCHES}}
        artifact = _described(model, artifact, said)
        return artifact, write(repository, artifact, serving_config(said, artifact))


def _flags_of(model: FolderModel, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags as if they were given for this model; those that were given win."""
    said = {name: value for name, value in model.serving.items() if flags[name] is None}
    return {**flags, **said, "name": model.name}


def _in_a_process(model: FolderModel, flags: Mapping[str, Any], workdir: Path) -> Artifact:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, model, flags, workdir), daemon=True)
    # Ctrl-C reaches all processes of a terminal; this one ends the other.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        raise ModelFileError(
            f"the process that converted it ended by itself (exit code {process.exitcode})",
            hint="its library crashed, or there is not enough memory for it",
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(answer, ToolkitError):
        raise answer
    assert isinstance(answer, Artifact)
    return answer


def _answer(
    pipe: "Connection[Any, Any]", model: FolderModel, flags: Mapping[str, Any], workdir: Path
) -> None:
    answer: object
    try:
        answer = _converted(model, flags, workdir)
    except ToolkitError as error:
        answer = error
    except Exception as error:  # noqa: BLE001 - a fault of this program spoils one model only
        text = " ".join(str(error).split())[:300]
        answer = ToolkitError(
            f"unexpected {type(error).__name__}: {text}",
            hint="convert the file by itself with toolkit --debug in front, and report it",
        )
    pipe.send(answer)


def _converted(model: FolderModel, flags: Mapping[str, Any], workdir: Path) -> Artifact:
    """Convert and prove one model below ``workdir``, which stays for its files."""
    from converters import convert, from_class

    staged = _staged(model, workdir)
    path = model.model_file or staged
    options = conversion_options(path, flags)
    if model.backend is Backend.PYTHON:
        return _python(model, options, staged, workdir)
    if model.target:
        assert model.model_file is not None
        source = from_class.ClassSource(model.target, model.kwargs, staged)
        path = from_class.with_weights(source, model.model_file)
        options = replace(options, trusted=True)
    sample = _sample(model)
    made = workdir / "converted"
    if sample is not None:
        return convert(path, replace(options, sample=sample), made)
    try:
        if model.backend is not Backend.TORCH:
            return convert(path, options, made)
    except SampleError:
        pass  # The model does not say what it takes; the YAML does.
    opened = tuple(axis for axis, size in enumerate(model.input.shape) if axis and size == -1)
    if opened and model.backend is Backend.TORCH:
        options = replace(options, dynamic_axes={from_class.INPUT: opened})
    return _noted(convert(path, replace(options, sample=_random(model)), made), _MADE_UP)


def _staged(model: FolderModel, workdir: Path) -> Path:
    """Return a folder with the sources of a class, and the file that it opens beside them."""
    folder = workdir / "sources"
    folder.mkdir()
    if model.target is None:
        return folder
    for source in sorted(model.path.parent.glob("*.py")):
        # A link that leaves the folder of models is none of its sources.
        if source.is_file() and is_inside(source, model.root):
            shutil.copyfile(source, folder / source.name)
    if model.backend is Backend.PYTHON and model.model_file is not None:
        name = model.model_file.name
        if name in _RESERVED or (folder / name).exists():
            raise ConfigError(f"model_file {name} has the name of another file of the entry")
        shutil.copyfile(model.model_file, folder / name)
    return folder


def _python(
    model: FolderModel, options: "ConversionOptions", staged: Path, workdir: Path
) -> Artifact:
    from converters import from_class

    sample = _sample(model)
    rows = _random(model) if sample is None else _as_declared(sample, model)
    made = workdir / "converted"
    made.mkdir()
    assert model.target is not None
    source = from_class.ClassSource(model.target, model.kwargs, staged)
    one = (1,) if model.output.shape[1:] == (1,) else ()
    gives = from_class.Gives(model.output.dtype, one)
    artifact = from_class.convert(source, rows, gives, options, made)
    beside = model.model_file
    files = {beside.name: staged / beside.name} if beside else {}
    artifact = replace(artifact, files={**artifact.files, **files})
    return artifact if sample is not None else _noted(artifact, _MADE_UP)


def _noted(artifact: Artifact, *notes: str) -> Artifact:
    return replace(artifact, notes=(*artifact.notes, *notes))


def _sample(model: FolderModel) -> Any:
    from toolkit.samples import read_rows

    return None if model.sample is None else read_rows(model.sample)


def _random(model: FolderModel) -> "np.ndarray[Any, Any]":
    """Return made-up rows of the declared shape and data type.

    Raises ``SampleError`` where a length is open and would be fixed by these rows.
    """
    from converters.from_class import INPUT
    from converters.samples import invented_tensors

    dims = model.input.shape[1:]
    stays_open = model.backend is Backend.ONNX or (model.backend is Backend.TORCH and model.target)
    if -1 in dims and not stays_open:
        raise SampleError(f"input.shape {list(model.input.shape)} leaves a length open")
    dims = tuple(_OPEN_LENGTH if size == -1 else size for size in dims)
    rows = invented_tensors((TensorSpec(INPUT, model.input.dtype, dims),), 0)
    return rows.tensors[INPUT]


def _as_declared(sample: Any, model: FolderModel) -> "np.ndarray[Any, Any]":
    """Return rows of a sample as one array of the declared data type."""
    import numpy as np

    array = np.column_stack(list(sample.values())) if isinstance(sample, dict) else sample
    try:
        array = array.astype(model.input.dtype.numpy_name)
    except (TypeError, ValueError) as error:
        raise SampleError(f"{model.sample} is not of the dtype of the input: {error}") from error
    if not model.input.fits(array.shape[1:], batched=True):
        shapes = f"{list(array.shape)}, and input.shape is {list(model.input.shape)}"
        raise SampleError(f"{model.sample} holds rows of shape {shapes}")
    return array[:_MOST_ROWS]


def _described(model: FolderModel, artifact: Artifact, said: Mapping[str, Any]) -> Artifact:
    """Check the artifact against the YAML, and note in it what the YAML says.

    Raises:
        ConfigError: the model takes rows of another shape than the YAML says.
    """
    spec = artifact.spec
    if len(spec.inputs) == 1 and not model.input.fits(spec.inputs[0].dims, batched=spec.batched):
        takes = list(spec.inputs[0].dims)
        takes = [-1, *takes] if spec.batched else takes
        raise ConfigError(
            f"input.shape is {list(model.input.shape)}, and the model takes {takes}",
            hint=f"input: {{shape: {takes}}}",
        )
    notes = (*model.notes, _batching(serving_config(said, artifact)))
    told = {"description": model.description, "declared_version": model.version}
    kept = tuple((key, text) for key, text in told.items() if text and spec.backend != "fil")
    spec = replace(spec, parameters=(*spec.parameters, *kept))
    return _noted(replace(artifact, spec=spec), *notes)


def _batching(serving: ServingConfig) -> str:
    sizes = ", ".join(map(str, serving.preferred_batch_size)) or "any size"
    wait = serving.max_queue_delay_microseconds / 1000
    return f"batches of {sizes} rows, at most {serving.max_batch_size}; waits {wait:g} ms for more"
