"""What a policy asks of the world: the drivers, one for threads and one for asyncio, do it.

A policy is a generator that yields effects. It is sent the result of each, or a
``RequestError`` is thrown into it; what it returns is the result of the call.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.client.transport import NO_HEADERS, Call

if TYPE_CHECKING:
    from toolkit.client.replicas import Replica

Result = TypeVar("Result")
Steps = Generator["Effect", Any, Result]


@dataclass(frozen=True, slots=True, eq=False)
class Send:
    """Send ``call`` to a replica; the result is the answer. ``timeout`` is in seconds."""

    replica: "Replica"
    call: Call[Any]
    timeout: float
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


@dataclass(frozen=True, slots=True, eq=False)
class Race:
    """Send; after ``delay`` seconds without an answer send what ``second`` gives as well.

    The result is the first answer, or the error of the first if none comes. ``ended`` is
    called for each that was sent, with None if it was answered, else with what ended it:
    anything but a ``RequestError`` means that it was given up.
    """

    first: Send
    second: Callable[[], Send | None]
    delay: float
    ended: Callable[[Send, BaseException | None], None]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let ``seconds`` pass; a client that is closed meanwhile ends it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Enter:
    """Wait for a place among the requests in flight; the result is whether there is one."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask for the addresses of a host; the result is a tuple of them, or an OSError comes."""

    host: str
    timeout: float


@dataclass(frozen=True, slots=True, eq=False)
class Close:
    """Close the connections to a replica that is no longer one."""

    replica: "Replica"


Effect = Send | Race | Sleep | Enter | Resolve | Close
