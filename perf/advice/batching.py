"""Rules about the batcher: its delay, its sizes, and whether there is one."""

import math

from perf.advice.evidence import Evidence
from perf.advice.found import Advice, micros, percent
from perf.advice.setting import how_to
from perf.candidates import Candidate

SHORTEST_DELAY_US = 1
"""No wait to speak of. At 0 the batcher of Triton 2.51 can miss that a request has come, and
then sleeps out 500 ms of its own: one caller got 5 answers a second, and 1,367 at 1 µs."""

MISSED_US = 1_000.0
MISSED_EXECUTIONS = 3.0
"""A queue longer than both while the instances idle is no wait for an execution."""

IDLE = 0.7
"""Instances that execute less of the time are not what requests wait for."""

BUSY = 0.8
"""Instances that execute more are full: handing over took the rest when 32 callers filled
one (0.81 to 0.94 on the embedded server)."""

ALONE = 1.5
"""Requests in the mean execution below which joining them is not what happens."""

DELAY_PART = 0.5
DELAY_SLACK = 1.5
"""A mean queue within these parts of the delay is the delay: the last to join waits least."""

WORTH = 1.1
"""The least gain that is worth a change: below it two runs of the same differ by as much."""

QUEUES = 0.5
"""A queue longer than this part of an execution is one: half is the mean rest of an
execution that is under way when a request comes."""

MOSTLY = 0.5
NEVER = 0.1
"""The shares of the executions that count as the rule, and as none to speak of."""

DELAY_OF_EXECUTION = 0.25
LONGEST_DELAY_US = 1_000
"""The delay to try: a part of an execution, so that waiting for more never costs much."""

LARGEST_STEP = 8
"""``max_batch_size`` is raised by no more at once: memory grows with it."""


def missed_wake_ups(seen: Evidence) -> Advice | None:
    """Advise a delay of 1 µs where requests wait though there is none and nothing runs."""
    counted, setting = seen.counted, seen.setting
    queue, execution = counted.mean_queue_us, counted.mean_execution_us
    waits = queue > max(MISSED_US, MISSED_EXECUTIONS * execution)
    if not (setting.dynamic_batching and not setting.queue_delay_us and waits and seen.busy < IDLE):
        return None
    candidate = Candidate(max_queue_delay_microseconds=SHORTEST_DELAY_US)
    return Advice(
        kind="batcher_sleeps",
        title="The batcher sleeps while requests wait",
        why=f"a request waits {micros(queue)} in the queue though no delay is set, the"
        f" instances execute only {percent(seen.busy)} of the time and an execution takes"
        f" {micros(execution)}. With a delay of 0 Triton 2.51 can miss a request and sleep on"
        " for up to 500 ms; with 1 µs it does not",
        change=how_to(setting, candidate, "latency"),
        candidate=candidate,
        gain=counted.mean_request_us / max(counted.mean_request_us - queue, 1.0),
    )


def delay_too_long(seen: Evidence) -> Advice | None:
    """Advise no delay where requests wait it out while the instances idle."""
    counted, setting = seen.counted, seen.setting
    delay, queue = setting.queue_delay_us, counted.mean_queue_us
    joined, execution = seen.requests_per_execution, counted.mean_execution_us
    is_the_delay = DELAY_PART * delay <= queue <= DELAY_SLACK * delay + execution
    # Without a busy share a queue as long as the delay may be one for a full instance.
    idle = seen.busy < IDLE or (math.isnan(seen.busy) and joined < ALONE)
    gain = counted.mean_request_us / max(counted.mean_request_us - queue, 1.0)
    if not (setting.dynamic_batching and delay > SHORTEST_DELAY_US and is_the_delay):
        return None
    if not idle or gain < WORTH:
        return None
    kind, title, reason = _which_wait(seen)
    candidate = Candidate(
        max_queue_delay_microseconds=SHORTEST_DELAY_US,
        preferred_batch_size=() if setting.preferred_batch_size else None,
    )
    busy = (
        "" if math.isnan(seen.busy) else f"; the instances execute {percent(seen.busy)} of the time"
    )
    return Advice(
        kind=kind,
        title=title,
        why=f"requests wait {micros(queue)} of their {micros(counted.mean_request_us)} in the"
        f" queue, the delay is {micros(delay)}, and {reason}{busy}. What waits while an"
        " execution runs is joined without a delay too",
        change=how_to(setting, candidate, "latency"),
        candidate=candidate,
        gain=gain,
    )


def _which_wait(seen: Evidence) -> tuple[str, str, str]:
    setting, largest = seen.setting, max(seen.counted.batch_sizes, default=0)
    if setting.preferred_batch_size and seen.preferred_share < NEVER:
        sizes = ", ".join(map(str, setting.preferred_batch_size))
        return (
            "preferred_sizes_never_come",
            "The batcher waits for preferred sizes that never come",
            (
                f"{percent(seen.preferred_share)} of the executions had a preferred size ({sizes};"
                f" the largest had {largest} rows), so the others waited the whole delay"
            ),
        )
    if seen.requests_per_execution < ALONE:
        return (
            "delay_too_long",
            "The queue delay is too long: nobody else comes",
            f"only {seen.requests_per_execution:.1f} requests are joined in an execution",
        )
    return (
        "batch_never_fills",
        "The queue delay is too long: batches wait for rows that do not come",
        (
            f"{percent(seen.full_share)} of the executions reached the max_batch_size of"
            f" {setting.max_batch_size} (the largest had {largest} rows), so the others waited"
            " the whole delay"
        ),
    )


def no_batcher(seen: Evidence) -> Advice | None:
    """Advise dynamic batching where requests queue without it."""
    counted, setting = seen.counted, seen.setting
    if setting.dynamic_batching or setting.sequence_batching or not _queues(seen):
        return None
    together = seen.in_flight / seen.instances
    numbers = f"{_the_queue(seen)}, and each execution takes one request"
    if not setting.max_batch_size:
        return Advice(
            kind="no_batch_axis",
            title="Requests queue, and the model takes one at a time",
            why=f"{numbers}: max_batch_size is 0",
            change=(
                "if its first axis counts rows: toolkit convert FILE --max-batch-size 256",
                f"then: toolkit deploy {setting.model}",
            ),
        )
    if counted.rows_per_request > setting.max_batch_size * MOSTLY:
        return None
    rows = counted.rows_per_request
    cost = seen.cost()
    possible = min(together * rows if together > 1 else 2 * rows, setting.max_batch_size)
    gain = cost.gain(possible, rows) if cost else None
    if (possible / rows if gain is None else gain) < WORTH:
        return None
    candidate = Candidate(dynamic_batching=True, max_queue_delay_microseconds=SHORTEST_DELAY_US)
    return Advice(
        kind="no_dynamic_batching",
        title="Switch dynamic batching on",
        why=f"{numbers}: dynamic batching is off. With it what waits goes in one execution of"
        f" up to {setting.max_batch_size} rows",
        change=how_to(setting, candidate, "throughput"),
        candidate=candidate,
        gain=gain,
        bound=possible / rows,
    )


def delay_too_short(seen: Evidence) -> Advice | None:
    """Advise a delay where full instances run small batches and larger ones cost less."""
    counted, setting = seen.counted, seen.setting
    execution, cost = counted.mean_execution_us, seen.cost()
    delay = max(min(round(execution * DELAY_OF_EXECUTION, -1), LONGEST_DELAY_US), 10)
    room = min(seen.in_flight * counted.rows_per_request / seen.instances, setting.max_batch_size)
    if not (setting.dynamic_batching and seen.busy >= BUSY and _queues(seen)) or cost is None:
        return None
    gain = cost.gain(room, counted.mean_batch_size)
    few = counted.mean_batch_size < MOSTLY * room and setting.queue_delay_us < MOSTLY * delay
    if setting.preferred_batch_size or not few or gain < WORTH:
        return None
    candidate = Candidate(max_queue_delay_microseconds=int(delay))
    return Advice(
        kind="delay_too_short",
        title="Let requests wait a little for each other",
        why=f"the instances execute {percent(seen.busy)} of the time, in batches of"
        f" {counted.mean_batch_size:.1f} rows while {seen.in_flight:.0f} requests are under way,"
        f" and an execution costs {micros(cost.fixed_us)} before its first row and"
        f" {micros(cost.row_us)} a row. The delay is {micros(setting.queue_delay_us)}, a quarter"
        f" of an execution is {micros(delay)}",
        change=how_to(setting, candidate, "throughput"),
        candidate=candidate,
        gain=gain,
    )


def preferred_sizes_too_small(seen: Evidence) -> Advice | None:
    """Advise no preferred sizes where they cut the queue into small batches.

    Seen in 2.51 at a delay of 0; with 1 µs all that waits goes in one batch.
    """
    counted, setting, cost = seen.counted, seen.setting, seen.cost()
    sizes = setting.preferred_batch_size
    if not sizes or max(sizes) >= setting.max_batch_size or not _queues(seen) or cost is None:
        return None
    rows = min(seen.in_flight * counted.rows_per_request / seen.instances, setting.max_batch_size)
    gain = cost.gain(rows, counted.mean_batch_size)
    if seen.preferred_share < MOSTLY or seen.busy < BUSY or rows <= max(sizes) or gain < WORTH:
        return None
    candidate = Candidate(
        preferred_batch_size=(),
        max_queue_delay_microseconds=None if setting.queue_delay_us else SHORTEST_DELAY_US,
    )
    return Advice(
        kind="preferred_sizes_too_small",
        title="The preferred sizes keep the batches small",
        why=f"{percent(seen.preferred_share)} of the executions have a preferred size (at most"
        f" {max(sizes)} rows) while {seen.in_flight:.0f} requests are under way and the instances"
        f" execute {percent(seen.busy)} of the time; an execution costs {micros(cost.fixed_us)}"
        f" before its first row and {micros(cost.row_us)} a row",
        change=how_to(setting, candidate, "throughput"),
        candidate=candidate,
        gain=gain,
    )


def batches_are_full(seen: Evidence) -> Advice | None:
    """Advise a larger ``max_batch_size`` where most executions reach it and requests queue."""
    counted, setting, cost = seen.counted, seen.setting, seen.cost()
    most = setting.max_batch_size
    if not most or seen.full_share < MOSTLY or not _queues(seen) or seen.busy < BUSY:
        return None
    waiting = seen.in_flight * counted.rows_per_request / seen.instances
    wanted = 1 << math.ceil(math.log2(max(waiting, 2 * most)))
    larger = min(wanted, LARGEST_STEP * most)
    gain = cost.gain(larger, counted.mean_batch_size) if cost else None
    cheaper = gain is None or gain >= WORTH
    if not (setting.dynamic_batching and waiting > most and cheaper):
        return None
    candidate = Candidate(max_batch_size=larger)
    costs = "" if cost is None else (
        f"; an execution costs {micros(cost.fixed_us)} before its first row and"
        f" {micros(cost.row_us)} a row"
    )  # fmt: skip
    return Advice(
        kind="batches_are_full",
        title=f"Let more than {most} rows go in one execution",
        why=f"{percent(seen.full_share)} of the executions are full (max_batch_size {most}), and"
        f" {_the_queue(seen)}{costs}",
        change=how_to(setting, candidate, "throughput"),
        candidate=candidate,
        gain=gain,
        bound=larger / most,
    )


def _queues(seen: Evidence) -> bool:
    """Whether requests wait for an instance that executes, and not for a delay or a core."""
    counted = seen.counted
    beyond = counted.mean_queue_us - seen.setting.queue_delay_us
    overlap = math.isnan(seen.in_flight) or seen.in_flight > seen.instances
    return beyond > QUEUES * counted.mean_execution_us and overlap and not seen.busy < IDLE


def _the_queue(seen: Evidence) -> str:
    counted = seen.counted
    busy = "" if math.isnan(seen.busy) else (
        f" with {seen.in_flight:.0f} under way on {seen.instances} instance(s) that execute"
        f" {percent(seen.busy)} of the time"
    )  # fmt: skip
    return (
        f"requests wait {micros(counted.mean_queue_us)} for an execution of"
        f" {micros(counted.mean_execution_us)}{busy}"
    )
