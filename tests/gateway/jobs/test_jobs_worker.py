"""The worker runs jobs so that each ends once, whatever stops on the way."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tests.gateway.jobs.conftest import Cluster
from toolkit.errors import InvalidInputError, UnavailableError
from toolkit.gateway.jobs.schema import Job, NewJob, triton_priority
from toolkit.gateway.jobs.store import JobStore
from toolkit.gateway.jobs.worker import Run, Worker

DEADLINE_SECONDS = 60.0
_PROCESS = Path(__file__).with_name("worker_process.py")


def job(name: str = "1", **asked: Any) -> NewJob:
    return replace(NewJob("churn", "[[1.0]]", request_id=name), **asked)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def ended(store: JobStore, job_id: str) -> Job:
    """Return the job once it has ended."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = await store.get(job_id)
            assert found is not None
            if found.ended_at is not None:
                return found
            await asyncio.sleep(0.02)


def working(url: str, run: Run, act: Callable[[JobStore], Awaitable[None]], **options: Any) -> None:
    async def inner() -> None:
        store = await JobStore.open(url)
        try:
            async with Worker(store, run, **{"poll_seconds": 0.1, **options}):
                await act(store)
        finally:
            await store.close()

    asyncio.run(inner())


async def answer(job: Job) -> dict[str, Any]:
    return {"predictions": [[float(job.request_id)]], "metadata": {"cached": False}}


async def hang(_: Job) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def test_a_job_is_completed_with_the_documented_result(url: str) -> None:
    async def act(store: JobStore) -> None:
        asked = job("0.95")
        await store.submit(asked)
        found = await ended(store, asked.id)
        assert found.status == "completed"
        result = json.loads(found.result or "")
        assert result.pop("timestamp")
        assert result == {
            "request_id": "0.95",
            "success": True,
            "predictions": [[0.95]],
            "metadata": {"cached": False},
        }

    working(url, answer, act)


def test_a_submitted_job_wakes_the_worker_without_a_poll(sqlite_url: str) -> None:
    async def act(store: JobStore) -> None:
        await asyncio.sleep(0)
        for _ in range(3):
            asked = job()
            await store.submit(asked)
            assert (await ended(store, asked.id)).status == "completed"

    working(sqlite_url, answer, act, poll_seconds=10 * DEADLINE_SECONDS)


def test_no_more_jobs_run_at_once_than_there_is_room_for(sqlite_url: str) -> None:
    running: list[int] = []

    async def counted(job: Job) -> dict[str, Any]:
        running.append(running[-1] + 1 if running else 1)
        await asyncio.sleep(0.01)
        running.append(running[-1] - 1)
        return await answer(job)

    async def act(store: JobStore) -> None:
        jobs = [job() for _ in range(30)]
        await asyncio.gather(*(store.submit(one) for one in jobs))
        for one in jobs:
            await ended(store, one.id)
        assert max(running) == 4

    working(sqlite_url, counted, act, concurrency=4)


def test_an_error_of_the_model_fails_its_job_alone(url: str) -> None:
    async def picky(job: Job) -> dict[str, Any]:
        if job.request_id == "13":
            raise InvalidInputError("13 is no\x00 number")
        return await answer(job)

    async def act(store: JobStore) -> None:
        bad, good = job("13"), job("14")
        await store.submit(bad)
        await store.submit(good)
        failed = await ended(store, bad.id)
        assert (failed.status, failed.error) == ("failed", "13 is no number")
        assert failed.error_kind == "InvalidInputError"
        assert (await ended(store, good.id)).status == "completed"

    working(url, picky, act)


def test_a_fault_of_ours_is_told_to_the_log_and_not_to_the_caller(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Job) -> dict[str, Any]:
        raise KeyError("a secret of the gateway")

    async def act(store: JobStore) -> None:
        asked = job()
        await store.submit(asked)
        failed = await ended(store, asked.id)
        assert failed.error_kind == "KeyError"
        assert "secret" not in (failed.error or "")
        assert "a secret of the gateway" in caplog.text

    working(sqlite_url, broken, act)


def test_an_answer_that_is_no_json_fails_its_job(sqlite_url: str) -> None:
    async def strange(_: Job) -> dict[str, Any]:
        return {"predictions": object()}

    async def act(store: JobStore) -> None:
        asked = job()
        await store.submit(asked)
        assert (await ended(store, asked.id)).status == "failed"

    working(sqlite_url, strange, act)


def test_a_running_job_is_failed_when_its_time_is_over(sqlite_url: str) -> None:
    async def act(store: JobStore) -> None:
        asked = job(timeout_seconds=0.3)
        await store.submit(asked)
        found = await ended(store, asked.id)
        assert (found.status, found.error_kind) == ("failed", "DeadlineExceededError")
        assert found.attempts == 1

    working(sqlite_url, hang, act)


def test_a_job_that_waits_too_long_is_failed_and_never_run(sqlite_url: str) -> None:
    begun: list[str] = []

    async def hang_here(job: Job) -> dict[str, Any]:
        begun.append(job.request_id)
        return await hang(job)

    async def act(store: JobStore) -> None:
        blocking, late = job("blocking"), job("late", timeout_seconds=0.3)
        await store.submit(blocking)
        await store.submit(late)
        found = await ended(store, late.id)
        assert (found.status, found.error_kind) == ("failed", "DeadlineExceededError")
        assert begun == ["blocking"]
        assert await store.cancel(blocking.id)

    working(sqlite_url, hang_here, act, concurrency=1)


def test_a_cancelled_job_stops_running_and_makes_room(sqlite_url: str) -> None:
    async def first_hangs(job: Job) -> dict[str, Any]:
        return await (hang(job) if job.request_id == "hang" else answer(job))

    async def act(store: JobStore) -> None:
        hanging, next_one = job("hang"), job()
        await store.submit(hanging)
        await store.submit(next_one)
        await until(lambda: _is(store, hanging.id, "running"))
        assert await store.cancel(hanging.id)
        assert (await ended(store, next_one.id)).status == "completed"
        assert (await ended(store, hanging.id)).status == "cancelled"

    working(sqlite_url, first_hangs, act, concurrency=1)


def test_a_job_cancelled_by_another_gateway_stops_running_too(url: str) -> None:
    async def act(store: JobStore) -> None:
        other = await JobStore.open(url)
        asked = job()
        await store.submit(asked)
        await until(lambda: _is(store, asked.id, "running"))
        assert await other.cancel(asked.id)
        await other.close()
        next_one = job(timeout_seconds=0.5)
        await store.submit(next_one)
        assert (await ended(store, next_one.id)).attempts == 1

    # The second job can only be begun in the room that the first one leaves.
    working(url, hang, act, concurrency=1, lease_seconds=0.3)


def test_a_long_job_keeps_its_lease(sqlite_url: str) -> None:
    async def slow(job: Job) -> dict[str, Any]:
        await asyncio.sleep(2.0)
        return await answer(job)

    async def act(store: JobStore) -> None:
        asked = job()
        await store.submit(asked)
        found = await ended(store, asked.id)
        assert (found.status, found.attempts) == ("completed", 1)

    working(sqlite_url, slow, act, lease_seconds=0.9)


def test_a_job_waits_for_triton_to_come_back(url: str) -> None:
    up = asyncio.Event()

    async def away(job: Job) -> dict[str, Any]:
        if not up.is_set():
            raise UnavailableError("Triton does not answer")
        return await answer(job)

    async def available() -> bool:
        return up.is_set()

    async def act(store: JobStore) -> None:
        jobs = [job() for _ in range(5)]
        await asyncio.gather(*(store.submit(one) for one in jobs))
        await until(lambda: _begun_and_put_back(store, jobs))
        await asyncio.sleep(0.5)
        assert (await store.counts())["pending"] == 5
        up.set()
        found = [await ended(store, one.id) for one in jobs]
        assert {one.status for one in found} == {"completed"}
        # While Triton was known to be away, nothing was tried.
        assert max(one.attempts for one in found) == 2

    working(url, away, act, concurrency=5, available=available)


def test_a_job_whose_model_stays_broken_fails_at_last_and_holds_up_no_other(
    sqlite_url: str,
) -> None:
    async def run(job: Job) -> dict[str, Any]:
        if job.model == "broken":
            raise UnavailableError("broken is not ready")
        return await answer(job)

    async def act(store: JobStore) -> None:
        broken, fine = job(model="broken", priority=1), job()
        await store.submit(broken)
        await store.submit(fine)
        assert (await ended(store, fine.id)).status == "completed"
        found = await ended(store, broken.id)
        assert (found.status, found.error_kind) == ("failed", "UnavailableError")
        assert found.attempts == 3

    working(sqlite_url, run, act, concurrency=1, max_attempts=3)


def test_a_job_for_an_absent_triton_still_obeys_its_deadline(sqlite_url: str) -> None:
    async def away(_: Job) -> dict[str, Any]:
        raise UnavailableError("Triton does not answer")

    async def act(store: JobStore) -> None:
        asked = job(timeout_seconds=0.5)
        await store.submit(asked)
        found = await ended(store, asked.id)
        assert found.error_kind == "DeadlineExceededError"

    async def never() -> bool:
        return False

    working(sqlite_url, away, act, available=never)


def test_a_result_is_written_once_the_store_is_back(postgres: Cluster) -> None:
    url = postgres.database()
    began, may_end = asyncio.Event(), asyncio.Event()

    async def held(job: Job) -> dict[str, Any]:
        began.set()
        await may_end.wait()
        return await answer(job)

    async def act(store: JobStore) -> None:
        asked = job()
        await store.submit(asked)
        await began.wait()
        await asyncio.to_thread(postgres.stop)
        may_end.set()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(postgres.start)
        found = await ended(store, asked.id)
        assert (found.status, found.attempts) == ("completed", 1)
        next_one = job()
        await store.submit(next_one)
        assert (await ended(store, next_one.id)).status == "completed"

    working(url, held, act)


def test_a_worker_that_stops_lets_jobs_end_and_gives_the_rest_back(sqlite_url: str) -> None:
    async def run(job: Job) -> dict[str, Any]:
        if job.request_id == "hang":
            return await hang(job)
        await asyncio.sleep(0.2)
        return await answer(job)

    async def inner() -> None:
        store = await JobStore.open(sqlite_url)
        worker = Worker(store, run, concurrency=2)
        worker.start()
        jobs = [job("hang"), job("1"), job("2")]
        for one in jobs:
            await store.submit(one)
        await until(lambda: _is(store, jobs[1].id, "running"))
        await worker.stop(grace_seconds=1.0)
        found = [await store.get(one.id) for one in jobs]
        assert [one and (one.status, one.attempts) for one in found] == [
            ("pending", 0),
            ("completed", 1),
            ("pending", 0),
        ]
        assert worker.running == 0
        await store.close()

    asyncio.run(inner())


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(0, (0, 0, 0)), (1, (1, 1, 1)), (2, (1, 2, 2)), (3, (1, 2, 3)), (5, (1, 3, 5))],
)
def test_priorities_become_those_that_the_model_has(
    levels: int, expected: tuple[int, int, int]
) -> None:
    assert tuple(triton_priority(number, levels) for number in (1, 2, 3)) == expected


def test_after_kill_9_every_job_ends_exactly_once(url: str) -> None:
    """The database itself writes down each end, so that a second one could not hide."""
    count = 200

    async def act(store: JobStore) -> None:
        await _write_down_ends(store)
        jobs = [job(str(number)) for number in range(count)]
        await asyncio.gather(*(store.submit(one) for one in jobs))
        async with _process(url, "hang"):
            await until(lambda: _some_ended_and_some_run(store))
        left = await store.counts()
        assert left["running"] > 0
        assert left["completed"] < count
        async with _process(url):
            await until(lambda: _all_completed(store, count))
        assert Counter(await _ends(store)) == Counter({one.id: 1 for one in jobs})
        for one in jobs:
            found = await store.get(one.id)
            assert found is not None
            assert json.loads(found.result or "")["predictions"] == [[float(one.request_id)]]

    async def inner() -> None:
        store = await JobStore.open(url)
        try:
            await act(store)
        finally:
            await store.close()

    asyncio.run(inner())


@asynccontextmanager
async def _process(url: str, *arguments: str) -> AsyncIterator[None]:
    """Let a worker run in another process, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, _PROCESS, url, *arguments)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


_SQLITE_NOTES = [
    "CREATE TABLE ends (job TEXT NOT NULL)",
    """CREATE TRIGGER ended AFTER UPDATE ON gateway_jobs
    WHEN NEW.status IN ('completed', 'failed', 'cancelled')
    BEGIN INSERT INTO ends VALUES (NEW.id); END""",
]
_POSTGRESQL_NOTES = [
    "CREATE TABLE ends (job TEXT NOT NULL)",
    """CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO ends VALUES (NEW.id); RETURN NULL; END'""",
    """CREATE TRIGGER ended AFTER UPDATE ON gateway_jobs FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled')) EXECUTE FUNCTION note_end()""",
]


async def _write_down_ends(store: JobStore) -> None:
    """Let the database add a row for each change that leaves a job ended."""
    statements = _POSTGRESQL_NOTES if store._database.skips_locked else _SQLITE_NOTES
    for statement in statements:
        await store._database.write(partial(Connection.exec_driver_sql, statement=statement))


async def _ends(store: JobStore) -> list[str]:
    read = text("SELECT job FROM ends")
    return list(await store._database.read(lambda found: found.execute(read).scalars().all()))


async def _is(store: JobStore, job_id: str, status: str) -> bool:
    found = await store.get(job_id)
    return found is not None and found.status == status


async def _begun_and_put_back(store: JobStore, jobs: list[NewJob]) -> bool:
    found = [await store.get(one.id) for one in jobs]
    return all(one and one.status == "pending" and one.attempts == 1 for one in found)


async def _some_ended_and_some_run(store: JobStore) -> bool:
    counts = await store.counts()
    return counts["completed"] >= 20 and counts["running"] > 0


async def _all_completed(store: JobStore, count: int) -> bool:
    return (await store.counts())["completed"] == count
