"""How often each caller may ask: a sliding window for each name.

Own code: of the kept libraries ``limits`` looks at its storage and its windows through several
layers (tens of microseconds a request), and the rule needs a list of times.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from toolkit.errors import ConfigError
from toolkit.gateway.exchange import Headers, Refused

MOST_NAMES = 50_000
"""Names remembered in one period; callers may make names up, so memory needs a bound."""

_TEXT = "Too Many Requests - Rate limit exceeded"


class Rate(NamedTuple):
    """At most ``most`` requests in any ``period_seconds``; 0 allows none."""

    most: int
    period_seconds: float

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Return the rate that ``"100/60"`` stands for: 100 requests in 60 seconds.

        Raises ``ConfigError``.
        """
        count, slash, period = text.partition("/")
        try:
            rate = cls(int(count), float(period))
        except ValueError:
            rate = cls(-1, 0.0)
        if not slash or rate.most < 0 or not 0 < rate.period_seconds < math.inf:
            raise ConfigError(
                "a rate is a number of requests and a number of seconds", hint="such as 100/60"
            )
        return rate


class Window:
    """The sliding window of one rate, for any number of names that do not touch each other.

    Exact: a request is allowed if and only if fewer than ``rate.most`` were allowed in the
    last ``rate.period_seconds``. Refused requests do not count. Only the last ``rate.most``
    times of a name can matter, so they are kept in a ring: a look and a store a request.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._period = rate
        self._clock = clock
        # Two generations of names: who was not seen for a whole period has nothing in the
        # window, so the older generation is dropped as one.
        self._recent: dict[str, list[float]] = {}
        self._older: dict[str, list[float]] = {}
        self._turn_at = clock() + self._period

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._recent) + len(self._older)

    def wait_seconds(self, name: str) -> float:
        """Count one request of ``name`` and return 0.0, or how long it has to wait.

        Infinity if it may never ask.
        """
        now = self._clock()
        if now >= self._turn_at or len(self._recent) >= MOST_NAMES:
            self._turn(now)
        ring = self._recent.get(name)
        if ring is None:
            if not self._most:
                return math.inf
            # The first item is the place of the oldest time.
            ring = self._recent[name] = self._older.pop(name, [1])
        if len(ring) <= self._most:
            ring.append(now)
            return 0.0
        oldest = int(ring[0])
        wait = ring[oldest] + self._period - now
        if wait > 0:
            return wait
        ring[oldest] = now
        ring[0] = oldest + 1 if oldest < self._most else 1
        return 0.0

    def _turn(self, now: float) -> None:
        self._older, self._recent = self._recent, {}
        self._turn_at = now + self._period


class Rates:
    """The windows of all the rates in use; names of different rates are independent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Rate, Window] = {}

    def wait_seconds(self, name: str, rate: Rate) -> float:
        """Count one request of ``name`` and return 0.0, or how long it has to wait."""
        window = self._windows.get(rate)
        if window is None:
            window = self._windows[rate] = Window(rate, self._clock)
        return window.wait_seconds(name)

    def check(self, name: str, rate: Rate) -> None:
        """Count one request of ``name``; ``Refused`` with 429 and ``Retry-After`` if too many."""
        wait = self.wait_seconds(name, rate)
        if wait:
            raise Refused(429, _TEXT, _retry_after(wait))


def _retry_after(wait: float) -> Headers:
    if wait == math.inf:
        return ()
    return ((b"retry-after", b"%d" % math.ceil(wait)),)
