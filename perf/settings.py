"""The settings of a candidate as they stand in a configuration: before and after."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perf.candidates import Candidate

_WHERE = {
    "max_batch_size": "max_batch_size",
    "dynamic_batching": "dynamic_batching",
    "max_queue_delay_microseconds": "dynamic_batching.max_queue_delay_microseconds",
    "preferred_batch_size": "dynamic_batching.preferred_batch_size",
    "instance_count": "instance_group.count",
    "intra_op_thread_count": "parameters.intra_op_thread_count",
    "response_cache": "response_cache.enable",
}


def served(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a candidate as Triton's JSON ``configuration`` has them.

    None stands for a setting that is not there.
    """
    batching = configuration.get("dynamic_batching")
    delays = batching if isinstance(batching, Mapping) else {}
    groups = [one for one in _sequence(configuration, "instance_group") if isinstance(one, Mapping)]
    # ONNX Runtime's key is written in small letters, PyTorch's in capitals.
    most, preferred = configuration.get("max_batch_size"), _sequence(delays, "preferred_batch_size")
    parameters = {
        str(key).lower(): value for key, value in _mapping(configuration, "parameters").items()
    }
    return {
        "max_batch_size": most,
        "dynamic_batching": batching is not None,
        "max_queue_delay_microseconds": delays.get("max_queue_delay_microseconds"),
        # What Triton 2.51 fills in where none is written.
        "preferred_batch_size": None if preferred == [most] else tuple(preferred) or None,
        "instance_count": sum(_count(one) for one in groups) or None,
        "intra_op_thread_count": _mapping(parameters, "intra_op_thread_count").get("string_value"),
        "response_cache": bool(_mapping(configuration, "response_cache").get("enable")),
    }


def with_changes(configuration: Mapping[str, Any], candidate: Candidate) -> dict[str, Any]:
    """Return the settings with the changes of ``candidate`` made."""
    made = served(configuration) | candidate.changes()
    if made["dynamic_batching"] is False:
        made |= {"max_queue_delay_microseconds": None, "preferred_batch_size": None}
    most, preferred = made["max_batch_size"], made["preferred_batch_size"]
    if isinstance(most, int) and preferred:
        # As perf.configuration does: Triton refuses to prefer more than may be joined.
        fitting = (rows for rows in preferred if not isinstance(rows, int) or rows <= most)
        made["preferred_batch_size"] = tuple(fitting) or None
    return made


def effective(configuration: Mapping[str, Any], candidate: Candidate) -> Candidate:
    """Return ``candidate`` without the settings that change nothing in ``configuration``.

    Each candidate of a grid names every setting of it; a reader wants to see what differs.
    """
    for name in candidate.changes():
        less = replace(candidate, **{name: None})
        if _shown(configuration, less) == _shown(configuration, candidate):
            candidate = less
    return candidate


def differences(
    configuration: Mapping[str, Any], one: Candidate, other: Candidate
) -> list[tuple[str, str, str]]:
    """Return the settings in which two candidates differ: where, in the one, in the other."""
    before, after = _shown(configuration, one), _shown(configuration, other)
    return [
        (where, before[name], after[name])
        for name, where in _WHERE.items()
        if before[name] != after[name]
    ]


def instance_group(configuration: Mapping[str, Any], candidate: Candidate) -> str:
    """Return instances as Model Analyzer shows them, such as ``2:CPU``; "" if not known."""
    groups = [one for one in _sequence(configuration, "instance_group") if isinstance(one, Mapping)]
    kind = str(groups[0].get("kind", "")) if groups else ""
    count = with_changes(configuration, candidate)["instance_count"]
    return f"{count}:{kind.removeprefix('KIND_') or 'CPU'}" if count else ""


def shown(value: object) -> str:
    """Return a value for a person to read."""
    match value:
        case None | ():
            return "not set"
        case bool():
            return "on" if value else "off"
        case list() | tuple():
            return ", ".join(map(shown, value))
        case float():
            return f"{value:,.6g}"
        case _:
            return str(value)


def _shown(configuration: Mapping[str, Any], candidate: Candidate) -> dict[str, str]:
    # As texts, for so does Triton's JSON write 64-bit numbers and parameters.
    return {name: shown(value) for name, value in with_changes(configuration, candidate).items()}


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def _sequence(record: Mapping[str, Any], name: str) -> list[Any]:
    found = record.get(name)
    return found if isinstance(found, list) else []


def _count(record: Mapping[str, Any]) -> int:
    found = record.get("count")
    return found if isinstance(found, int) else 0
