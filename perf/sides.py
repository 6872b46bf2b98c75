"""The two sides of a comparison: ``MODEL``, ``MODEL:VERSION``, ``MODEL@FILE``."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perf import input_data, measuring
from perf.analyzer import Settings
from perf.candidates import AS_SERVED, Candidate
from perf.comparing import ComparisonError, Side
from perf.configuration import plain
from perf.measurement import Load, Measurement
from perf.served import ServedModel
from perf.target import Target
from toolkit import pbtxt
from toolkit.errors import ConfigError, ToolkitError
from toolkit.spec import check_model_name

Configuration = Candidate | Mapping[str, Any]
"""Changes to what is served, or a whole configuration in Triton's JSON."""

_SERVED = "served"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a side is: a model, one of its versions, and what it is to be served as.

    ``configuration`` is None for a side that is served as it is.
    """

    name: str
    model: str
    version: str | None = None
    configuration: Configuration | None = None

    @property
    def candidate(self) -> Candidate:
        """The changes; none for a whole configuration, which ``name`` stands for."""
        is_one = isinstance(self.configuration, Candidate)
        return self.configuration if is_one else AS_SERVED  # type: ignore[return-value]


def parse(text: str) -> Asked:
    """Read a side as it is written on the command line.

    Raises ``ConfigError`` for a version or a file that is none, ``RepositoryError`` for a
    name that no model can have.
    """
    head, at, file = text.partition("@")
    model, colon, version = head.partition(":")
    check_model_name(model)
    if colon and not (version.isdecimal() and int(version)):
        raise ConfigError(
            f"{text!r}: a version is a number above 0, got {version!r}", hint=f"{model}:1"
        )
    wanted = None if not at or file == _SERVED else read_configuration(Path(file))
    return Asked(name=text, model=model, version=version or None, configuration=wanted)


def read_configuration(path: Path) -> Configuration:
    """Read a ``config.pbtxt``, a configuration in Triton's JSON, or a candidate's JSON.

    JSON whose keys are all settings of a candidate is one: changes to what is served.
    Raises ``ConfigError`` for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text", hint="MODEL@config.pbtxt") from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="MODEL@config.pbtxt, or MODEL alone"
        ) from error
    if path.suffix == ".json" or text.lstrip().startswith("{"):
        return _from_json(path, text)
    try:
        message = pbtxt.parse_message(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return plain(message)


def _from_json(path: Path, text: str) -> Configuration:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict) or not record:
        raise ConfigError(f"{path} holds neither a configuration nor changes to one")
    if record.keys() <= {one.name for one in fields(Candidate)}:
        return Candidate.from_json(record)
    return record


Measure = Callable[[Target, Asked], Measurement]
"""Measures a side once, as it is served at the moment."""


def measurer(load: Load, settings: Settings, given: str | None = None) -> Measure:
    """Return how a side is measured under ``load``; ``given`` is what ``--input-data`` says.

    The rows to send are made for what is served at the moment.
    """

    def measure(target: Target, side: Asked) -> Measurement:
        asked = replace(settings, version=side.version)
        with TemporaryDirectory(prefix="toolkit-perf-") as folder:
            data = input_data.prepare(
                target, side.model, Path(folder), given=given, version=side.version
            )
            return measuring.measure(target, side.model, load, asked, data)

    return measure


@contextmanager
def opened(
    asked: Sequence[Asked], target_of: Callable[[str], Target], measure: Measure
) -> Iterator[tuple[Side, ...]]:
    """Give the sides, ready to be measured; what was served is served again afterwards.

    A model of which a side is to be served otherwise is loaded anew for every turn, on both
    sides, so that neither is spared the loading.
    """
    targets = {side.model: target_of(side.model) for side in asked}
    changing = {side.model for side in asked if side.configuration is not None}
    with ExitStack() as stack:
        served = {
            model: stack.enter_context(_put_back(ServedModel(targets[model], model)))
            for model in sorted(changing)
        }
        yield tuple(
            Side(name, _turn(side, targets[side.model], served.get(side.model), measure))
            for side, name in zip(asked, _names(asked), strict=True)
        )


def _turn(
    side: Asked, target: Target, served: ServedModel | None, measure: Measure
) -> Callable[[], Measurement]:
    def turn() -> Measurement:
        if served is not None:
            wanted = side.configuration
            if wanted is None or isinstance(wanted, Candidate):
                served.load(wanted or AS_SERVED)
            else:
                served.load_config(wanted)
        return measure(target, side)

    return turn


def _names(asked: Sequence[Asked]) -> Iterator[str]:
    seen: set[str] = set()
    for side in asked:
        yield f"{side.name} again" if side.name in seen else side.name
        seen.add(side.name)


@contextmanager
def _put_back(model: ServedModel) -> Iterator[ServedModel]:
    """Let neither of two errors hide the other: what ended the block, and the way back."""
    ended: ToolkitError | None = None
    try:
        with model:
            try:
                yield model
            except ToolkitError as error:
                ended = error
                raise
    except ToolkitError as error:
        if ended is None or error is ended:
            raise
        raise ComparisonError(
            f"{ended.message}; and {model.model!r} could not be put back: {error.message}",
            hint=ended.hint or error.hint,
        ) from ended
