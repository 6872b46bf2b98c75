"""When requests are due, decided before the first of them is sent.

With a rate of r(t) requests a second, the number that is due by t is the integral of r.
Its inverse turns numbers into times: 0, 1, 2 … give evenly spaced arrivals, and sums of
exponential gaps of mean 1 give Poisson arrivals, for any rate that changes with time
(L. Devroye, Non-Uniform Random Variate Generation, 1986, VI.1.3).
"""

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toolkit.errors import ConfigError

_DECIMAL = r"\d+\.?\d*|\.\d+"
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Stage:
    """A time over which the rate (requests a second) goes evenly from one to another."""

    seconds: float
    first_rate: float
    last_rate: float

    def __post_init__(self) -> None:
        numbers = (self.seconds, self.first_rate, self.last_rate)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ConfigError(f"a stage of {self.seconds:g} s at {self.last_rate:g}/s cannot be")
        if self.seconds == 0 or self.first_rate + self.last_rate == 0:
            raise ConfigError(
                f"a stage of {self.seconds:g} s at {self.last_rate:g} requests/s sends nothing",
                hint="rates and times are above 0",
            )

    @property
    def requests(self) -> float:
        """How many requests are due in it."""
        return self.seconds * (self.first_rate + self.last_rate) / 2

    def time_of(self, number: float) -> float:
        """Return the seconds after which ``number`` requests have come due."""
        slope = (self.last_rate - self.first_rate) / self.seconds
        # The root in the form that neither cancels nor divides by a slope of 0.
        root = math.sqrt(max(0.0, self.first_rate**2 + 2 * slope * number))
        return 2 * number / (self.first_rate + root) if number else 0.0

    def requests_by(self, seconds: float) -> float:
        """Return how many requests are due in the first ``seconds`` of it."""
        seconds = min(max(seconds, 0.0), self.seconds)
        rate = self.first_rate + (self.last_rate - self.first_rate) * seconds / self.seconds
        return seconds * (self.first_rate + rate) / 2


def requests_by(stages: Sequence[Stage], seconds: float) -> float:
    """Return how many requests are due by a time, on average."""
    number = 0.0
    for stage in stages:
        number += stage.requests_by(seconds)
        seconds -= stage.seconds
    return number


def arrival_times(stages: Sequence[Stage], *, seed: int | None = None) -> Iterator[float]:
    """Give the times in seconds at which requests are due, in order.

    Evenly spaced without a ``seed``, a Poisson process with one.
    """
    numbers = _even() if seed is None else _poisson(seed)
    number = next(numbers)
    before, began = 0.0, 0.0
    for stage in stages:
        after = before + stage.requests
        while number < after:
            yield began + stage.time_of(number - before)
            number = next(numbers)
        before, began = after, began + stage.seconds


def _even() -> Iterator[float]:
    return map(float, itertools.count())


def _poisson(seed: int) -> Iterator[float]:
    gap = random.Random(seed).expovariate  # noqa: S311 - a load, not a secret
    return itertools.accumulate(gap(1.0) for _ in itertools.repeat(None))


def parse_stage(text: str) -> Stage:
    """Read ``RATE:TIME`` or ``FROM-TO:TIME``, such as ``500:30s`` or ``0-500:2m``."""
    match = re.fullmatch(rf"(?:({_DECIMAL})-)?({_DECIMAL}):(\w[\w.]*)", text.strip())
    if match is None:
        raise ConfigError(
            f"{text!r} is no stage", hint="--stage 500:30s, or --stage 0-500:2m for a ramp"
        )
    last = float(match[2])
    first = last if match[1] is None else float(match[1])
    return Stage(parse_seconds(match[3]), first, last)


def parse_seconds(text: str) -> float:
    """Read a time such as ``90``, ``30s``, ``500ms``, ``5m`` or ``1h``; in seconds."""
    match = re.fullmatch(rf"({_DECIMAL})(ms|s|m|h|)", text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no time", hint="30s, 500ms, 5m or 1h")
    return float(match[1]) * _UNITS[match[2]]
