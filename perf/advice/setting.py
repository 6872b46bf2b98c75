"""How a model is set up to be served, as far as advice about it goes, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from perf.candidates import Candidate
from toolkit import pbtxt

QUEUE_LIMITS = {
    "default_timeout_microseconds": "--default-timeout-microseconds 0",
    "allow_timeout_override": "--no-allow-timeout-override",
    "max_queue_size": "--max-queue-size 0",
    "priority_levels": "--priority-levels 0 --default-priority-level 0",
}
"""What limits the queue, and the flags that take the limit out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the server runs; None is what is not known, as of a server far away.

    ``idle_cores`` is how many of the ``cores`` had nothing to do while the statistics were
    taken.
    """

    cores: int | None = None
    idle_cores: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a model's configuration says of batching, queue, instances, threads and cache.

    ``preferred_batch_size`` is empty where only Triton itself fills it in (with the
    ``max_batch_size``, in 2.51). ``queue_limits`` are the names of what makes the queue more
    than a line: time-outs, a size, priorities. ``threads`` is the count for one instance: None
    where the backend has no such count, 0 where it takes all cores. ``python_based`` says that
    the model runs in another process than the server.
    """

    model: str
    backend: str = ""
    python_based: bool = False
    ensemble: tuple[str, ...] = ()
    max_batch_size: int = 0
    dynamic_batching: bool = False
    sequence_batching: bool = False
    queue_delay_us: int = 0
    preferred_batch_size: tuple[int, ...] = ()
    queue_limits: tuple[str, ...] = ()
    max_queue_size: int = 0
    timeout_us: int = 0
    instance_count: int = 1
    one_instance_group: bool = True
    on_gpu: bool = False
    threads: int | None = None
    response_cache: bool = False

    @classmethod
    def from_config(cls, model: str, config: Mapping[str, Any]) -> Self:
        """Read Triton's JSON of a configuration; over gRPC 64-bit numbers are strings."""
        batcher = config.get("dynamic_batching")
        known = batcher or {}
        most = int(config.get("max_batch_size") or 0)
        preferred = tuple(int(rows) for rows in known.get("preferred_batch_size") or ())
        policy = known.get("default_queue_policy") or {}
        groups = config.get("instance_group") or [{}]
        backend = str(config.get("backend") or "")
        steps = (config.get("ensemble_scheduling") or {}).get("step") or ()
        return cls(
            model=model,
            backend=backend,
            python_based=str(config.get("runtime") or "").endswith(".py") or backend == "python",
            ensemble=tuple(dict.fromkeys(str(step.get("model_name")) for step in steps)),
            max_batch_size=most,
            dynamic_batching=batcher is not None,
            sequence_batching=config.get("sequence_batching") is not None,
            queue_delay_us=int(known.get("max_queue_delay_microseconds") or 0),
            preferred_batch_size=() if preferred == (most,) else preferred,
            queue_limits=tuple(
                name for name in QUEUE_LIMITS if int(policy.get(name) or known.get(name) or 0)
            ),
            max_queue_size=int(policy.get("max_queue_size") or 0),
            timeout_us=int(policy.get("default_timeout_microseconds") or 0),
            instance_count=sum(_instances(group) for group in groups),
            one_instance_group=len(groups) == 1,
            on_gpu=any(group.get("kind") == "KIND_GPU" for group in groups),
            threads=_threads(backend, config.get("parameters") or {}),
            response_cache=bool((config.get("response_cache") or {}).get("enable")),
        )

    def threads_on(self, cores: int) -> int:
        """Return how many threads one instance computes with on ``cores``."""
        return cores if self.threads == 0 else self.threads or 1


def how_to(setting: Setting, candidate: Candidate, objective: str) -> tuple[str, ...]:
    """Return the lines that say how to make the changes of ``candidate``."""
    written = "; ".join(_config_lines(setting, candidate))
    flags = " ".join(_flags(candidate))
    return (
        f"in config.pbtxt: {written}",
        f"or convert again with: {flags}",
        f"then: toolkit deploy {setting.model}",
        f"or let it be measured: toolkit perf tune {setting.model} --objective {objective} --apply",
    )


def _config_lines(setting: Setting, candidate: Candidate) -> list[str]:
    lines = []
    if candidate.max_batch_size is not None:
        lines.append(f"max_batch_size: {candidate.max_batch_size}")
    batcher = []
    if candidate.max_queue_delay_microseconds is not None:
        batcher.append(f"max_queue_delay_microseconds: {candidate.max_queue_delay_microseconds}")
    if candidate.preferred_batch_size:
        sizes = ", ".join(map(str, candidate.preferred_batch_size))
        batcher.append(f"preferred_batch_size: [ {sizes} ]")
    if candidate.dynamic_batching or batcher:
        lines.append(f"dynamic_batching {{ {' '.join(batcher)} }}".replace("{  }", "{ }"))
    if candidate.preferred_batch_size == ():
        lines.append("no preferred_batch_size")
    if candidate.instance_count is not None:
        kind = "KIND_GPU" if setting.on_gpu else "KIND_CPU"
        lines.append(f"instance_group {{ count: {candidate.instance_count} kind: {kind} }}")
    if candidate.intra_op_thread_count is not None:
        key = pbtxt.thread_parameter(setting.backend, "intra_op_thread_count")
        value = f'value {{ string_value: "{candidate.intra_op_thread_count}" }}'
        lines.append(f'parameters {{ key: "{key}" {value} }}')
    if candidate.response_cache is not None:
        lines.append(f"response_cache {{ enable: {str(candidate.response_cache).lower()} }}")
    return lines


def _flags(candidate: Candidate) -> list[str]:
    flags = []
    for name, value in candidate.changes().items():
        flag = name.replace("_", "-")
        match value:
            case bool():
                flags.append(f"--{flag}" if value else f"--no-{flag}")
            case ():
                flags.append(f"and without --{flag}")
            case tuple():
                flags.append(f"--{flag} {','.join(map(str, value))}")
            case _:
                flags.append(f"--{flag} {value}")
    return flags


def _instances(group: Mapping[str, Any]) -> int:
    count = max(int(group.get("count") or 1), 1)
    gpus = group.get("gpus") or ()
    # The count of a group is for each of its GPUs.
    return count * max(len(gpus), 1) if group.get("kind") == "KIND_GPU" else count


def _threads(backend: str, parameters: Mapping[str, Any]) -> int | None:
    key = pbtxt.thread_parameter(backend, "intra_op_thread_count")
    if key is None:
        return None
    text = str((parameters.get(key) or {}).get("string_value") or "0").strip()
    return int(text) if text.isdecimal() else 0
