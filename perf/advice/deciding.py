"""All rules, and which of their advice is given."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from perf.advice import batching, callers, resources
from perf.advice.evidence import Evidence
from perf.advice.found import Advice
from perf.advice.setting import Machine, Setting, how_to
from perf.statistics import Snapshot

Rule = Callable[[Evidence], Advice | None]

RULES: tuple[Rule, ...] = (
    batching.missed_wake_ups,
    batching.delay_too_long,
    batching.no_batcher,
    batching.batches_are_small,
    batching.batches_are_full,
    resources.one_instance_full,
    resources.threads_fight,
    resources.no_core_idle,
    resources.cache_never_hits,
    callers.larger_requests,
    callers.smaller_batches,
    callers.one_at_a_time,
)

OPPOSITES: tuple[frozenset[str], ...] = (
    frozenset({"larger_requests", "smaller_batches"}),
    frozenset({"batches_are_full", "smaller_batches"}),
    frozenset({"delay_too_short", "smaller_batches"}),
    frozenset({"no_dynamic_batching", "smaller_batches"}),
    frozenset({"batcher_sleeps", "cores_are_taken"}),
    frozenset({"batcher_sleeps", "queue_is_full"}),
    frozenset({"instances_full", "threads_fight"}),
    frozenset({"instances_full", "cores_are_taken"}),
    frozenset({"instances_full", "machine_is_full"}),
    frozenset({"cores_are_taken", "queue_is_full"}),
    frozenset({"no_concurrency", "queue_is_full"}),
)
"""Kinds of advice that pull in two directions, or explain one wait in two ways."""


def advise(counted: Snapshot, setting: Setting, machine: Machine) -> list[Advice]:
    """Return what to change, what gains most first; nothing where all is well.

    ``counted`` is what happened between two moments (``Snapshot.since``). Up to a moment
    nobody knows since when, and rules that ask how busy the instances are keep silent.
    """
    seen = Evidence(counted, setting, machine)
    urgent = (callers.queue_is_full(seen), callers.failures(seen))
    first = [one for one in urgent if one is not None]
    alone = callers.no_traffic(seen) or callers.ensemble(seen)
    if alone is not None:
        return first or [alone]
    found = [one for rule in RULES if (one := rule(seen)) is not None]
    kept = agreeing([*first, *sorted(found, key=lambda one: one.rank, reverse=True)])
    return [
        replace(one, change=how_to(setting, one.candidate, one.objective))
        if one.candidate.changes()
        else one
        for one in kept
    ]


def agreeing(found: Iterable[Advice]) -> list[Advice]:
    """Return the advice without what goes against an earlier piece of it."""
    kept: list[Advice] = []
    for one in found:
        changes = one.candidate.changes()
        against = any(
            frozenset({one.kind, other.kind}) in OPPOSITES
            or any(
                changes.get(name, value) != value
                for name, value in other.candidate.changes().items()
            )
            for other in kept
        )
        if not against:
            kept.append(one)
    return kept
