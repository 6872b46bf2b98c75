"""What was asked and how long it took, second by second, for the last minutes.

Counting stands in the way of every prediction, so it does little; what takes time is done
when somebody looks, once for each second.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import log2
from time import perf_counter, time
from typing import Any, NamedTuple

from toolkit.gateway.exchange import Asked

SECONDS = 300
"""How far back it is known."""

MODELS = 200
"""How many models are told apart within a second; those beyond are counted without a name."""

# A bin is 9 % wide, so a percentile is wrong by half of that at most.
_BINS_PER_OCTAVE = 8
_ERRORS = 400
_FAILURES = 500
_SHARES = (0.5, 0.95, 0.99)
_KEPT = 16

Sees = Callable[[str], bool]
"""Says whether a model may be told of; the name is empty where none was found."""


@dataclass(slots=True, eq=False)
class _Tally:
    requests: int = 0
    errors: int = 0
    bins: dict[int, int] = field(default_factory=dict)


class _Figures(NamedTuple):
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(slots=True, eq=False)
class _Second:
    at: int
    waiting: int
    running: int
    models: dict[str, _Tally] = field(default_factory=dict)
    figures: dict[tuple[str, ...], _Figures] = field(default_factory=dict)


class Live:
    """The last ``SECONDS`` seconds of a gateway; for one event loop.

    ``waiting`` and ``running`` return how many requests wait and are being answered: they are
    asked with the first prediction of each second, and when somebody looks. Requests refused
    with 4xx are counted and not timed: no model ran.
    """

    def __init__(
        self,
        waiting: Callable[[], int],
        running: Callable[[], int],
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._gauges = waiting, running
        self._clock = clock
        self._past: deque[_Second] = deque(maxlen=SECONDS)
        self._now = _Second(int(clock()), 0, 0)
        self._until = self._now.at + 1
        self._models = self._now.models
        self._summed: tuple[int, int, dict[str, dict[str, Any]]] | None = None

    def count(self, asked: Asked, status: int) -> None:
        """Count one answered request, if it was a prediction."""
        if not asked.endpoint:
            return
        clock = self._clock()
        if clock >= self._until:
            self._turn(int(clock))
        model = asked.model
        tally = self._models.get(model)
        if tally is None:
            name = model if len(self._models) < MODELS else ""
            tally = self._models.setdefault(name, _Tally())
        tally.requests += 1
        if status >= _ERRORS:
            tally.errors += 1
            if status < _FAILURES:
                return
        place = int(log2((clock - asked.began) * 1e6 + 1) * _BINS_PER_OCTAVE)
        bins = tally.bins
        bins[place] = bins.get(place, 0) + 1

    def series(self, sees: Sees) -> dict[str, Any]:
        """Return a figure a second for the seconds that are over, the oldest first.

        ``end`` is when the last one ended, in seconds since 1970. Without a request that ran,
        a second's percentiles (milliseconds) are None.
        """
        self._look()
        first = self._now.at - SECONDS
        found: dict[str, list[Any]] = {
            name: [0] * SECONDS for name in ("requests", "errors", "waiting", "running")
        }
        found |= {name: [None] * SECONDS for name in ("p50_ms", "p95_ms", "p99_ms")}
        for second in self._past:
            place = second.at - first
            if place < 0:
                continue
            found["waiting"][place], found["running"][place] = second.waiting, second.running
            for name, value in _figures(second, sees)._asdict().items():
                found[name][place] = value
        ago = self._clock() - self._now.at
        return {"end": time() - ago, "seconds": SECONDS, **found}

    def summaries(self, seconds: int = 60) -> dict[str, dict[str, Any]]:
        """Return requests, errors and the median (milliseconds) of each model, of late."""
        self._look()
        now = self._now.at
        if self._summed is None or self._summed[:2] != (now, seconds):
            self._summed = now, seconds, self._sums(now - seconds)
        return self._summed[2]

    def _sums(self, first: int) -> dict[str, dict[str, Any]]:
        tallies: dict[str, list[_Tally]] = {}
        for second in self._past:
            if second.at >= first:
                for name, tally in second.models.items():
                    tallies.setdefault(name, []).append(tally)
        merged = {name: _merged(each) for name, each in tallies.items()}
        return {
            name: {
                "requests": one.requests,
                "errors": one.errors,
                "p50_ms": _quantile(one.bins, 0.5),
            }
            for name, one in merged.items()
        }

    def _look(self) -> None:
        now = int(self._clock())
        if now != self._now.at:
            self._turn(now)
        waiting, running = self._gauges
        self._now.waiting = max(self._now.waiting, waiting())
        self._now.running = max(self._now.running, running())

    def _turn(self, now: int) -> None:
        self._past.append(self._now)
        waiting, running = self._gauges
        self._now = _Second(now, waiting(), running())
        self._until = now + 1
        self._models = self._now.models


def _figures(second: _Second, sees: Sees) -> _Figures:
    """Return a second's figures for the models one may see; kept, for it is over."""
    names = tuple(filter(sees, second.models))
    found = second.figures.get(names)
    if found is None:
        all_ = _merged(second.models[name] for name in names)
        quantiles = (_quantile(all_.bins, share) for share in _SHARES)
        found = _Figures(all_.requests, all_.errors, *quantiles)
        if len(second.figures) < _KEPT:
            second.figures[names] = found
    return found


def _merged(tallies: Iterable[_Tally]) -> _Tally:
    all_ = _Tally()
    for tally in tallies:
        all_.requests += tally.requests
        all_.errors += tally.errors
        for place, count in tally.bins.items():
            all_.bins[place] = all_.bins.get(place, 0) + count
    return all_


def _quantile(bins: dict[int, int], share: float) -> float | None:
    """Return the middle of the bin with the nearest rank, in milliseconds."""
    left = share * sum(bins.values())
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return round((2 ** ((place + 0.5) / _BINS_PER_OCTAVE) - 1) / 1e3, 4)
    return None
