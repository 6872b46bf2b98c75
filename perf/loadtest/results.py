"""What a load test found: counts of all workers put together, and figures made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from perf.loadtest.buckets import Counts, pack, percentile_microseconds, unpack
from perf.loadtest.recorder import Second, add, together

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
LATE_SHARE = 0.1
"""The generator is behind if its own lateness at p99 is more than this share of the p99."""
LATE_MS = 1.0
BUSY_SHARE = 0.9
"""A worker that takes more than this share of a core is at its limit."""
_ROWS = 1200


@dataclass(frozen=True, slots=True)
class Row:
    """Some seconds of the series; ``packed`` are counts of the times from when it was due.

    ``answered``, ``failed`` and ``not_sent`` are of what ended in them, whenever it was due.
    The times are None where nothing was answered.
    """

    begin_seconds: int
    seconds: int
    due: int
    answered: int
    failed: int
    not_sent: int
    received_bytes: int
    waiting: int
    connections: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    packed: bytes


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles, largest and mean of times in milliseconds."""

    percentiles_ms: Mapping[str, float]
    max_ms: float
    mean_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured. ``elapsed_seconds`` is without the warm-up.

    ``from_schedule`` counts from when a request was due, ``from_send`` from when it left;
    ``late`` is how long after it was due the generator came to a request, to send it or to
    put it in line.
    """

    elapsed_seconds: float
    interrupted: bool
    total: Second
    series: tuple[Row, ...]
    from_schedule: Latency | None
    from_send: Latency | None
    late: Latency | None
    workers: int
    closed: bool

    @property
    def asked_per_second(self) -> float:
        """Requests that came due a second."""
        return self._rate(self.total.due)

    @property
    def reached_per_second(self) -> float:
        """Requests a second that were answered as expected, while the load lasted."""
        return self._rate(self.total.answered_in_time)

    @property
    def received_bytes_per_second(self) -> float:
        """Bytes of answers a second, heads included."""
        return self._rate(self.total.received_bytes)

    @property
    def sent_bytes_per_second(self) -> float:
        """Bytes of answered requests a second, heads included."""
        return self._rate(self.total.sent_bytes)

    @property
    def success_percent(self) -> float:
        """How many requests of those that came due were answered as expected.

        Those that an interruption cut off are left out.
        """
        ended = self.total.due - self.total.unfinished
        return 100.0 * self.total.succeeded / ended if ended else 0.0

    @property
    def cpu_percent(self) -> float:
        """How much of a core each worker took."""
        return 100.0 * self.total.cpu_seconds / self.workers / max(self.elapsed_seconds, 1e-9)

    def _rate(self, number: int) -> float:
        return number / self.elapsed_seconds if self.elapsed_seconds else 0.0


class Collector:
    """Puts the seconds of all workers together as they come in.

    Its size does not grow with the time a test runs: beyond 20 minutes two rows of the
    series become one, then four. ``watch`` gets each second once all workers have had it.
    """

    def __init__(self, workers: int, watch: Callable[[Second], None] | None = None) -> None:
        self._workers = workers
        self._watch = watch
        self._pending: dict[int, list[Second]] = {}
        self._total = Second(0)
        self._rows: list[Row] = []
        self._step = 1
        self._open: list[Row] = []

    def take(self, second: Second) -> None:
        """Take what one worker counted in one second."""
        parts = self._pending.setdefault(second.index, [])
        parts.append(second)
        if len(parts) == self._workers:
            self._finish(second.index)

    def result(self, elapsed_seconds: float, *, interrupted: bool, closed: bool) -> Result:
        """Return the result of all that was taken."""
        for index in sorted(self._pending):
            self._finish(index)
        total = self._total
        from_send = latency(
            total.from_send, total.sum_from_send_seconds, total.max_from_send_seconds
        )
        from_due = latency(total.from_due, total.sum_from_due_seconds, total.max_from_due_seconds)
        late = latency(total.late, total.sum_late_seconds, total.max_late_seconds)
        return Result(
            elapsed_seconds,
            interrupted,
            total,
            (*self._rows, *self._open),
            from_send if closed else from_due,
            from_send,
            late,
            self._workers,
            closed,
        )

    def _finish(self, index: int) -> None:
        second = together(self._pending.pop(index), index)
        add(self._total, second)
        self._open.append(_row(second))
        if len(self._open) == self._step:
            self._rows.append(_joined(self._open))
            self._open = []
        if len(self._rows) == _ROWS:
            pairs = zip(self._rows[::2], self._rows[1::2], strict=True)
            self._rows = [_joined(list(pair)) for pair in pairs]
            self._step *= 2
        if self._watch is not None:
            self._watch(second)


def latency(counts: Counts, sum_seconds: float, max_seconds: float) -> Latency | None:
    """Return the figures of counted times, None if there are none."""
    if not counts:
        return None
    return Latency(
        {name: _percentile_ms(counts, at, max_seconds * 1e3) for name, at in PERCENTILES.items()},
        max_seconds * 1e3,
        sum_seconds * 1e3 / sum(counts.values()),
    )


def behind(result: Result) -> str | None:
    """Say why the figures are of the generator and not of the server, None if they are not."""
    if result.late is not None and result.from_schedule is not None:
        late = result.late.percentiles_ms["p99"]
        whole = result.from_schedule.percentiles_ms["p99"]
        if late > max(LATE_MS, LATE_SHARE * whole):
            return (
                f"it came to 1 % of the requests more than {late:.1f} ms after they were due"
                f" (p99 of the latency {whole:.1f} ms)"
            )
    if result.cpu_percent > 100 * BUSY_SHARE:
        return f"each worker took {result.cpu_percent:.0f} % of a core"
    return None


def broken_limits(
    result: Result, *, max_p99_ms: float | None, min_success_percent: float | None
) -> list[str]:
    """Return a line for each limit that the result breaks."""
    broken = []
    latency_ms = result.from_schedule
    p99 = None if latency_ms is None else latency_ms.percentiles_ms["p99"]
    if max_p99_ms is not None and p99 is None:
        broken.append(f"nothing was answered, so there is no p99 to be below {max_p99_ms:g} ms")
    elif max_p99_ms is not None and p99 is not None and p99 > max_p99_ms:
        broken.append(f"the p99 is {p99:.3g} ms, and may be {max_p99_ms:g} ms at most")
    success = result.success_percent
    if min_success_percent is not None and success < min_success_percent:
        broken.append(
            f"{success:.4g} % of the requests succeeded, and at least"
            f" {min_success_percent:g} % must"
        )
    return broken


def _row(second: Second) -> Row:
    counts = second.from_due or second.from_send
    most = max(second.max_from_due_seconds, second.max_from_send_seconds) * 1e3
    return Row(
        second.index,
        1,
        second.due,
        second.succeeded,
        sum(second.failures.values()),
        second.not_sent,
        second.received_bytes,
        second.waiting,
        second.connections,
        *_times_ms(counts, most),
        pack(counts),
    )


def _joined(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    counts: Counts = {}
    for row in rows:
        for bucket, number in unpack(row.packed).items():
            counts[bucket] = counts.get(bucket, 0) + number
    most = max((row.max_ms for row in rows if row.max_ms is not None), default=0.0)
    p50_ms, p99_ms, max_ms = _times_ms(counts, most)
    return replace(
        rows[0],
        seconds=sum(row.seconds for row in rows),
        due=sum(row.due for row in rows),
        answered=sum(row.answered for row in rows),
        failed=sum(row.failed for row in rows),
        not_sent=sum(row.not_sent for row in rows),
        received_bytes=sum(row.received_bytes for row in rows),
        waiting=max(row.waiting for row in rows),
        connections=max(row.connections for row in rows),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        max_ms=max_ms,
        packed=pack(counts),
    )


def _times_ms(counts: Counts, most_ms: float) -> tuple[float | None, float | None, float | None]:
    if not counts:
        return None, None, None
    p50, p99 = (_percentile_ms(counts, PERCENTILES[name], most_ms) for name in ("p50", "p99"))
    return p50, p99, most_ms


def _percentile_ms(counts: Counts, percentile: float, most_ms: float) -> float:
    # The upper end of a bucket may lie above all that was measured.
    return min(percentile_microseconds(counts, percentile) / 1e3, most_ms)
