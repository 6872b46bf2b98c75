"""What is told apart in a report: candidates, and the sides of a comparison."""

from dataclasses import dataclass

from perf import settings
from perf.candidates import Candidate

_WORDS = {
    "max_batch_size": "batch ≤ {}",
    "max_queue_delay_microseconds": "delay {} µs",
    "preferred_batch_size": "prefers {}",
    "instance_count": "{} instances",
    "intra_op_thread_count": "{} threads",
}
_SWITCHES = {"dynamic_batching": "batching", "response_cache": "cache"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A candidate; in a comparison, the side that it stands for, too.

    Two sides may have the same candidate: versions and whole configurations are none.
    """

    candidate: Candidate
    side: str = ""

    def __str__(self) -> str:
        if not self.side:
            return str(self.candidate)
        return f"{self.side}: {self.candidate}" if self.candidate.changes() else self.side

    @property
    def as_served(self) -> bool:
        """Whether nothing is changed and nothing else is compared."""
        return not self.side and not self.candidate.changes()

    @property
    def short(self) -> str:
        """The variant in few words, for a legend."""
        if self.side:
            return self.side
        return " · ".join(_part(*one) for one in self.candidate.changes().items()) or "as served"


def _part(name: str, value: object) -> str:
    if name in _SWITCHES:
        return _SWITCHES[name] if value else f"no {_SWITCHES[name]}"
    text = _WORDS[name].format("none" if value == () else settings.shown(value))
    return text[:-1] if value == 1 and text.endswith("s") else text
