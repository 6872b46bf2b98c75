"""What the engine needs of the gateway around it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from toolkit.client import Client
from toolkit.gateway.engine.live_config import Config


@dataclass(frozen=True, slots=True)
class Told:
    """A model's answer: its first output as JSON has it, all outputs, and the seconds it took."""

    predictions: Any
    outputs: Mapping[str, NDArray[Any]]
    seconds: float = 0.0
    cached: bool = False


class Ask(Protocol):
    """How a served model is asked, by the name of its entry. Raises ``RequestError``s."""

    async def __call__(
        self, model: str, features: list[Any], /, *, request_id: str | None, cached: bool
    ) -> Told:
        """Return the model's answer to ``features``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engine needs of the gateway.

    ``repository`` is None where models cannot be written. ``folder`` is where the engine
    keeps which model is loaded. ``forget`` is told the name of an entry whose answers are no
    longer true, ``changed`` each new configuration; ``pressed`` says that the machine has too
    much to do, which throttles as the setting does.
    """

    repository: Path | None
    folder: Path
    model_dir: Path
    ask: Ask
    control: Callable[[], AbstractContextManager[Client]]
    allow_pickle: bool = False
    forget: Callable[[str], None] = lambda _name: None
    changed: Callable[[Config], None] = lambda _config: None
    pressed: Callable[[], bool] = lambda: False
    load_seconds: float = 600.0
