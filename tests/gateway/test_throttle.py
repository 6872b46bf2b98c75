"""Throttling: by hand, by the load of the processor, and what happens when memory runs out."""

import asyncio
import logging
import time
from collections.abc import Callable

import psutil
import pytest

from toolkit.gateway.throttle import Throttle, busy_percent

MIB = 1 << 20


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  nothing else tells
            await asyncio.sleep(0.005)


def test_it_turns_away_what_exceeds_the_limit_only_when_switched_on() -> None:
    throttle = Throttle(2)
    assert not throttle.throttled(1000)
    throttle.enabled = True
    assert [throttle.throttled(count) for count in (0, 1, 2, 3)] == [False, False, True, True]
    throttle.max_concurrent = 3
    assert not throttle.throttled(2)


def test_a_busy_processor_switches_it_on_and_a_calm_one_off_again() -> None:
    throttle = Throttle(1)
    seen = []
    for percent in (90.0, 90.1, 89.0, 72.0, 71.9, 80.0, 90.0):
        throttle.note(percent, 0)
        seen.append(throttle.throttled(1))
    assert seen == [False, True, True, True, False, False, False]


def test_a_calm_processor_does_not_switch_off_what_was_switched_on_by_hand() -> None:
    throttle = Throttle(1, enabled=True)
    throttle.note(95.0, 0)
    throttle.note(1.0, 0)
    assert throttle.active
    throttle.enabled = False
    assert not throttle.active


def test_the_processor_is_left_out_of_account_when_so_told() -> None:
    throttle = Throttle(1, automatic=False)
    throttle.note(100.0, 0)
    assert not throttle.active
    throttle.automatic = True
    throttle.note(100.0, 0)
    assert throttle.active
    throttle.automatic = False
    throttle.note(100.0, 0)
    assert not throttle.active


def test_caches_are_cleared_above_the_mark_and_not_again_while_it_does_not_help() -> None:
    cleared: list[int] = []
    throttle = Throttle(1, watermark_bytes=1000 * MIB, relieve=lambda: cleared.append(used))
    for used in (900, 1000, 1001, 1050, 1101, 1103, 1150, 999, 1001):
        throttle.note(0.0, used * MIB)
    assert cleared == [1001, 1103, 1001]


def test_the_share_of_the_processors_is_that_of_the_time_between_two_looks() -> None:
    # user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
    before = [100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 1000.0]
    after = [103.0, 200.0, 302.0, 404.0, 501.0, 600.0, 700.0, 800.0, 903.0, 1000.0]
    assert busy_percent(before, after) == pytest.approx(50.0)
    assert busy_percent(before, before) == 0.0
    assert psutil.cpu_times()._fields[3:5] == ("idle", "iowait")


def test_the_watch_sees_a_processor_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, int]] = []
    throttle = Throttle(1)
    monkeypatch.setattr(throttle, "note", lambda percent, used: seen.append((percent, used)))

    async def main() -> None:
        watch = asyncio.create_task(throttle.watch(0.1))
        await asyncio.sleep(0)
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        await until(lambda: len(seen) > 1)
        watch.cancel()
        await asyncio.wait([watch])

    asyncio.run(main())
    assert seen[0][0] > 0.0, "one of the processors was busy"
    assert all(0 <= percent <= 100 and used > MIB for percent, used in seen)


def test_the_watch_outlives_a_failure_of_what_it_calls(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def relieve() -> None:
        nonlocal calls
        calls += 1
        throttle._relieved_at = 0.0  # so that the next look calls it again
        raise OSError

    throttle = Throttle(1, watermark_bytes=1, relieve=relieve)

    async def main() -> None:
        watch = asyncio.create_task(throttle.watch(0.005))
        await until(lambda: calls > 1)
        watch.cancel()
        await asyncio.wait([watch])

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "watching the load failed" in caplog.text
