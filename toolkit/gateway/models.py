"""What the gateway knows of the models behind it, and how it notices that they change."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from toolkit.client import AsyncClient, IndexedModel
from toolkit.client.asking import Signature, signature_of
from toolkit.errors import RequestError, UnknownModelError

_FRESH_SECONDS = 2.0
_ASK_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Known:
    """A served model; ``version`` is the one that answers when none is asked for.

    ``fixed`` says that its requests all have arrays of one form, but for the number of rows.
    ``cached`` says that its entry lets answers be kept: ``response_cache`` in config.pbtxt.
    """

    name: str
    version: str
    signature: Signature
    fixed: bool
    cached: bool
    asked: float = field(default_factory=monotonic)
    refreshing: "asyncio.Task[None] | None" = None


class Models:
    """Signatures of served models, asked for once and looked at again while they are used.

    ``client`` gives the client to ask, ``listed`` what Triton's repository holds; ``changed``
    is called with a model's name when it is served in another form, or no more.
    """

    def __init__(
        self,
        client: Callable[[], AsyncClient],
        listed: Callable[[], Awaitable[tuple[IndexedModel, ...]]],
        changed: Callable[[str], None],
    ) -> None:
        self._client = client
        self._listed = listed
        self._changed = changed
        self._known: dict[tuple[str, str | None], Known] = {}

    async def get(self, model: str, version: str | None = None) -> Known:
        """Return what is known of a model. Raises ``RequestError``s, unknown models too."""
        known = self._known.get((model, version))
        if known is None:
            known = self._known[model, version] = await self._ask(model, version)
        elif monotonic() - known.asked > _FRESH_SECONDS and known.refreshing is None:
            known.refreshing = asyncio.create_task(self._refresh(known, version))
        return known

    def knows(self, model: str, version: str) -> bool:
        """Return whether a model of this name (and version, if not empty) was served of late."""
        if not version:
            return any(name == model for name, _ in self._known)
        return any(
            known.name == model and known.version == version for known in self._known.values()
        )

    def seen(self, model: str, version: str | None = None) -> Known | None:
        """Return what is known of a model without asking."""
        return self._known.get((model, version))

    def forget(self, model: str) -> None:
        """Ask again when the model is next needed."""
        for key in [key for key in self._known if key[0] == model]:
            del self._known[key]
        self._changed(model)

    async def index(self) -> tuple[IndexedModel, ...]:
        """Return the models that are served, sorted by name and version."""
        ready = (model for model in await self._listed() if model.state == "READY")
        return tuple(sorted(ready, key=lambda one: (one.name, int(one.version or 0))))

    async def _ask(self, model: str, version: str | None) -> Known:
        client = self._client()
        client.forget(model)
        metadata = await client.metadata(model, version=version, timeout=_ASK_SECONDS)
        config = await client.config(model, version=version, timeout=_ASK_SECONDS)
        newest = max(metadata.versions, key=_number, default="1")
        signature = signature_of(metadata, config)
        only = metadata.inputs[0] if len(metadata.inputs) == 1 else None
        fixed = only is not None and -1 not in only.shape[1:] and not signature.optional
        cached = bool(config.get("response_cache", {}).get("enable"))
        return Known(model, version or newest, signature, fixed, cached)

    async def _refresh(self, known: Known, version: str | None) -> None:
        key = (known.name, version)
        fresh: Known | None = None
        try:
            fresh = await self._ask(known.name, version)
        except UnknownModelError:
            self._known.pop(key, None)
        except RequestError:
            # Not reachable says nothing about the model.
            known.asked, known.refreshing = monotonic(), None
            return
        if fresh is not None and self._known.get(key) is known:
            self._known[key] = fresh
        before = (known.version, known.signature)
        if fresh is None or before != (fresh.version, fresh.signature):
            self._changed(known.name)

    async def close(self) -> None:
        """End what is under way."""
        for known in tuple(self._known.values()):
            if known.refreshing is not None:
                known.refreshing.cancel()
                with suppress(asyncio.CancelledError):
                    await known.refreshing


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
