"""A class named ``module:Class``: made from its source, asked, and served by the host.

The entry holds the source of its module and a recipe, a pickle that calls the class again, so
that what cannot be pickled itself can be served.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from converters import from_predictor, hard_rows, proof, releases, table
from converters.answers import Kind, Output
from converters.extras import needed
from converters.interrupts import reraise_interrupt
from converters.modules import importable
from converters.options import ConversionOptions
from converters.reference import quiet
from converters.rows import Array, Form, Rows
from converters.source import LoadedModel
from converters.table import Question
from toolkit.artifact import Artifact
from toolkit.errors import ModelFileError, SampleError, UnsupportedModelError
from toolkit.spec import DType, ModelSpec, Road, TensorSpec

INPUT, OUTPUT = "input", "prediction"


@dataclass(frozen=True, slots=True)
class ClassSource:
    """A class, ``module:Class``, what it is called with, and the folder of its sources."""

    target: str
    kwargs: Mapping[str, Any]
    folder: Path

    @property
    def found(self) -> Any:
        """The class itself, whose module is imported from the folder or the environment."""
        module, _, name = self.target.partition(":")
        with importable(self.folder):
            return getattr(import_module(module), name)


def made(source: ClassSource) -> Any:
    """Import the class and make one.

    Raises:
        ModelFileError: there is no such module or class, or it raises.
    """
    try:
        with importable(source.folder), quiet():
            return source.found(**source.kwargs)
    except (Exception, SystemExit) as error:  # It is somebody's code, and so raises anything.
        reraise_interrupt(error)
        raise ModelFileError(
            f"{source.target} cannot be made: {_told(error)}",
            hint="class is module:Class, with module.py beside the YAML or installed,"
            " and kwargs are what the class is called with",
        ) from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def with_weights(source: ClassSource, weights: Path) -> Path:
    """Make a torch module, load its ``state_dict``, and save the whole in its folder.

    Raises:
        ModelFileError: the file holds something else, or the two do not fit.
    """
    with needed("torch"):
        import torch
    module = made(source)
    if not isinstance(module, torch.nn.Module):
        raise ModelFileError(
            f"{source.target} is no torch.nn.Module", hint="or say backend: python"
        )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelFileError(
            f"{weights.name} holds no state_dict, which a class is given for",
            hint="leave class out for a file that holds the module itself",
        ) from error
    nested = (state.get(key) for key in ("state_dict", "model_state_dict"))
    try:
        module.load_state_dict(next((each for each in nested if isinstance(each, dict)), state))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{weights.name} does not fit {source.target}: {_told(error)}"
        ) from error
    whole = source.folder / "module.pt"
    torch.save(module.eval(), whole)
    return whole


@dataclass(frozen=True, slots=True)
class Gives:
    """The data type of the answers; ``one`` are the dims of an answer of one value a row."""

    dtype: DType
    one: tuple[int, ...] = ()


class _Recipe:
    """Unpickles to what ``maker`` gives when it is called."""

    def __init__(self, maker: Callable[[], Any]) -> None:
        self._maker = maker

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return self._maker, ()


def convert(
    source: ClassSource, rows: Array, gives: Gives, options: ConversionOptions, workdir: Path
) -> Artifact:
    """Serve the class by its ``predict``, and prove it.

    ``rows`` are of the data type that ``predict`` is called with.

    Raises:
        ConversionError: the class does not work, or answers otherwise when it is made again.
    """
    entry = table.ladder("predictor", Road.ONNX if options.quantize else options.road)[0]
    with needed(entry.extra):
        import joblib  # noqa: F401 - the host loads with it
    model = made(source)
    if not callable(getattr(model, "predict", None)):
        raise UnsupportedModelError(
            f"{source.target} must have a 'predict' method",
            hint="def predict(self, rows): takes an array, rows first, and gives one",
        )
    recipe = source.folder / "predictor.pkl"
    recipe.write_bytes(pickle.dumps(_Recipe(partial(source.found, **source.kwargs)), protocol=5))
    original = LoadedModel("predictor", model, recipe, pickled=True)
    question = _question(original, rows, gives, options)
    (output,) = question.answer
    spec = ModelSpec(
        options.name,
        "python",
        (TensorSpec(INPUT, DType.from_numpy(rows.dtype), rows.shape[1:]),),
        (TensorSpec(OUTPUT, gives.dtype, output.dims),),
    )
    asked = {"form": "matrix", "columns": [], "missing": {}, "categories": {}}
    converted = from_predictor.lay_out(question, spec, workdir, asked)
    proven = proof.prove(question, converted, options)
    written = proof.write(proven, options, (), None, workdir)
    return Artifact(
        spec=spec,
        road=entry.road,
        framework="predictor",
        files={**converted.files, **written},
        parity=proven.report,
        warmup=proof.warmup(spec, proven.inputs),
        rung=entry.rung,
    )


def _question(
    source: LoadedModel, array: Array, gives: Gives, options: ConversionOptions
) -> Question:
    first = Rows(Form.TENSORS, (), {INPUT: array}, len(array))
    _ask(source, first, gives)  # Asked at once, so that rows it refuses are told as such.

    def accepts(block: Rows) -> bool:
        try:
            _ask(source, block, gives)
        except SampleError:
            return False
        return True

    count = min(options.generated_rows, max(2_000_000 // max(array[:1].size, 1), 10))
    rows = hard_rows.generate(source, first, count, options.seed, accepts)
    release = releases.find(options.release)
    return Question(source, rows, (_ask(source, rows, gives),), release)


def _ask(source: LoadedModel, rows: Rows, gives: Gives) -> Output:
    what = f"{source.class_name}.predict"
    try:
        with quiet():
            given = np.asarray(source.model.predict(rows.tensors[INPUT].copy()))
    except Exception as error:
        reraise_interrupt(error)
        raise SampleError(
            f"{what} does not take these rows: {_told(error)}",
            hint="put rows that it takes beside the YAML: sample.npy",
        ) from error
    if given.shape[:1] != (rows.count,) or given.dtype.kind not in "biufUO":
        raise UnsupportedModelError(
            f"{what} gives {given.dtype} of shape {list(given.shape)} for {rows.count} rows",
            hint="it must give an array of numbers or texts, one entry a row",
        )
    if given.ndim == 1:
        given = given.reshape(rows.count, *gives.one)
    kind = Kind.VALUE if gives.dtype.numpy_name.startswith("float") else Kind.LABEL
    return Output(OUTPUT, kind, _typed(given, gives.dtype, what), "predict")


def _typed(given: Array, dtype: DType, what: str) -> Array:
    """Return answers in their data type; texts whole, and no number as another one."""
    if dtype is DType.BYTES:
        cells = given.ravel().tolist()
        # As the host does it: a missing text is sent as the empty one.
        missing = [cell is None or cell != cell for cell in cells]  # noqa: PLR0124 - NaN
        texts = ["" if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)]
        return np.array(texts, dtype=object).reshape(given.shape)
    try:
        with np.errstate(all="ignore"):
            typed = given.astype(dtype.numpy_name)
            back = typed.astype(given.dtype)
        same = dtype.numpy_name.startswith("float") or bool(np.all(back == given))
    except (TypeError, ValueError):
        same = False
    if not same:
        raise UnsupportedModelError(
            f"{what} gives values that {dtype.numpy_name}, the dtype of the output, does not hold",
            hint="say what it gives: output: {dtype: float64}",
        )
    return typed
