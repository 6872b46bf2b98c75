"""The space of candidates: which values each setting may take, and what fits together."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from perf import configuration, settings
from perf.candidates import Candidate
from toolkit import pbtxt
from toolkit.errors import ConfigError

_OF_THE_BATCHER = ("max_queue_delay_microseconds", "preferred_batch_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The values each setting may take, under the names of ``Candidate``; empty: as served."""

    dynamic_batching: tuple[bool, ...] = ()
    max_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: tuple[int, ...] = ()
    preferred_batch_size: tuple[tuple[int, ...], ...] = ()
    response_cache: tuple[bool, ...] = ()
    intra_op_thread_count: tuple[int, ...] = ()
    # Last, so that it changes first: Triton changes the number of instances in place, in a
    # fifth of the time of a whole load.
    instance_count: tuple[int, ...] = ()

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the settings that are searched, with their values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: possible for name, possible in values.items() if possible}

    def to_json(self) -> dict[str, Any]:
        """Return the space as JSON can hold it."""
        return {name: list(possible) for name, possible in self.choices().items()}


def grid(space: Space, config: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """Return every candidate of ``space`` that a model with ``config`` has room for, once.

    Raises ``ConfigError`` when it has room for none of the values of a setting.
    """
    _check(space, config)
    found: dict[Candidate, None] = {}
    for values in itertools.product(*space.choices().values()):
        candidate = fitting(dict(zip(space.choices(), values, strict=True)), config)
        if candidate is not None:
            found[candidate] = None
    return tuple(found)


def fitting(values: Mapping[str, Any], config: Mapping[str, Any]) -> Candidate | None:
    """Return the candidate of ``values``, without what changes nothing beside the others.

    None where two of the values exclude each other: a preferred size above the largest.
    """
    kept = {name: value for name, value in values.items() if counts(name, values, config)}
    largest = kept.get("max_batch_size", int(config.get("max_batch_size") or 0))
    if any(rows > largest for rows in kept.get("preferred_batch_size", ())):
        return None
    return settings.effective(config, Candidate(**kept))


def counts(name: str, values: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the setting called ``name`` changes anything beside the other ``values``."""
    if name not in {*_OF_THE_BATCHER, "max_batch_size"}:
        return True
    return bool(values.get("dynamic_batching", "dynamic_batching" in config))


def neighbours(
    values: Mapping[str, Any], choices: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """Yield ``values`` with one setting changed, those first that most often matter.

    The largest batch; then the shortest queue delay and a preferred size, together, for each
    means little without the other; then one step in each setting, and then two.
    """
    delay, preferred = _OF_THE_BATCHER
    for size in reversed(choices.get("max_batch_size", ())):
        yield {**values, "max_batch_size": size}
    if delay in choices and preferred in choices:
        for both in itertools.product(choices[delay][1:2], choices[preferred]):
            yield {**values, **dict(zip((delay, preferred), both, strict=True))}
    for distance in range(1, max(map(len, choices.values()), default=0)):
        for name, possible in choices.items():
            place = possible.index(values[name])
            for other in (place + distance, place - distance):
                if 0 <= other < len(possible):
                    yield {**values, name: possible[other]}


def usual(
    config: Mapping[str, Any], *, cores: int, concurrency: Sequence[int], rows: int = 1
) -> Space:
    """Return the space worth searching for a model with ``config`` under such loads.

    Args:
        config: the model's configuration, in Triton's JSON.
        cores: of the machine that serves.
        concurrency: how many requests are under way, one figure a load.
        rows: rows in a request.
    """
    threads = pbtxt.thread_parameter(configuration.backend(config), "intra_op_thread_count")
    several = len(config.get("instance_group") or ()) > 1
    space = Space(
        intra_op_thread_count=tuple(dict.fromkeys((1, cores))) if threads else (),
        instance_count=() if several else tuple(dict.fromkeys((1, 2, cores, 2 * cores))),
    )
    if not configuration.batches(config):
        return space
    most = max((*concurrency, 1)) * rows
    # More rows than are ever under way are as good as any number of them.
    sizes = {max(most // share, rows, 1) for share in (8, 4, 2)} | {int(config["max_batch_size"])}
    return replace(
        space,
        dynamic_batching=(True, False),
        max_batch_size=tuple(sorted(size for size in sizes if size > 1)),
        max_queue_delay_microseconds=(0, 100, 300, 1000, 3000),
        preferred_batch_size=((), *_halves(most)),
    )


def _halves(most: int) -> Iterator[tuple[int, ...]]:
    """Yield the batches that half and all of the callers fill."""
    for size in dict.fromkeys((most // 2, most)):
        if size > 1:
            yield (size,)


def _check(space: Space, config: Mapping[str, Any]) -> None:
    refused: dict[str, ConfigError] = {}
    for name, choices in space.choices().items():
        try:
            _try_each(name, choices, config)
        except ConfigError as error:
            refused[name] = error
    if refused:
        raise next(iter(refused.values()))


def _try_each(name: str, choices: Iterable[Any], config: Mapping[str, Any]) -> None:
    for value in choices:
        alone: dict[str, Any] = {name: value}
        if name in _OF_THE_BATCHER:
            alone["dynamic_batching"] = True
        if name == "preferred_batch_size" and value:
            alone["max_batch_size"] = max(*value, int(config.get("max_batch_size") or 0))
        configuration.changed(config, Candidate(**alone))
