"""The settings that sweep and tune change: their flags, and the space these describe."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from toolkit.commands import Decorator
from toolkit.perf_options import Range

if TYPE_CHECKING:
    from perf.space import Space

_SWITCH = {"on": True, "off": False}
_NONE = "none"


class _Switch(click.ParamType[tuple[bool, ...]]):
    """``on``, ``off`` or ``on,off``."""

    name = "on,off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[bool, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not set(words) <= set(_SWITCH):
            self.fail(f"{value!r} is none of on, off and on,off", param, ctx)
        return tuple(_SWITCH[word] for word in dict.fromkeys(words))


class _Sizes(click.ParamType[tuple[int, ...]]):
    """The preferred batch sizes of one candidate: ``8``, ``8,32`` or ``none``."""

    name = "sizes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if value == _NONE:
            return ()
        words = str(value).split(",")
        if not all(word.isdecimal() and int(word) for word in words):
            self.fail(f"{value!r} is none of 8, 8,32 and {_NONE}", param, ctx)
        return tuple(sorted({int(word) for word in words}))


def space_options() -> tuple[Decorator, ...]:
    """Return a flag for each setting of a candidate; ``space_of`` reads them."""
    return (
        click.option("--dynamic-batching", type=_Switch(), help="on, off or on,off."),
        click.option("--max-batch-size", type=Range(int, 1),
                     help="Most rows in one execution: 64, 8,64 or start:end:step."),
        click.option("--max-queue-delay-microseconds", type=Range(int, 0),
                     help="How long a request waits for others: 0,100,500."),
        click.option("--preferred-batch-size", multiple=True, type=_Sizes(),
                     help="8,32 or none; give it again for another candidate."),
        click.option("--instance-count", type=Range(int, 1),
                     help="Copies of the model: 1,2,4."),
        click.option("--intra-op-thread-count", type=Range(int, 1),
                     help="Threads inside one operator: 1,2."),
        click.option("--response-cache", type=_Switch(), help="on, off or on,off."),
    )  # fmt: skip


def space_of(flags: Mapping[str, Any]) -> "Space":
    """Return the values that ``flags`` give; a setting without a flag stays as it is served."""
    from dataclasses import fields

    from perf.space import Space

    return Space(**{one.name: flags[one.name] or () for one in fields(Space)})
