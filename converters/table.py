"""Which converter turns what into what: data, so that listing it imports no framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from converters.answers import Answer
from converters.options import ConversionOptions
from converters.releases import Release
from converters.rows import Rows
from converters.source import LoadedModel
from toolkit.errors import ConfigError
from toolkit.spec import ModelSpec, Road


@dataclass(frozen=True, slots=True)
class Question:
    """What every converter gets: the original, the rows it was asked and its answer."""

    source: LoadedModel
    rows: Rows
    answer: Answer
    release: Release


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted model before its proof: ``files`` go into the version folder.

    ``question`` is what it is to be asked where that is less than the converter was: a form
    that gives no labels, or takes only float32. ``notes`` are what its user ought to know.
    """

    spec: ModelSpec
    files: Mapping[str, Path]
    question: Question | None = None
    notes: tuple[str, ...] = ()


class Converter(Protocol):
    """The signature that all converters share."""

    def __call__(self, question: Question, options: ConversionOptions, workdir: Path) -> Converted:
        """Write the converted model into ``workdir``.

        Raises:
            UnsupportedModelError: this road cannot take the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One rung of a framework's ladder: ``function`` is ``module:name``, ``extra`` pip's.

    ``rung`` tells apart what leads to the same road: who writes the model. ``apart`` says
    that somebody else's converter runs, in a process of its own. ``asked_only``: it is
    tried when its road is asked for, and never else.
    """

    framework: str
    road: Road
    rung: str
    function: str
    extra: str
    apart: bool = False
    asked_only: bool = False

    @property
    def title(self) -> str:
        """What it is called where the ladder is told: its road, and who writes the model."""
        return f"{self.road.value} ({self.rung})"

    def load(self) -> Converter:
        """Import the converter."""
        module, _, name = self.function.partition(":")
        return cast("Converter", getattr(import_module(module), name))


_EXACT = "converters.exact_onnx:to_onnx"
_TO_PYTHON = "converters.from_predictor:to_python"
_TO_FIL = "converters.to_fil:to_fil"


def _tabular(framework: str, stock: str) -> tuple[Entry, ...]:
    """Return the rungs of a tabular library; ``stock`` is the library that converts it else."""
    return (
        Entry(framework, Road.ONNX, "exact", _EXACT, framework),
        Entry(framework, Road.ONNX, stock, f"converters.from_{framework}:to_onnx", framework, True),
        Entry(framework, Road.PYTHON, "original", _TO_PYTHON, framework),
    )


# In the order of the ladder: the fastest rung that can be proven comes first.
ENTRIES: tuple[Entry, ...] = (
    *_tabular("sklearn", "skl2onnx"),
    *_tabular("xgboost", "onnxmltools"),
    *_tabular("lightgbm", "onnxmltools"),
    *_tabular("catboost", "catboost"),
    *(
        Entry(framework, Road.FIL, "treelite", _TO_FIL, "fil", asked_only=True)
        for framework in ("sklearn", "xgboost", "lightgbm")
    ),
    Entry("torch", Road.ONNX, "dynamo", "converters.from_torch:to_onnx", "torch", True),
    Entry("torch", Road.TORCHSCRIPT, "jit", "converters.from_torch:to_torchscript", "torch"),
    Entry("torch", Road.PYTHON, "original", "converters.from_torch:to_python", "torch"),
    Entry("onnx", Road.ONNX, "as it is", "converters.from_onnx:to_onnx", "sklearn"),
    Entry(
        "torchscript",
        Road.TORCHSCRIPT,
        "as it is",
        "converters.from_torchscript:to_torchscript",
        "torch",
    ),
    Entry("predictor", Road.PYTHON, "original", _TO_PYTHON, "sklearn"),
)

FRAMEWORKS: tuple[str, ...] = tuple(dict.fromkeys(entry.framework for entry in ENTRIES))


def check_framework(framework: str) -> None:
    """Raise ``ConfigError`` unless the table knows ``framework``."""
    if framework not in FRAMEWORKS:
        msg = f"unknown framework {framework!r}"
        raise ConfigError(msg, hint=f"known frameworks: {', '.join(FRAMEWORKS)}")


def ladder(framework: str, road: Road | None) -> tuple[Entry, ...]:
    """Return the rungs to try in order; only those of ``road`` when it is given.

    Raises:
        ConfigError: the framework has no such road.
    """
    entries = tuple(entry for entry in ENTRIES if entry.framework == framework)
    if road is None:
        return tuple(entry for entry in entries if not entry.asked_only)
    chosen = tuple(entry for entry in entries if entry.road is road)
    if not chosen:
        msg = f"a model of {framework} cannot take the road {road.value}"
        roads = ", ".join(dict.fromkeys(entry.road.value for entry in entries))
        raise ConfigError(msg, hint=f"roads of {framework}: {roads}")
    return chosen
