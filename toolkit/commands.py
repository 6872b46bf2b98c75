"""How a command of the command line gets its options."""

from collections.abc import Callable
from typing import Any

Decorator = Callable[[Any], Any]


def decorated(command: Any, options: tuple[Decorator, ...]) -> Any:
    """Return ``command`` with ``options``, shown in their order."""
    for option in reversed(options):
        command = option(command)
    return command
