"""The store keeps each job until it has ended once, in SQLite and in PostgreSQL alike."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.gateway.jobs.conftest import Cluster
from toolkit.errors import ConfigError
from toolkit.gateway.jobs.database import JobStoreUnavailableError
from toolkit.gateway.jobs.schema import PRIORITIES, Job, NewJob
from toolkit.gateway.jobs.store import JobQueueFullError, JobStore

LEASE = 60.0


@asynccontextmanager
async def opened(url: str, max_pending: int = 1000) -> AsyncIterator[JobStore]:
    store = await JobStore.open(url, max_pending=max_pending)
    try:
        yield store
    finally:
        await store.close()


def job(name: str = "", **asked: Any) -> NewJob:
    return replace(NewJob("churn", "[[1.0, 2.0]]", request_id=name), **asked)


def using(url: str, act: Callable[[JobStore], Awaitable[None]], max_pending: int = 1000) -> None:
    async def run() -> None:
        async with opened(url, max_pending) as store:
            await act(store)

    asyncio.run(run())


def names(jobs: list[Job]) -> list[str]:
    return [found.request_id for found in jobs]


def test_a_submitted_job_is_pending_with_all_that_was_asked(url: str) -> None:
    async def act(store: JobStore) -> None:
        asked = job("mine", version="3", priority=PRIORITIES["low"], timeout_seconds=60.0)
        assert await store.submit(asked) == 0
        found = await store.get(asked.id)
        assert found is not None
        assert (found.model, found.version, found.request_id) == ("churn", "3", "mine")
        assert (found.status, found.priority, found.attempts) == ("pending", 3, 0)
        assert found.age_seconds == pytest.approx(0, abs=30)
        assert found.left_seconds == pytest.approx(60, abs=30)

    using(url, act)


def test_a_submission_tells_how_many_wait_before_it(url: str) -> None:
    async def act(store: JobStore) -> None:
        together = await asyncio.gather(*(store.submit(job()) for _ in range(20)))
        assert sorted(together) == list(range(20))
        assert await store.queue_length() == 20

    using(url, act)


def test_the_highest_priority_goes_first_and_in_it_the_oldest(url: str) -> None:
    async def act(store: JobStore) -> None:
        order = ["low", "normal", "high", "normal", "high", "low"]
        for number, priority in enumerate(order):
            await store.submit(job(f"{priority}{number}", priority=PRIORITIES[priority]))
        first = await store.claim(2, "a", LEASE)
        rest = await store.claim(10, "a", LEASE)
        assert names(first) == ["high2", "high4"]
        assert names(rest) == ["normal1", "normal3", "low0", "low5"]
        assert {found.features for found in first} == {"[[1.0, 2.0]]"}
        assert await store.claim(10, "a", LEASE) == []

    using(url, act)


def test_gateways_that_claim_at_once_never_get_the_same_job(url: str) -> None:
    async def run() -> None:
        async with opened(url) as one, opened(url) as two:
            await asyncio.gather(*(one.submit(job(str(number))) for number in range(100)))

            async def take(store: JobStore, owner: str) -> list[Job]:
                taken: list[Job] = []
                while claimed := await store.claim(3, owner, LEASE):
                    taken += claimed
                return taken

            parts = await asyncio.gather(*(take(s, str(i)) for i, s in enumerate((one, two) * 2)))
            claimed = [name for part in parts for name in names(part)]
            assert len(claimed) == 100
            assert len(set(claimed)) == 100

    asyncio.run(run())


def test_a_job_ends_once_however_many_say_how(url: str) -> None:
    async def act(store: JobStore) -> None:
        await store.submit(job())
        (claimed,) = await store.claim(1, "a", LEASE)
        completed = [store.complete(claimed, "{}") for _ in range(5)]
        failed = [store.fail(claimed, "no", "E") for _ in range(5)]
        assert sum(await asyncio.gather(*completed, *failed)) == 1
        assert not await store.put_back(claimed)
        found = await store.get(claimed.id)
        assert found is not None
        assert found.status in {"completed", "failed"}
        assert found.ended_at is not None

    using(url, act)


def test_who_lost_its_lease_cannot_end_the_job_even_under_the_same_name(url: str) -> None:
    async def act(store: JobStore) -> None:
        await store.submit(job())
        (first,) = await store.claim(1, "a", -1.0)
        assert await store.recover(10) == 1
        (second,) = await store.claim(1, "a", LEASE)
        assert second.attempts == 2
        assert not await store.complete(first, "{}")
        assert await store.renew([first, second], LEASE) == {(second.id, 2)}
        assert await store.complete(second, '{"predictions":[[1]]}')
        found = await store.get(second.id)
        assert found is not None
        assert found.result == '{"predictions":[[1]]}'

    using(url, act)


def test_a_lease_that_holds_or_was_renewed_is_not_taken_back(url: str) -> None:
    async def act(store: JobStore) -> None:
        await store.submit(job("renewed"))
        await store.submit(job("fresh"))
        (renewed,) = await store.claim(1, "a", -1.0)
        await store.claim(1, "a", LEASE)
        await store.renew([renewed], LEASE)
        assert await store.recover(10) == 0
        assert (await store.counts())["running"] == 2

    using(url, act)


def test_a_job_that_ends_its_worker_each_time_fails_at_last(url: str) -> None:
    async def act(store: JobStore) -> None:
        asked = job()
        await store.submit(asked)
        for _ in range(3):
            assert len(await store.claim(1, "a", -1.0)) == 1
            await store.recover(3)
        found = await store.get(asked.id)
        assert found is not None
        assert (found.status, found.error_kind) == ("failed", "WorkerLost")
        assert "3 times" in (found.error or "")

    using(url, act)


def test_a_job_that_is_put_back_keeps_its_place_after_its_delay(url: str) -> None:
    async def act(store: JobStore) -> None:
        for name in ("first", "second", "third"):
            await store.submit(job(name))
        first, second = await store.claim(2, "a", LEASE)
        assert await store.put_back(first)
        assert await store.put_back(second, 60.0, begun=False)
        again = await store.claim(3, "b", LEASE)
        assert names(again) == ["first", "third"]
        assert again[0].attempts == 2
        later = await store.get(second.id)
        assert later is not None
        assert (later.status, later.attempts) == ("pending", 0)

    using(url, act)


def test_a_job_whose_time_is_over_is_failed_and_never_run(url: str) -> None:
    async def act(store: JobStore) -> None:
        late, punctual = job("late", timeout_seconds=1e-6), job("punctual", timeout_seconds=60.0)
        await store.submit(late)
        await store.submit(punctual)
        assert names(await store.claim(5, "a", LEASE)) == ["punctual"]
        assert await store.expire() == 1
        found = await store.get(late.id)
        assert found is not None
        assert (found.status, found.error_kind) == ("failed", "DeadlineExceededError")
        assert "timed out" in (found.error or "")

    using(url, act)


def test_a_cancelled_job_is_not_run_and_its_late_result_is_dropped(url: str) -> None:
    async def act(store: JobStore) -> None:
        heard: list[str] = []
        store.on_cancelled.append(heard.append)
        waiting, running = job(), job(priority=1)
        await store.submit(waiting)
        await store.submit(running)
        (claimed,) = await store.claim(1, "a", LEASE)
        assert await store.cancel(waiting.id)
        assert await store.cancel(running.id)
        assert not await store.cancel(running.id)
        assert not await store.complete(claimed, "{}")
        assert await store.claim(5, "a", LEASE) == []
        assert (await store.counts())["cancelled"] == 2
        assert heard == [waiting.id, running.id]

    using(url, act)


def test_a_failed_job_can_be_tried_again_with_its_time_out_anew(url: str) -> None:
    async def act(store: JobStore) -> None:
        asked = job(timeout_seconds=60.0)
        await store.submit(asked)
        assert not await store.retry(asked.id)
        (claimed,) = await store.claim(1, "a", LEASE)
        await store.fail(claimed, "no", "E")
        before = await store.get(asked.id)
        assert before is not None
        assert await store.retry(asked.id)
        found = await store.get(asked.id)
        assert found is not None
        assert (found.status, found.error, found.attempts) == ("pending", None, 0)
        assert found.created_at > before.created_at
        assert (found.left_seconds or 0) > (before.left_seconds or 0)
        (claimed,) = await store.claim(1, "a", LEASE)
        await store.complete(claimed, "{}")
        assert not await store.retry(asked.id)

    using(url, act)


def test_the_late_result_of_a_cancelled_run_does_not_end_the_retried_job(url: str) -> None:
    async def act(store: JobStore) -> None:
        asked = job()
        await store.submit(asked)
        (before,) = await store.claim(1, "a", LEASE)
        await store.cancel(asked.id)
        await store.retry(asked.id)
        (after,) = await store.claim(1, "a", LEASE)
        assert (before.attempts, after.attempts) == (1, 1)
        assert not await store.complete(before, '"old"')
        assert await store.complete(after, '"new"')

    using(url, act)


def test_a_page_shows_the_newest_first_and_the_statuses_asked_for(url: str) -> None:
    async def act(store: JobStore) -> None:
        for number in range(5):
            await store.submit(job(str(number)))
        (claimed,) = await store.claim(1, "a", LEASE)
        await store.complete(claimed, "{}")
        assert names(await store.page(3)) == ["4", "3", "2"]
        assert names(await store.page(3, ["completed"])) == ["0"]
        assert names(await store.page(9, ["pending", "running"])) == ["4", "3", "2", "1"]
        assert await store.page(3, []) == []

    using(url, act)


def test_a_sweep_removes_what_is_older_but_not_what_runs(url: str) -> None:
    async def act(store: JobStore) -> None:
        for _ in range(3):
            await store.submit(job())
        _, ended = await store.claim(2, "a", LEASE)
        await store.complete(ended, "{}")
        assert await store.sweep(60.0) == 0
        assert await store.sweep(-1.0) == 2
        counts = await store.counts()
        assert {status for status, number in counts.items() if number} == {"running"}
        assert await store.get(ended.id) is None

    using(url, act)


def test_a_full_queue_takes_no_job_until_there_is_room(url: str) -> None:
    async def act(store: JobStore) -> None:
        submits = [store.submit(job()) for _ in range(5)]
        outcomes = await asyncio.gather(*submits, return_exceptions=True)
        assert outcomes[:3] == [0, 1, 2]
        assert all(isinstance(outcome, JobQueueFullError) for outcome in outcomes[3:])
        assert "Request queue is full" in str(outcomes[3])
        await store.claim(1, "a", LEASE)
        assert await store.submit(job()) == 2

    using(url, act, max_pending=3)


def test_gateways_that_start_together_make_the_tables_once(url: str) -> None:
    async def run() -> None:
        stores = await asyncio.gather(*(JobStore.open(url) for _ in range(5)))
        await asyncio.gather(*(store.submit(job()) for store in stores))
        assert await stores[0].queue_length() == 5
        for store in stores:
            await store.close()

    asyncio.run(run())


async def _every_method_refuses(store: JobStore, claimed: Job) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.submit(job()),
        lambda: store.claim(1, "a", LEASE),
        lambda: store.renew([claimed], LEASE),
        lambda: store.complete(claimed, "{}"),
        lambda: store.fail(claimed, "no", "E"),
        lambda: store.put_back(claimed),
        lambda: store.cancel(claimed.id),
        lambda: store.retry(claimed.id),
        lambda: store.get(claimed.id),
        lambda: store.page(5),
        store.expire,
        lambda: store.recover(5),
        lambda: store.sweep(60.0),
        store.counts,
        store.queue_length,
    ]
    for call in calls:
        with pytest.raises(JobStoreUnavailableError, match=r"the job store .* is not available"):
            await call()


def test_a_postgresql_that_is_away_is_one_error_and_the_next_call_works(postgres: Cluster) -> None:
    async def run() -> None:
        async with opened(postgres.database()) as store:
            await store.submit(job())
            await store.submit(job())
            (claimed,) = await store.claim(1, "a", LEASE)
            await asyncio.to_thread(postgres.stop)
            try:
                await _every_method_refuses(store, claimed)
            finally:
                await asyncio.to_thread(postgres.start)
            assert await store.submit(job()) == 1
            assert await store.complete(claimed, "{}")

    asyncio.run(run())


def test_a_postgresql_restarted_while_nobody_asked_is_not_noticed(postgres: Cluster) -> None:
    async def run() -> None:
        async with opened(postgres.database()) as store:
            await store.submit(job())
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread(postgres.start)
            assert await store.submit(job()) == 1

    asyncio.run(run())


def test_a_sqlite_file_that_is_gone_is_waited_for_and_not_begun_anew(
    sqlite_url: str, tmp_path: Path
) -> None:
    async def act(store: JobStore) -> None:
        await store.submit(job("kept"))
        (claimed,) = await store.claim(1, "a", LEASE)
        file = tmp_path / "jobs.db"
        file.rename(tmp_path / "away.db")
        await _every_method_refuses(store, claimed)
        assert not file.exists()
        (tmp_path / "away.db").rename(file)
        assert await store.complete(claimed, "{}")
        assert names(await store.page(5)) == ["kept"]

    using(sqlite_url, act)


def test_a_full_disk_is_the_same_error_and_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    async def act(store: JobStore) -> None:
        await store.submit(job("kept"))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = (tmp_path / "jobs.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(JobStoreUnavailableError):
                await store.submit(job("refused"))
            assert names(await store.page(5)) == ["kept"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await store.submit(job("later"))
        assert names(await store.page(5)) == ["later", "kept"]

    using(sqlite_url, act)


def test_a_locked_sqlite_is_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    async def act(store: JobStore) -> None:
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        submit = asyncio.create_task(store.submit(job()))
        assert await store.queue_length() == 0
        assert not submit.done()
        other.execute("COMMIT")
        other.close()
        assert await submit == 0

    using(sqlite_url, act)


def test_a_sqlite_store_is_readable_by_its_owner_alone(sqlite_url: str, tmp_path: Path) -> None:
    async def act(store: JobStore) -> None:
        await store.submit(job())
        modes = await asyncio.to_thread(_modes, tmp_path)
        assert set(modes.values()) == {"0o600"}, modes
        assert "jobs.db" in modes

    using(sqlite_url, act)


def test_no_question_sorts_or_reads_all_jobs_to_answer(sqlite_url: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _x: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "WITH", "UPDATE", "DELETE")) and not many:
            asked[statement] = values

    async def act(store: JobStore) -> None:
        event.listen(Engine, "before_cursor_execute", note)
        try:
            await store.submit(job())
            (claimed,) = await store.claim(1, "a", LEASE)
            await store.renew([claimed], LEASE)
            await store.complete(claimed, "{}")
            await store.get(claimed.id)
            await store.page(20)
            await store.page(20, ["completed"])
            await store.expire()
            await store.recover(5)
            await store.sweep(60.0)
            await store.queue_length()
        finally:
            event.remove(Engine, "before_cursor_execute", note)

    using(sqlite_url, act)
    assert len(asked) >= 12
    plain = sqlite3.connect(tmp_path / "jobs.db")
    for statement, values in asked.items():
        plan = plain.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        for step in (row[3] for row in plan):
            assert "TEMP B-TREE" not in step, statement
            assert "SCAN gateway_jobs" not in step or "USING" in step, statement
    plain.close()


def _modes(folder: Path) -> dict[str, str]:
    return {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()}


@pytest.mark.parametrize(
    "given", ["sqlite://", "mysql://host/db", "nonsense:secret@", "sqlite:///:memory:"]
)
def test_a_url_that_cannot_keep_jobs_is_refused_with_what_to_give(given: str) -> None:
    with pytest.raises(ConfigError) as raised:
        JobStore(given)
    assert "sqlite:///PATH" in (raised.value.hint or "")
    assert "secret" not in str(raised.value)
