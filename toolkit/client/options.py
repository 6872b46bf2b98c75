"""How a client behaves on a bad day: every number in one place."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from toolkit.errors import ConfigError

TIMEOUT = 30.0
"""Seconds that a whole call may take where nothing else is said."""


def _option(default: Any, told: str) -> Any:
    return field(default=default, metadata={"help": told})


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Retries, balancing and limits of a client; times are in seconds.

    Each field's metadata says what it means.
    """

    retries: int = _option(8, "Attempts after the first.")
    backoff: float = _option(
        0.05, "The pause before a retry is drawn between 0 and this, which doubles each time."
    )
    max_backoff: float = _option(2.0, "The longest pause of that kind.")
    retry_share: float = _option(0.2, "Retries that all calls together may make, of requests sent.")
    retry_reserve: int = _option(100, "Retries saved up for a burst; refilled in ten seconds.")
    attempt_timeout: float | None = _option(
        None, "End an attempt after this time, so that another can follow; None: no limit."
    )
    breaker: bool = _option(True, "Set a replica aside that keeps failing.")
    breaker_threshold: int = _option(5, "Failures in a row that set it aside.")
    breaker_reset: float = _option(1.0, "Time until it is asked whether it is back.")
    hedge_after: float | None = _option(
        None, "Send an inference once more, elsewhere if possible, if no answer came by then."
    )
    max_in_flight: int | None = _option(None, "Requests under way at once; others wait.")
    connections: int = _option(128, "Connections kept to each HTTP server.")
    idle: float = _option(60.0, "A connection that was idle for longer is not used again.")
    resolve_every: float = _option(10.0, "How often a name of a dns: URL is asked for.")

    def __post_init__(self) -> None:
        for name, lowest in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < lowest):
                raise ConfigError(f"{name} must be a whole number from {lowest} on, got {value!r}")
        for name in _SECONDS:
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a positive number, got {value!r}")
        if self.retry_share < 0:
            raise ConfigError(f"retry_share must not be negative, got {self.retry_share!r}")


_COUNTS = {
    "retries": 0,
    "retry_reserve": 0,
    "breaker_threshold": 1,
    "max_in_flight": 1,
    "connections": 1,
}
_SECONDS = (
    "backoff",
    "max_backoff",
    "attempt_timeout",
    "breaker_reset",
    "hedge_after",
    "idle",
    "resolve_every",
)
