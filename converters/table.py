"""Which converter turns what into what: data, so that listing it imports no framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from converters.options import ConversionOptions
from converters.reference import Answer
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
    """A converted model before its proof: ``files`` go into the version folder."""

    spec: ModelSpec
    files: Mapping[str, Path]


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
    """One road of one framework: ``function`` is ``module:name``, ``extra`` pip's."""

    framework: str
    road: Road
    function: str
    extra: str

    def load(self) -> Converter:
        """Import the converter."""
        module, _, name = self.function.partition(":")
        return cast("Converter", getattr(import_module(module), name))


_TO_PYTHON = "converters.from_predictor:to_python"

# In the order of the ladder: the fastest road that can be proven comes first.
ENTRIES: tuple[Entry, ...] = (
    Entry("sklearn", Road.ONNX, "converters.from_sklearn:to_onnx", "sklearn"),
    Entry("sklearn", Road.PYTHON, _TO_PYTHON, "sklearn"),
    Entry("xgboost", Road.ONNX, "converters.from_xgboost:to_onnx", "xgboost"),
    Entry("xgboost", Road.PYTHON, _TO_PYTHON, "xgboost"),
    Entry("lightgbm", Road.ONNX, "converters.from_lightgbm:to_onnx", "lightgbm"),
    Entry("lightgbm", Road.PYTHON, _TO_PYTHON, "lightgbm"),
    Entry("torch", Road.ONNX, "converters.from_torch:to_onnx", "torch"),
    Entry("torch", Road.TORCHSCRIPT, "converters.from_torch:to_torchscript", "torch"),
    Entry("onnx", Road.ONNX, "converters.from_onnx:to_onnx", "sklearn"),
    Entry("torchscript", Road.TORCHSCRIPT, "converters.from_torchscript:to_torchscript", "torch"),
    Entry("predictor", Road.PYTHON, _TO_PYTHON, "sklearn"),
)

FRAMEWORKS: tuple[str, ...] = tuple(dict.fromkeys(entry.framework for entry in ENTRIES))


def check_framework(framework: str) -> None:
    """Raise ``ConfigError`` unless the table knows ``framework``."""
    if framework not in FRAMEWORKS:
        msg = f"unknown framework {framework!r}"
        raise ConfigError(msg, hint=f"known frameworks: {', '.join(FRAMEWORKS)}")


def ladder(framework: str, road: Road | None) -> tuple[Entry, ...]:
    """Return the roads to try in order; only ``road`` when it is given.

    Raises:
        ConfigError: the framework has no such road.
    """
    entries = tuple(entry for entry in ENTRIES if entry.framework == framework)
    if road is None:
        return entries
    chosen = tuple(entry for entry in entries if entry.road is road)
    if not chosen:
        msg = f"a {framework} model cannot take the road {road.value}"
        roads = ", ".join(entry.road.value for entry in entries)
        raise ConfigError(msg, hint=f"roads of {framework}: {roads}")
    return chosen
