"""What a wire may be asked to outlive, and what it says when it is forgotten."""

import asyncio
import warnings

from toolkit.errors import InvalidInputError


def warn_unclosed(wire: object, *, closed: bool) -> None:
    """Warn, as Python's own sockets do, that nobody closed ``wire``."""
    if not closed:
        warnings.warn(f"unclosed {wire!r}", ResourceWarning, stacklevel=3, source=wire)


def may_stay(bound: asyncio.AbstractEventLoop, running: asyncio.AbstractEventLoop) -> bool:
    """Return whether what was made in ``bound`` can be used on; False if that loop is over.

    Raises ``InvalidInputError`` if both are alive: sockets are watched by one loop only.
    """
    if bound is running:
        return True
    if bound.is_closed():
        return False
    raise InvalidInputError(
        "the client is in use in another event loop", hint="make one AsyncClient in each loop"
    )
