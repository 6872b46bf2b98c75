"""A piece of advice, and the words its numbers are said in."""

from dataclasses import dataclass, field
from typing import Any

from perf.candidates import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing to change, the numbers that say so, and the lines that make the change.

    ``candidate`` holds the change where it is one of the configuration, and ``objective``
    what ``toolkit perf tune`` would look for; ``advise`` writes their lines. ``gain`` estimates
    the most that it brings, in times as fast; None if nothing that was seen tells. ``bound``
    is what it cannot exceed, and stands in for the gain where advice is ordered. ``urgent``
    goes before all that is merely faster.
    """

    kind: str
    title: str
    why: str
    change: tuple[str, ...] = ()
    candidate: Candidate = field(default_factory=Candidate)
    objective: str = "throughput"
    gain: float | None = None
    bound: float = 0.0
    urgent: bool = False

    @property
    def rank(self) -> float:
        """What orders the advice, the greatest first."""
        return self.bound if self.gain is None else self.gain

    def to_json(self) -> dict[str, Any]:
        """Return the advice as JSON can hold it."""
        return {
            "kind": self.kind,
            "title": self.title,
            "why": self.why,
            "change": list(self.change),
            "candidate": self.candidate.to_json(),
            "gain": None if self.gain is None else round(self.gain, 2),
        }


def micros(microseconds: float) -> str:
    """Say a time in the unit that suits it: ``340 µs``, ``5.2 ms``, ``1.20 s``."""
    if microseconds < 1_000:  # noqa: PLR2004 - where the next unit begins
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:  # noqa: PLR2004
        return f"{microseconds / 1_000:.1f} ms"
    return f"{microseconds / 1_000_000:.2f} s"


def percent(share: float) -> str:
    """Say a share: ``93 %``."""
    return f"{share:.0%}".replace("%", " %")
