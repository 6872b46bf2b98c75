"""A candidate: what is changed in a model's configuration, and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from toolkit.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Changes to a configuration, under the names of Triton and ``ServingConfig``.

    None leaves a setting as it is. ``dynamic_batching=False`` takes the batcher away, and
    with it the queue delay and the preferred sizes. One without changes is ``AS_SERVED``.
    """

    max_batch_size: int | None = None
    dynamic_batching: bool | None = None
    max_queue_delay_microseconds: int | None = None
    preferred_batch_size: tuple[int, ...] | None = None
    instance_count: int | None = None
    intra_op_thread_count: int | None = None
    response_cache: bool | None = None

    def __str__(self) -> str:
        shown = (f"{name}={_shown(value)}" for name, value in self.changes().items())
        return " ".join(shown) or "as served"

    def changes(self) -> dict[str, Any]:
        """Return the settings that are changed."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the changes as JSON can hold them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.changes().items()
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` gave. Raises ``ConfigError`` for a setting it does not know."""
        unknown = sorted(set(record) - {one.name for one in fields(cls)})
        if unknown:
            raise ConfigError(f"a candidate has no setting {', '.join(unknown)}")
        sizes = record.get("preferred_batch_size")
        return cls(
            **{**record, **({} if sizes is None else {"preferred_batch_size": tuple(sizes)})}
        )


AS_SERVED = Candidate()
"""The model as it is served: no changes."""


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return json.dumps(value)
