"""What one worker counts, a second at a time."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields

from perf.loadtest.buckets import Counts, count


@dataclass(slots=True)
class Second:
    """Counts of one second, of one worker or of all.

    Requests are counted in the second in which they ended, whenever they were due; those
    that came due in the warm-up are not. ``answered_in_time`` and the bytes are of what
    ended between the warm-up and the end, whenever it was due: the rate is made of them.
    """

    index: int
    due: int = 0
    succeeded: int = 0
    not_sent: int = 0
    unfinished: int = 0
    sent_again: int = 0
    answered_in_time: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    waiting: int = 0
    connections: int = 0
    cpu_seconds: float = 0.0
    sum_from_due_seconds: float = 0.0
    sum_from_send_seconds: float = 0.0
    sum_late_seconds: float = 0.0
    max_from_due_seconds: float = 0.0
    max_from_send_seconds: float = 0.0
    max_late_seconds: float = 0.0
    statuses: Counts = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    from_due: Counts = field(default_factory=dict)
    from_send: Counts = field(default_factory=dict)
    late: Counts = field(default_factory=dict)


def together(seconds: Iterable[Second], index: int) -> Second:
    """Return the sum: numbers are added, the largest kept, the first example stays."""
    total = Second(index)
    for second in seconds:
        add(total, second)
    return total


def add(total: Second, second: Second) -> None:
    """Add one to another."""
    for one in fields(Second):
        name, value = one.name, getattr(second, one.name)
        before = getattr(total, name)
        if name == "index":
            continue
        if name == "examples":
            before.update({kind: text for kind, text in value.items() if kind not in before})
        elif isinstance(value, dict):
            for key, number in value.items():
                before[key] = before.get(key, 0) + number
        elif name.startswith("max_"):
            setattr(total, name, max(before, value))
        else:
            setattr(total, name, before + value)


class Recorder:
    """Counts what happens to the requests of one worker.

    All times are of ``time.monotonic()``. ``start`` is the end of the warm-up, ``end`` when
    the last request is due. A full second goes to ``emit``; ``gauge`` tells how many
    requests wait in line and how many connections there are.
    """

    def __init__(
        self, start: float, end: float, emit: Callable[[Second], None], *, closed: bool
    ) -> None:
        self._start = start
        self._end = end
        self._emit = emit
        self._closed = closed
        self._until = start + 1
        self._cpu = time.process_time()
        self._second = Second(0)
        self.gauge: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def came(self, due: float, now: float | None = None) -> None:
        """Count a request that came due; ``now``, in an open loop, is its turn."""
        if due < self._start:
            return
        second = self._second
        second.due += 1
        if now is not None:
            late = now - due
            count(second.late, late)
            second.sum_late_seconds += late
            second.max_late_seconds = max(second.max_late_seconds, late)

    def succeeded(self, due: float, sent: float, now: float, status: int, moved: "Moved") -> None:
        """Count a request that was answered as expected."""
        if now >= self._until:
            self.turn(now)
        second = self._second
        if self._start <= now < self._end:
            second.answered_in_time += 1
            second.sent_bytes += moved[0]
            second.received_bytes += moved[1]
        if due >= self._start:
            second.succeeded += 1
            second.statuses[status] = second.statuses.get(status, 0) + 1
            self._time(second, due, sent, now)

    def failed(self, kind: str, due: float, now: float, example: str) -> None:
        """Count a request that failed."""
        if now >= self._until:
            self.turn(now)
        if due >= self._start:
            second = self._second
            second.failures[kind] = second.failures.get(kind, 0) + 1
            if kind not in second.examples:
                second.examples[kind] = example

    def refused(self, status: int, due: float, now: float, example: str) -> None:
        """Count a request that was answered with a status that nobody expected."""
        self.failed(f"status {status}", due, now, example)
        if due >= self._start:
            statuses = self._second.statuses
            statuses[status] = statuses.get(status, 0) + 1

    def timed_out(self, due: float, sent: float, now: float, example: str) -> None:
        """Count a request that was given up; the time it had until then counts as well."""
        self.failed("timeout", due, now, example)
        if due >= self._start:
            self._time(self._second, due, sent, now)

    def sent_again(self, due: float) -> None:
        """Count a request that met a connection which the server was just closing."""
        if due >= self._start:
            self._second.sent_again += 1

    def not_sent(self, due: float) -> None:
        """Count a request that was due and never left."""
        if due >= self._start:
            self._second.not_sent += 1

    def missed(self, number: int, *, interrupted: bool) -> None:
        """Count requests that came due and that the generator never came to."""
        self._second.due += number
        if interrupted:
            self._second.unfinished += number
        else:
            self._second.not_sent += number

    def unfinished(self, due: float) -> None:
        """Count a request under way when the run was interrupted."""
        if due >= self._start:
            self._second.unfinished += 1

    def turn(self, now: float) -> None:
        """Hand over every second that is over."""
        while now >= self._until:
            self.hand_over()

    def hand_over(self) -> None:
        """Hand over the second as it is, and begin the next."""
        second = self._second
        second.waiting, second.connections = self.gauge()
        cpu = time.process_time()
        second.cpu_seconds, self._cpu = cpu - self._cpu, cpu
        self._emit(second)
        self._second = Second(second.index + 1)
        self._until += 1

    def begin(self) -> None:
        """Forget the processor time that was spent until now."""
        self._cpu = time.process_time()

    def _time(self, second: Second, due: float, sent: float, now: float) -> None:
        from_send = now - sent
        count(second.from_send, from_send)
        second.sum_from_send_seconds += from_send
        second.max_from_send_seconds = max(second.max_from_send_seconds, from_send)
        if self._closed:
            return
        from_due = now - due
        count(second.from_due, from_due)
        second.sum_from_due_seconds += from_due
        second.max_from_due_seconds = max(second.max_from_due_seconds, from_due)


Moved = tuple[int, int]
"""Bytes sent and received for a request."""
