"""When the machine has too much to do, the engine takes no more than it was told to.

Throttling turns away what exceeds ``max_concurrent``; without it such requests wait. It is
switched by hand (``enabled``) and, apart from that, by the load of the processor.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

ON_PERCENT = 90.0
OFF_PERCENT = 72.0
"""Between the two nothing changes, so that throttling does not flicker."""

_MIB = 1 << 20
_GROWTH = 1.1


class Throttle:
    """Whether one more request is too many; attributes may be changed at any time.

    ``relieve`` is called when the process holds more than ``watermark_bytes`` (resident) and
    should make caches smaller. It is called again only after the memory went below the mark
    or grew by another tenth: clearing caches that are not the cause would help nobody.
    """

    def __init__(
        self,
        max_concurrent: int,
        *,
        enabled: bool = False,
        automatic: bool = True,
        watermark_bytes: int = 1024 * _MIB,
        relieve: Callable[[], None] | None = None,
    ) -> None:
        self.max_concurrent = max_concurrent
        self.enabled = enabled
        self.automatic = automatic
        self.watermark_bytes = watermark_bytes
        self._relieve = relieve
        self._relieved_at = 0.0
        self._hot = False

    @property
    def active(self) -> bool:
        """Whether requests above the limit are turned away now."""
        return self.enabled or self._hot

    def throttled(self, active_requests: int) -> bool:
        """Return whether a request must not start beside ``active_requests`` others."""
        return active_requests >= self.max_concurrent and (self.enabled or self._hot)

    def note(self, cpu_percent: float, resident_bytes: int) -> None:
        """Take in the load of the processor (0 to 100, all cores) and the memory in use."""
        if not self.automatic:
            self._hot = False
        elif cpu_percent > ON_PERCENT and not self._hot:
            self._hot = True
            _log.warning("throttling is on: the processor is %.0f %% busy", cpu_percent)
        elif cpu_percent < OFF_PERCENT and self._hot:
            self._hot = False
            _log.info("throttling is off: the processor is %.0f %% busy", cpu_percent)
        self._note_memory(resident_bytes)

    async def watch(self, every_seconds: float = 10.0) -> None:
        """Look at processor and memory until cancelled.

        A look covers the whole time since the last one, so a short peak does not count.
        """
        # Not psutil.cpu_percent: whoever else calls it would shorten the time it covers.
        import psutil

        process = psutil.Process()
        before = psutil.cpu_times()
        while True:
            await asyncio.sleep(every_seconds)
            after = psutil.cpu_times()
            try:
                self.note(busy_percent(before, after), process.memory_info().rss)
            except Exception:  # noqa: BLE001  relieving is code of others
                _log.exception("watching the load failed; it goes on")
            before = after

    def _note_memory(self, resident_bytes: int) -> None:
        if resident_bytes <= self.watermark_bytes:
            self._relieved_at = 0.0
        elif self._relieve is not None and resident_bytes > self._relieved_at * _GROWTH:
            self._relieved_at = resident_bytes
            _log.warning("%d MiB of memory in use: caches are cleared", resident_bytes // _MIB)
            self._relieve()


def busy_percent(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how busy all processors were between two ``psutil.cpu_times()`` of Linux.

    Of its fields the first eight add up to the time passed (guest time is in user time);
    the fourth and fifth are spent idle and waiting for disks.
    """
    spent = [late - early for early, late in zip(before[:8], after[:8], strict=True)]
    total = sum(spent)
    return 100.0 * (1.0 - (spent[3] + spent[4]) / total) if total > 0 else 0.0
