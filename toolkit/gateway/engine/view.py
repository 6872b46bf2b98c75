"""The engine as the jobs see it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toolkit.gateway.engine.state import Engine


@dataclass(frozen=True, slots=True)
class View:
    """What jobs must know of the engine.

    ``fits`` raises ``InvalidInputError`` where features do not fit the model of a name.
    """

    engine: Engine
    fits: Callable[[str, list[Any]], None] = lambda _model, _features: None

    def ready(self) -> bool:
        """Say whether predictions are taken (READY or RUNNING)."""
        return self.engine.ready()

    def state(self) -> str:
        """Return the state's name."""
        return str(self.engine.state)

    def model(self) -> tuple[str, str | None] | None:
        """Return the model's name, and no version: a job is answered by the newest."""
        current = self.engine.loaded()
        return (current.name, None) if current else None

    def batching(self) -> bool:
        """Say whether Triton joins requests."""
        return self.engine.config.enable_batching

    def mean_seconds(self) -> float | None:
        """Return the mean time of an inference; None before the first."""
        return self.engine.mean_seconds()

    def check(self, features: list[Any]) -> None:
        """Raise ``InvalidInputError`` where the features do not fit the current model."""
        current = self.engine.loaded()
        if current is not None:
            self.fits(current.name, features)
