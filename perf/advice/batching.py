"""Rules about the batcher: its delay, its sizes, and whether there is one."""

import math

from perf.advice.evidence import Evidence
from perf.advice.found import Advice, micros, percent
from perf.advice.setting import QUEUE_LIMITS
from perf.candidates import Candidate

MISSED_US = 1_000.0
"""A shorter wait is none of a batcher that sleeps, which takes up to 500 ms."""

SPARE_CORES = 0.25
"""Fewer idle cores than this are none: some time is always lost between two tasks."""

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

MOSTLY = 0.5
NEVER = 0.1
"""The shares of the executions that count as the rule, and as none to speak of."""

LONGEST_DELAY_US = 1_000
"""The delay to try is a quarter of an execution, and no more than this."""

LARGEST_STEP = 8
"""``max_batch_size`` is raised by no more at once: memory grows with it."""


def missed_wake_ups(seen: Evidence) -> Advice | None:
    """Advise a queue without limits where requests wait long while the instances idle.

    Triton 2.51 loses wake-ups of its batcher where its queue has a limit or priorities:
    requests then wait up to 500 ms, at any delay. Core pull request 509, in 26.08, mends the
    counter that such a batcher goes by (triton-inference-server/server issue 8870). With
    several instances it is rare, and a wait is put down to the cores where none is idle.
    """
    counted, setting, idle = seen.counted, seen.setting, seen.machine.idle_cores
    queue = counted.mean_queue_us
    if not (setting.dynamic_batching and setting.queue_limits and seen.waits_unexplained):
        return None
    if queue < MISSED_US or not seen.busy < MOSTLY:
        return None
    if seen.instances > 1 and idle is not None and idle < SPARE_CORES:
        return None
    limits = ", ".join(setting.queue_limits)
    flags = " ".join(QUEUE_LIMITS[name] for name in setting.queue_limits)
    more = () if seen.instances > 1 else ("or have two instances, where it is rare",)
    return Advice(
        kind="batcher_sleeps",
        title="The batcher sleeps while requests wait",
        why=f"a request waits {micros(queue)} in the queue though the instances execute only"
        f" {percent(seen.busy)} of the time, an execution takes"
        f" {micros(counted.mean_execution_us)} and the delay is"
        f" {micros(setting.queue_delay_us)}. With a limit on the queue ({limits}) Triton 2.51"
        " can miss that a request has come, and sleeps on for up to 500 ms",
        change=(
            f"take out of config.pbtxt, in dynamic_batching: {limits}",
            f"or convert again with: {flags}",
            f"then: toolkit deploy {setting.model}",
            "or try Triton 26.08 or later, which mends such a queue (server issue 8870)",
            *more,
        ),
        gain=seen.gain_without_waits,
    )


def delay_too_long(seen: Evidence) -> Advice | None:
    """Advise no delay where requests wait it out while the instances idle."""
    counted, setting = seen.counted, seen.setting
    delay, queue = setting.queue_delay_us, counted.mean_queue_us
    joined, execution = seen.requests_per_execution, counted.mean_execution_us
    is_the_delay = DELAY_PART * delay <= queue <= DELAY_SLACK * delay + execution
    # Without a busy share a queue as long as the delay may be one for a full instance.
    idle = seen.busy < IDLE or (math.isnan(seen.busy) and joined < ALONE)
    gain = seen.gain_without(min(queue, delay))
    if not (setting.dynamic_batching and is_the_delay and idle and gain >= WORTH):
        return None
    kind, title, reason = _which_wait(seen)
    candidate = Candidate(
        max_queue_delay_microseconds=0,
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
        objective="latency",
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
    rows, cost = counted.rows_per_request, seen.cost()
    together = seen.rows_together if seen.rows_together > rows else 2 * rows
    possible = min(together, setting.max_batch_size)
    gain = cost.gain(possible, rows) if cost else None
    if (possible / rows if gain is None else gain) < WORTH:
        return None
    return Advice(
        kind="no_dynamic_batching",
        title="Switch dynamic batching on",
        why=f"{numbers}: dynamic batching is off. With it what waits goes in one execution of"
        f" up to {setting.max_batch_size} rows",
        candidate=Candidate(dynamic_batching=True),
        gain=gain,
        bound=possible / rows,
    )


def batches_are_small(seen: Evidence) -> Advice | None:
    """Advise a delay, or no preferred sizes, where full instances run small batches.

    At a delay of 0 Triton 2.51 sends a batch off once it has a preferred size, and joins
    nothing more to it; with a delay, what comes before the execution begins still goes in.
    """
    counted, setting, cost = seen.counted, seen.setting, seen.cost()
    if not (setting.dynamic_batching and seen.busy >= BUSY and _queues(seen)) or cost is None:
        return None
    rows, sizes = min(seen.rows_together, setting.max_batch_size), setting.preferred_batch_size
    gain = cost.gain(rows, counted.mean_batch_size)
    delay = max(min(round(counted.mean_execution_us / 4, -1), LONGEST_DELAY_US), 10)
    if sizes:
        small = seen.preferred_share >= MOSTLY
    else:
        small = max(counted.mean_batch_size / rows, setting.queue_delay_us / delay) < MOSTLY
    if not small or gain < WORTH:
        return None
    why = (
        f"the instances execute {percent(seen.busy)} of the time, in batches of"
        f" {counted.mean_batch_size:.1f} rows while {seen.in_flight:.0f} requests are under way,"
        f" and {cost}"
    )
    if sizes:
        return Advice(
            kind="preferred_sizes_too_small",
            title="The preferred sizes keep the batches small",
            why=f"{why}. {percent(seen.preferred_share)} of the executions have a preferred size"
            f" ({', '.join(map(str, sizes))})",
            candidate=Candidate(preferred_batch_size=()),
            gain=gain,
        )
    return Advice(
        kind="delay_too_short",
        title="Let requests wait a little for each other",
        why=f"{why}. The delay is {micros(setting.queue_delay_us)}, a quarter of an execution is"
        f" {micros(delay)}",
        candidate=Candidate(max_queue_delay_microseconds=int(delay)),
        gain=gain,
    )


def batches_are_full(seen: Evidence) -> Advice | None:
    """Advise a larger ``max_batch_size`` where most executions reach it and requests queue."""
    counted, setting, cost = seen.counted, seen.setting, seen.cost()
    most = setting.max_batch_size
    if not most or seen.full_share < MOSTLY or not _queues(seen) or seen.busy < BUSY:
        return None
    wanted = 1 << math.ceil(math.log2(max(seen.rows_together, 2 * most)))
    larger = min(wanted, LARGEST_STEP * most)
    gain = cost.gain(larger, counted.mean_batch_size) if cost else None
    cheaper = gain is None or gain >= WORTH
    if not (setting.dynamic_batching and seen.rows_together > most and cheaper):
        return None
    return Advice(
        kind="batches_are_full",
        title=f"Let more than {most} rows go in one execution",
        why=f"{percent(seen.full_share)} of the executions are full (max_batch_size {most}), and"
        f" {_the_queue(seen)}{f'; {cost}' if cost else ''}",
        candidate=Candidate(max_batch_size=larger),
        gain=gain,
        bound=larger / most,
    )


def _queues(seen: Evidence) -> bool:
    """Whether requests wait for an instance that executes, and not for a delay or a core."""
    overlap = math.isnan(seen.in_flight) or seen.in_flight > seen.instances
    return seen.waits_for_executions and overlap and not seen.busy < IDLE


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
