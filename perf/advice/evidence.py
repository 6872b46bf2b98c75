"""What the rules of advice look at: a model's statistics beside its setting and its machine."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from perf.advice.found import micros
from perf.advice.setting import Machine, Setting
from perf.statistics import Snapshot

FEW_EXECUTIONS = 20
"""Fewer executions of a size have no mean worth a comparison."""

LEAST_BUSY = 0.01
"""Instances that execute less are taken to execute so much: no gain is told that well."""

QUEUES = 0.5
"""A queue longer than this part of an execution is one: half is the mean rest of an
execution that is under way when a request comes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an execution costs: something for itself, and something for each row."""

    fixed_us: float
    row_us: float

    def __str__(self) -> str:
        return (
            f"an execution costs {micros(self.fixed_us)} before its first row and"
            f" {micros(self.row_us)} a row"
        )

    def gain(self, rows: float, instead_of: float) -> float:
        """Return how many times the rows a second ``rows`` at a time give."""
        here, there = (self.fixed_us + self.row_us * size for size in (instead_of, rows))
        return (rows / there) / (instead_of / here) if here > 0 and there > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Evidence:
    """The statistics of a stretch of traffic, and what follows from them."""

    counted: Snapshot
    setting: Setting
    machine: Machine

    @property
    def instances(self) -> int:
        """How many instances shared the work: each version that ran has its own."""
        ran = sum(1 for one in self.counted.versions.values() if one.execution_count)
        return self.setting.instance_count * max(ran, 1)

    @property
    def busy(self) -> float:
        """The share of the time in which the mean instance was executing; NaN if not known.

        An execution is counted when it ends, so a short look can see more than all the time.
        """
        return min(self.counted.busy_share(self.instances), 1.0)

    @property
    def in_flight(self) -> float:
        """The mean number of requests inside the server; NaN if not known."""
        return self.counted.mean_in_flight

    @property
    def waiting(self) -> float:
        """The mean number of requests in the queue; NaN if not known."""
        return self.counted.tally("queue").ns / 1e9 / self.counted.seconds

    @property
    def rows_together(self) -> float:
        """The rows for each instance that are inside the server at a time, in the mean."""
        return self.in_flight * self.counted.rows_per_request / self.instances

    @property
    def waits_for_executions(self) -> bool:
        """Whether requests wait longer than the delay, as others are under way."""
        beyond = self.counted.mean_queue_us - self.setting.queue_delay_us
        return beyond > QUEUES * self.counted.mean_execution_us

    @property
    def waits_unexplained(self) -> bool:
        """Whether requests wait longer than the delay and executions under way make them."""
        delays, executions = 2 * self.setting.queue_delay_us, 3 * self.counted.mean_execution_us
        return self.counted.mean_queue_us > delays + executions

    def gain_without(self, wait_us: float) -> float:
        """Return how many times as fast the mean request is without ``wait_us`` of it."""
        whole = self.counted.mean_request_us
        return whole / max(whole - wait_us, 1.0)

    @property
    def gain_without_waits(self) -> float:
        """How many times as fast it is at most where requests wait for executions alone.

        They still wait for one, and no instance executes more than all of the time.
        """
        longer = self.counted.mean_queue_us - self.counted.mean_execution_us
        return min(self.gain_without(longer), 1 / max(self.busy, LEAST_BUSY))

    @property
    def requests_per_execution(self) -> float:
        """How many requests were joined in the mean execution."""
        computed = self.counted.tally("compute_infer").count
        return computed / self.counted.executions if self.counted.executions else math.nan

    @property
    def full_share(self) -> float:
        """The share of the executions that had no room for another request."""
        most = self.setting.max_batch_size - self.counted.rows_per_request
        return self._share(rows for rows in self.counted.batch_sizes if rows > most)

    @property
    def preferred_share(self) -> float:
        """The share of the executions of a preferred size."""
        return self._share(self.setting.preferred_batch_size)

    def _share(self, sizes: Iterable[int]) -> float:
        counts = self.counted.batch_sizes
        whole = sum(counts.values())
        return sum(counts.get(rows, 0) for rows in sizes) / whole if whole else math.nan

    @property
    def free_cores(self) -> float | None:
        """How many cores have room for more work; None where nobody knows."""
        if self.machine.idle_cores is not None:
            return self.machine.idle_cores
        if self.machine.cores is None:
            return None
        used = self.setting.instance_count * self.setting.threads_on(self.machine.cores)
        return max(self.machine.cores - used, 0)

    def cost(self) -> Cost | None:
        """Fit time = fixed + rows times so much to the executions; None if it cannot be told.

        Least squares, each size weighed by its executions. Takes two sizes at least, one
        twice the other, ``FEW_EXECUTIONS`` or more together in each half.
        """
        points = list(self._executions())
        rows = [size for size, _, _ in points]
        if not points or max(rows) < 2 * min(rows):
            return None
        middle = math.sqrt(max(rows) * min(rows))
        halves = [
            sum(n for size, n, _ in points if (size > middle) is side) for side in (False, True)
        ]
        if min(halves) < FEW_EXECUTIONS:
            return None
        weight = sum(n for _, n, _ in points)
        mean_rows = sum(size * n for size, n, _ in points) / weight
        mean_us = sum(us * n for _, n, us in points) / weight
        spread = sum(n * (size - mean_rows) ** 2 for size, n, _ in points)
        together = sum(n * (size - mean_rows) * (us - mean_us) for size, n, us in points)
        row_us = together / spread
        fixed_us = mean_us - row_us * mean_rows
        if row_us < 0:
            return Cost(mean_us, 0.0)
        return Cost(fixed_us, row_us) if fixed_us >= 0 else Cost(0.0, mean_us / mean_rows)

    def row_us(self) -> dict[int, float]:
        """Return what a row costs in executions of about 1, 2, 4, 8, … rows.

        Each size stands for all up to the next; those with few executions are left out.
        """
        counts: dict[int, int] = {}
        rows: dict[int, int] = {}
        time: dict[int, float] = {}
        for size, n, us in self._executions():
            step = 1 << (size.bit_length() - 1)
            counts[step] = counts.get(step, 0) + n
            rows[step] = rows.get(step, 0) + size * n
            time[step] = time.get(step, 0.0) + us * n
        return {
            step: time[step] / rows[step] for step in sorted(rows) if counts[step] >= FEW_EXECUTIONS
        }

    def cheapest(self) -> tuple[int, float]:
        """Return where a row costs least, of ``row_us``, and how many times less than now.

        0 and 0 where nothing is to be compared.
        """
        costs = self.row_us()
        if not costs:
            return 0, 0.0
        best = min(costs, key=lambda rows: costs[rows])
        now = self.counted.mean_execution_us / self.counted.mean_batch_size
        return best, now / costs[best]

    def _executions(self) -> Iterator[tuple[int, int, float]]:
        """Yield each size, its executions and their mean time in microseconds."""
        for rows, n in self.counted.batch_sizes.items():
            parts = ("compute_input", "compute_infer", "compute_output")
            if rows:
                yield rows, n, sum(self.counted.execution(rows, part).mean_us for part in parts)
