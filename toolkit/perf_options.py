"""What the commands that measure a served model share: which model, which load, how long."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.commands import Decorator

if TYPE_CHECKING:
    from perf.analyzer import Settings
    from perf.measurement import Load
    from perf.target import Target


def target_options(default_repository: Path) -> tuple[Decorator, ...]:
    """Return the options that say which server; ``target_of`` reads them."""
    return (
        click.option("--url", "urls", multiple=True, help="http://HOST:PORT and grpc://HOST:PORT of"
                     " another server. [default: the repository's]"),
        click.option("--token", envvar="TOOLKIT_TOKEN", help="Of that server, where it restricts"
                     " the control of models."),
        click.option("--repository", type=click.Path(readable=False, path_type=Path),
                     default=default_repository, envvar="TOOLKIT_REPOSITORY", show_default=True,
                     help="The model repository."),
    )  # fmt: skip


def target_of(model: str, flags: Mapping[str, Any]) -> "Target":
    """Return the server that ``flags`` name."""
    from perf.target import of_repository, of_urls

    if not flags["urls"]:
        return of_repository(flags["repository"], model)
    return of_urls(flags["urls"], model, repository=flags["repository"], token=flags["token"])


class Range(click.ParamType[tuple[float, ...]]):
    """``1``, ``1,4,16`` or perf_analyzer's ``start:end[:step]``, as a tuple of numbers."""

    name = "start:end:step"

    def __init__(self, kind: type[int] | type[float], least: float) -> None:
        self._kind = kind
        self._least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers that ``value`` names; refuse what is no range."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self._numbers(str(value)))
        except ValueError:
            numbers = ()
        if not numbers:
            self.fail(f"{value!r} is none of 8, 1,4,16 and start:end:step", param, ctx)
        if min(numbers) < self._least:
            self.fail(f"{value!r}: the least is {self._least:g}", param, ctx)
        return numbers

    def _numbers(self, text: str) -> tuple[float, ...]:
        if ":" not in text:
            return tuple(self._kind(part) for part in text.split(","))
        start, end, *rest = (self._kind(part) for part in text.split(":"))
        step = rest[0] if rest else self._kind(1)
        if len(rest) > 1 or step <= 0 or end < start:
            raise ValueError(text)
        count = int((end - start) / step + 1e-9) + 1
        return tuple(start + i * step for i in range(count))


def load_options(*otherwise: int) -> tuple[Decorator, ...]:
    """Return the options that say which loads; ``loads_of`` reads them.

    ``otherwise`` is what ``loads_of`` is told too.
    """
    usual = ",".join(map(str, otherwise))
    return (
        click.option("--concurrency-range", type=Range(int, 1),
                     help="Requests under way: 32, 1,8,32 or start:end:step."
                     f" [default: {usual}; none with a rate]"),
        click.option("--request-rate-range", type=Range(float, 1e-3),
                     help="Requests a second, whatever comes back."),
        click.option("-b", "--batch-size", "batch_sizes", type=Range(int, 1), default="1",
                     show_default=True, help="Rows in a request."),
        click.option("-i", "--protocol", type=click.Choice(["grpc", "http"]), default="grpc",
                     show_default=True, help="The wire."),
        click.option("--shared-memory", type=click.Choice(["none", "system", "cuda"]),
                     default="none", show_default=True, help="Where tensors are handed over."),
    )  # fmt: skip


def loads_of(flags: Mapping[str, Any], *otherwise: int) -> "tuple[Load, ...]":
    """Return a load for each figure in ``flags``; concurrency ``otherwise`` where none is."""
    from perf.measurement import Load, Protocol, SharedMemory

    protocol, memory = Protocol(flags["protocol"]), SharedMemory(flags["shared_memory"])
    if flags["concurrency_range"] and flags["request_rate_range"]:
        raise click.UsageError("--concurrency-range and --request-rate-range exclude each other")
    rates = flags["request_rate_range"]
    asked: list[dict[str, Any]] = (
        [{"request_rate": rate} for rate in rates]
        if rates
        else [{"concurrency": callers} for callers in flags["concurrency_range"] or otherwise]
    )
    return tuple(
        Load(**one, batch_size=rows, protocol=protocol, shared_memory=memory)
        for rows in flags["batch_sizes"]
        for one in asked
    )


def settings_options() -> tuple[Decorator, ...]:
    """Return the options that say how to measure; ``settings_of`` reads them."""
    window, *others = window_options("Milliseconds in one window.")
    return (
        window,
        click.option("-s", "--stability-percentage", type=click.FloatRange(0, min_open=True),
                     default=10.0, show_default=True,
                     help="How far three windows may be apart and count as stable."),
        click.option("-r", "--max-trials", type=click.IntRange(3), default=10, show_default=True,
                     help="Windows at most."),
        click.option("--percentile", type=click.IntRange(1, 99),
                     help="Judge stability by this percentile, not by the mean."),
        *others,
    )  # fmt: skip


def window_options(window: str) -> tuple[Decorator, ...]:
    """Return those that every measurement has; ``window`` is the help of the first."""
    return (
        click.option("-p", "--measurement-interval", type=click.IntRange(50), default=1000,
                     show_default=True, help=window),
        click.option("--time-limit", type=click.FloatRange(1), default=120.0, show_default=True,
                     help="Seconds for one measurement."),
        click.option("--input-data", help="zero, random, or a file of rows."
                     " [default: rows of the model's own sample]"),
    )  # fmt: skip


def settings_of(flags: Mapping[str, Any]) -> "Settings":
    """Return how long and how strictly to measure."""
    from perf.analyzer import Settings

    return Settings(
        measurement_interval_ms=flags["measurement_interval"],
        stability_percentage=flags["stability_percentage"],
        max_trials=flags["max_trials"],
        percentile=flags["percentile"],
        time_limit_seconds=flags["time_limit"],
    )
