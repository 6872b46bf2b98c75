"""Trials: candidates put before a running server and measured, each written down at once."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

from perf.candidates import Candidate
from perf.journal import Journal, Point
from perf.measurement import Load, Measurement
from perf.served import ServedModel
from toolkit.errors import (
    ConfigError,
    ConnectionFailedError,
    DeadlineExceededError,
    ServerDiedError,
    ToolkitError,
)

Measure = Callable[[Load], Measurement]


class Trials:
    """Candidates of one model under measurement.

    ``measure`` measures the model as it is served at the moment. What the journal held when
    it was opened is taken before anything is measured, each measurement once: whoever asks
    in the same order after a crash gets the same figures.
    """

    def __init__(self, served: ServedModel, measure: Measure, journal: Journal) -> None:
        self.served = served
        self.journal = journal
        self._measure = measure
        self._loaded: Candidate | None = None
        self._recorded: defaultdict[tuple[Candidate, Load], deque[Point]] = defaultdict(deque)
        for point in journal.points:
            if point.measurement is not None:
                self._recorded[point.candidate, point.load].append(point)

    def point(self, candidate: Candidate, load: Load) -> Point:
        """Serve ``candidate``, measure it under ``load`` and write that down.

        A candidate that does not load, or fails under the load, is a point with its reason.
        Raises ``ServerDiedError`` when the server itself is gone.
        """
        recorded = self._recorded[candidate, load]
        if recorded:
            return recorded.popleft()
        try:
            if self._loaded != candidate:
                self._loaded = None
                self.served.load(candidate)
                self._loaded = candidate
            point = Point(candidate=candidate, load=load, measurement=self._measure(load))
        except ToolkitError as error:
            self._loaded = None
            self._require_server(error)
            point = Point(candidate=candidate, load=load, failure=error.message)
        self.journal.append(point)
        return point

    def _require_server(self, error: ToolkitError) -> None:
        if isinstance(error, ConfigError) or self.served.server_lives():
            return
        gone = isinstance(error, ConnectionFailedError | DeadlineExceededError)
        raise ServerDiedError(
            f"the server does not answer any more: {error.message if gone else 'it has ended'};"
            f" {len(self.journal.points)} measurement(s) are in {self.journal.path}",
            hint="start it again (toolkit deploy) and give the same command: it goes on from there",
        ) from error


def sweep(
    trials: Trials, candidates: Sequence[Candidate], loads: Sequence[Load]
) -> Iterator[Point]:
    """Yield a point for each candidate under each load, those of an earlier run included."""
    for candidate in candidates:
        for load in loads:
            yield trials.point(candidate, load)


def table(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the last point of each candidate and load, the fastest first, failures last."""
    last = {(point.candidate, point.load): point for point in points}

    def order(point: Point) -> tuple[float, str]:
        speed = point.measurement.inferences_per_second if point.measurement else -1.0
        return -speed, str(point.candidate)

    return tuple(sorted(last.values(), key=order))
