"""Serving options: the flags of ``convert``, made from the fields of ``ServingConfig``.

A flag ``--max-batch-size`` and a key ``max_batch_size`` in the options file are the same
thing; a flag wins over the file, the file over the default.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import click

from toolkit.artifact import Artifact
from toolkit.errors import ConfigError
from toolkit.spec import ServingConfig, VersionPolicy

# Running code out of a model file is allowed by the person at the keyboard, not by a
# file that may have come along with it.
_NOT_IN_FILE = frozenset({"options", "trusted", "help", "path"})
_TABULAR = frozenset({"sklearn", "xgboost", "lightgbm", "catboost"})


class _Integers(click.ParamType[tuple[int, ...]]):
    """Several integers: ``8,32`` on the command line, also a list in the file."""

    name = "N,N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value,)
        parts = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(int(part) for part in parts if str(part).strip())
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a list of integers such as 8,32", param, ctx)


class Names(click.ParamType[tuple[str, ...]]):
    """Several names: ``label,scores`` on the command line, also a list in the file."""

    name = "NAME,NAME,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, without blanks around them."""
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            self.fail(f"{value!r} is not a list of names such as label,scores", param, ctx)
        return tuple(str(part).strip() for part in parts if str(part).strip())


class _Policy(click.ParamType[VersionPolicy]):
    name = "POLICY"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> VersionPolicy:
        if isinstance(value, VersionPolicy):
            return value
        try:
            return VersionPolicy.parse(str(value))
        except ConfigError as error:
            self.fail(error.message, param, ctx)


def serving_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` one flag for each field of ``ServingConfig``, unset by default."""
    hints = get_type_hints(ServingConfig)
    for option in reversed(fields(ServingConfig)):
        flag = "--" + option.name.replace("_", "-")
        kind = hints[option.name]
        if kind is bool:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        command = click.option(
            flag,
            option.name,
            default=None,
            type=_param_type(kind),
            help=f"{option.metadata['help']} {_default_text(option.default)}".strip(),
        )(command)
    return command


def read_options_file(
    context: click.Context, _param: click.Parameter, path: Path | None
) -> Path | None:
    """Take the keys of a YAML file as defaults of the command's flags (a click callback).

    Raises ``ConfigError`` for a file that is no mapping or holds an unknown key.
    """
    import yaml

    if path is None:
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the options file {path}: {reason}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys and values, such as 'max_batch_size: 64'")
    known = {str(param.name) for param in context.command.params} - _NOT_IN_FILE
    for key in values:
        if key not in known:
            hint = "only the command line can say --trusted" if key == "trusted" else None
            raise ConfigError(
                f"{path}: unknown key {key!r}", hint=hint or f"known: {', '.join(sorted(known))}"
            )
    _check_whole_numbers(context.command, values, path)
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _check_whole_numbers(command: click.Command, values: Mapping[str, Any], path: Path) -> None:
    # click makes 3 of 3.7 and 1 of true.
    whole = {param.name for param in command.params if param.type is click.INT}
    for key, value in values.items():
        if key in whole and not (type(value) is int or isinstance(value, str)):
            raise ConfigError(f"{path}: {key} must be a whole number, not {value!r}")


def read_axes(
    _context: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Read ``ids:1``, a tensor and one of its axes (a click callback)."""
    axes: dict[str, tuple[int, ...]] = {}
    for value in values:
        name, _, axis = value.rpartition(":")
        if not name or not axis.isdecimal():
            msg = f"{value!r} is not NAME:AXIS, such as ids:1"
            raise click.BadParameter(msg)
        axes[name] = (*axes.get(name, ()), int(axis))
    return axes


def serving_config(flags: Mapping[str, Any], artifact: Artifact) -> ServingConfig:
    """Return the options in ``flags`` (None: not given), fitted to ``artifact``.

    What was not given follows the model: one without a batch axis is not batched, one
    without rows is not warmed up, a tabular model in ONNX or FIL runs on one thread, so that
    its answers do not depend on how the work was divided.
    """
    names = {option.name for option in fields(ServingConfig)}
    given = {name: value for name, value in flags.items() if name in names and value is not None}
    if not artifact.spec.batched:
        given = {"max_batch_size": 0, **given}
    if not artifact.warmup:
        given["warmup_batch_sizes"] = ()
    if artifact.framework in _TABULAR and artifact.spec.backend in {"onnxruntime", "fil"}:
        given = {"intra_op_thread_count": 1, **given}
    return ServingConfig(**given)


def _param_type(kind: Any) -> Any:
    if kind == tuple[int, ...]:
        return _Integers()
    if kind is VersionPolicy:
        return _Policy()
    if isinstance(kind, UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return click.Choice(kind, case_sensitive=False)
    return kind


def _default_text(default: Any) -> str:
    if default is None or default is MISSING or default == ():
        return ""
    if isinstance(default, bool):
        return f"[default: {'on' if default else 'off'}]"
    if isinstance(default, tuple):
        return f"[default: {','.join(map(str, default))}]"
    return f"[default: {default}]"
