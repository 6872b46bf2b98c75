"""When a failed attempt is followed by another: tenacity's pauses, and a budget for all."""

from threading import Lock
from time import monotonic
from typing import Any

from toolkit.client.options import ClientOptions
from toolkit.errors import RequestError

_FILLS_IN = 10.0


class Budget:
    """The retries that a client's calls may still make, all together.

    A share of the requests comes back as retries; a reserve, refilled in ten seconds,
    covers a burst. So a server in trouble never gets many times the usual load.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._share = options.retry_share
        self._reserve = float(options.retry_reserve)
        self._tokens = self._reserve
        self._filled_at = monotonic()
        self._lock = Lock()

    def earn(self) -> None:
        """Count a request; no lock, since one that is lost to another thread does no harm."""
        if self._tokens < self._reserve:
            self._tokens += self._share

    def take(self) -> bool:
        """Return whether one more retry is in the budget, and take it."""
        with self._lock:
            now = monotonic()
            earned = (now - self._filled_at) * self._reserve / _FILLS_IN
            self._filled_at = now
            self._tokens = min(self._reserve, self._tokens + earned)
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def pause_after(attempts: int, error: RequestError, options: ClientOptions) -> float:
    """Return the seconds to wait before the next attempt, drawn anew each time."""
    # Imported with the first failure: it brings half of the standard library along.
    import tenacity

    wait = tenacity.wait_random_exponential(multiplier=options.backoff, max=options.max_backoff)
    state: Any = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = attempts
    return max(float(wait(state)), error.retry_after or 0.0)
