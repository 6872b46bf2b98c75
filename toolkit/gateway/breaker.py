"""A model that keeps failing is left alone for a while, and no other model notices.

Closed, a circuit opens after ``threshold`` failures in a row; open, it refuses until
``recovery_seconds`` have passed since the last failure; half open, it lets requests through
until one succeeds (closed) or fails (open again).

Own code: purgatory, which the client uses for whole servers, measures from the moment of
opening and by the wall clock, and cannot leave a request out of account.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from toolkit.errors import DeadlineExceededError, ServerError, UnexpectedError
from toolkit.gateway.exchange import Refused

State = Literal["closed", "open", "half_open"]

FAULTS = (ServerError, DeadlineExceededError, UnexpectedError)
"""What counts against a model.

A caller's bad input does not. Neither does a Triton that is away or not ready
(``ConnectionFailedError``, ``UnavailableError``): no single model is to blame, the answer
costs nothing, and an open circuit would only put off the recovery.
"""


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    failed_at: float = 0.0
    half_open: bool = False


class Breaker:
    """The circuits of all models; only those with failures are remembered."""

    def __init__(
        self,
        *,
        threshold: int = 5,
        recovery_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._recovery = recovery_seconds
        self._clock = clock
        self._circuits: dict[str, _Circuit] = {}

    def before(self, model: str) -> None:
        """Let a request through, or raise ``Refused`` with 503 and ``Retry-After``."""
        circuit = self._circuits.get(model)
        if circuit is None or circuit.half_open or circuit.failures < self._threshold:
            return
        wait = circuit.failed_at + self._recovery - self._clock()
        if wait <= 0:
            circuit.half_open = True
            return
        seconds = math.ceil(wait)
        raise Refused(
            503,
            f"Model {model} failed {circuit.failures} times in a row and is left alone; "
            f"try again in {seconds} s",
            ((b"retry-after", b"%d" % seconds),),
        )

    def success(self, model: str) -> None:
        """Note that the model answered.

        An answer to a request from before the circuit opened does not close it.
        """
        circuit = self._circuits.get(model)
        if circuit is not None and (circuit.half_open or circuit.failures < self._threshold):
            del self._circuits[model]

    def failure(self, model: str) -> None:
        """Note that the model failed; whether an error counts is ``counts``' to say."""
        circuit = self._circuits.setdefault(model, _Circuit())
        circuit.failures += 1
        circuit.failed_at = self._clock()
        circuit.half_open = False

    def forget(self, model: str) -> None:
        """Close the circuit of a model that was loaded anew or taken away."""
        self._circuits.pop(model, None)

    def state(self, model: str) -> State:
        """Return how the model's circuit stands."""
        circuit = self._circuits.get(model)
        if circuit is None or circuit.failures < self._threshold:
            return "closed"
        waited = self._clock() >= circuit.failed_at + self._recovery
        return "half_open" if circuit.half_open or waited else "open"


def counts(error: BaseException) -> bool:
    """Return whether an error is the model's own fault."""
    return isinstance(error, FAULTS)
