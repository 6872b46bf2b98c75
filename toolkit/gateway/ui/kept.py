"""What somebody else knows and may be slow to tell, asked for only as often as needed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

from toolkit.errors import ToolkitError
from toolkit.gateway.replies import told

_log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last answer to ``ask``, asked for once in ``every_seconds`` while somebody looks.

    ``value`` is None before the first answer. ``problem`` says why the last question has
    failed; the value stays what it was before.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Value]],
        *,
        every_seconds: float,
        patience_seconds: float = 0.5,
    ) -> None:
        self._ask = ask
        self._every = every_seconds
        self._patience = patience_seconds
        self._asked = -every_seconds
        self._asking: asyncio.Task[None] | None = None
        self.value: Value | None = None
        self.problem: str | None = None

    async def look(self) -> Value | None:
        """Return the value; an answer that takes long is there at a later look."""
        if self._asking is None and monotonic() - self._asked >= self._every:
            self._asking = asyncio.create_task(self._renew())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=self._patience)
        return self.value

    async def _renew(self) -> None:
        try:
            self.value = await self._ask()
            self.problem = None
        except ToolkitError as error:
            self.problem = told(error)
        except Exception:  # noqa: BLE001  the page says so, the other parts stay
            _log.exception("the page's figures cannot be read")
            self.problem = "this cannot be read; the gateway's log says why"
        finally:
            self._asked = monotonic()
            self._asking = None
