"""Rules about what the model runs on: instances, threads, cores, the response cache."""

import math

from perf.advice.batching import BUSY, MOSTLY, SPARE_CORES, WORTH
from perf.advice.evidence import Evidence
from perf.advice.found import Advice, micros, percent
from perf.candidates import Candidate

OVERLAP = 1.5
"""Requests under way for each instance from which another instance would find work."""

WORKS = 0.5
"""Executions under way at a time, in the mean, below which nothing fights for cores."""

GPU_INSTANCES = 2
"""On a GPU a second instance copies while the first computes; a third finds little to do."""

FEW_LOOKUPS = 100
FEW_HITS = 0.01
"""A cache that answers less than this, of so many requests at least, costs more than it saves."""


def one_instance_full(seen: Evidence) -> Advice | None:
    """Advise more instances where those there are full and cores are idle."""
    counted, setting = seen.counted, seen.setting
    full = seen.busy >= BUSY and seen.in_flight >= OVERLAP * seen.instances
    if not (full and seen.waits_for_executions and setting.one_instance_group):
        return None
    more = _room(seen, setting.instance_count)
    wanted = min(more, math.ceil(seen.in_flight / seen.instances) * setting.instance_count)
    if wanted <= setting.instance_count:
        return None
    cores = seen.machine.cores
    threads = None
    if setting.threads == 0 and cores is not None and not setting.on_gpu:
        threads = max(cores // wanted, 1)
    candidate = Candidate(instance_count=wanted, intra_op_thread_count=threads)
    idle = seen.free_cores
    where = "" if idle is None or setting.on_gpu else f"; of {cores} cores {idle:.1f} are idle"
    share = "" if threads is None else (
        f". Each instance takes all cores now; {threads} thread(s) each keeps them apart"
    )  # fmt: skip
    return Advice(
        kind="instances_full",
        title=f"Run {wanted} instances instead of {setting.instance_count}",
        why=f"{setting.instance_count} instance(s) execute {percent(seen.busy)} of the time,"
        f" requests wait {micros(counted.mean_queue_us)} for an execution of"
        f" {micros(counted.mean_execution_us)}, {seen.in_flight:.0f} are under way{where}{share}."
        " Each instance holds the model in memory once more",
        candidate=candidate,
        gain=wanted / setting.instance_count,
    )


def _room(seen: Evidence, count: int) -> int:
    """Return how many instances there is room for; one more where nobody knows."""
    if seen.setting.on_gpu:
        return max(count, GPU_INSTANCES)
    cores, free = seen.machine.cores, seen.free_cores
    if cores is None:
        return count + 1
    # An instance that takes all cores leaves some idle all the same, which its threads show.
    each = seen.setting.threads or 1
    idle = seen.machine.idle_cores if seen.setting.threads == 0 else free
    return min(count + int((idle or 0) // each), max(cores // each, count))


def threads_fight(seen: Evidence) -> Advice | None:
    """Advise fewer threads, or instances, where there are more of them than cores."""
    setting, cores = seen.setting, seen.machine.cores
    if cores is None or setting.on_gpu or not seen.busy * seen.instances >= WORKS:
        return None
    count, each = setting.instance_count, setting.threads_on(cores)
    if count * each <= cores or not setting.one_instance_group:
        return None
    if setting.threads is None:
        candidate = Candidate(instance_count=cores)
    else:
        instances = min(count, cores)
        threads = max(cores // instances, 1)
        candidate = Candidate(
            instance_count=None if instances == count else instances,
            intra_op_thread_count=None if threads == setting.threads else threads,
        )
    own = "" if setting.threads else " (it takes all cores unless told otherwise)"
    of_each = "" if setting.threads is None else f" of {each} thread(s){own}"
    return Advice(
        kind="threads_fight",
        title="Threads fight for the cores",
        why=f"{count} instance(s){of_each} want {count * each} cores and there are {cores}; they"
        f" execute {percent(seen.busy)} of the time, {micros(seen.counted.mean_execution_us)} each"
        " execution, some of it waiting for one another",
        candidate=candidate,
        gain=min(count * each / cores, 2.0),
    )


def no_core_idle(seen: Evidence) -> Advice | None:
    """Say that requests wait for a core: the model's own work fills them, or others' does."""
    counted, setting, idle = seen.counted, seen.setting, seen.machine.idle_cores
    if idle is None:
        return None
    why = (
        f"requests wait {micros(counted.mean_queue_us)} for an execution of"
        f" {micros(counted.mean_execution_us)}, the instances execute {percent(seen.busy)} of the"
        f" time, and of {seen.machine.cores} cores {idle:.1f} are idle"
    )
    if seen.busy < MOSTLY and seen.waits_unexplained and idle < SPARE_CORES:
        return Advice(
            kind="cores_are_taken",
            title="Other programs take the cores",
            why=why,
            change=(
                "move what else runs on this machine elsewhere, the callers too if they run here",
                "or give the server cores of its own (a container's --cpuset-cpus)",
            ),
            gain=seen.gain_without_waits,
        )
    # Full instances want a core for another one, the others just any.
    wanted = (setting.threads or 1) if seen.busy >= BUSY else SPARE_CORES
    if setting.on_gpu or idle >= wanted or not (seen.busy >= MOSTLY and seen.waits_for_executions):
        return None
    return Advice(
        kind="machine_is_full",
        title="The machine is at its limit",
        why=why,
        change=(
            "more cores, or replicas of the server on other machines (Client takes several URLs)",
            "or a cheaper model: toolkit convert FILE --prefer speed, or --quantize",
            "or move the callers elsewhere, if they run here",
        ),
    )


def cache_never_hits(seen: Evidence) -> Advice | None:
    """Advise no response cache where hardly a request comes twice."""
    counted = seen.counted
    lookups = counted.cache_hits + counted.cache_misses
    if not seen.setting.response_cache or lookups < FEW_LOOKUPS:
        return None
    if counted.cache_hits / lookups >= FEW_HITS:
        return None
    cost = counted.tally("cache_miss").mean_us
    return Advice(
        kind="cache_never_hits",
        title="Switch the response cache off",
        why=f"it answered {counted.cache_hits:,} of {lookups:,} requests, and the others paid"
        f" {micros(cost)} each for looking there and storing the answer",
        objective="latency",
        candidate=Candidate(response_cache=False),
        gain=max(seen.gain_without(cost), WORTH),
    )
