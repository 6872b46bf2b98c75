"""The jobs' routes: fields, codes, texts and defaults are those of the documented service."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from toolkit.errors import InvalidInputError, ToolkitError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.jobs.routes import JobsApi, router
from toolkit.gateway.jobs.schema import Job
from toolkit.gateway.jobs.store import JobStore
from toolkit.gateway.jobs.worker import Worker
from toolkit.gateway.replies import refused

FEATURES = [[0.1, 0.2, 0.3, 0.4]]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")


@dataclass
class Engine:
    """An engine as the routes see it."""

    is_ready: bool = True
    current: tuple[str, str | None] | None = ("churn", "2")
    has_batching: bool = True
    mean: float | None = 0.5
    checked: list[object] = field(default_factory=list)

    def ready(self) -> bool:
        return self.is_ready

    def state(self) -> str:
        return "READY" if self.is_ready else "ERROR"

    def model(self) -> tuple[str, str | None] | None:
        return self.current

    def batching(self) -> bool:
        return self.has_batching

    def mean_seconds(self) -> float | None:
        return self.mean

    def check(self, features: list[list[float]]) -> None:
        self.checked.append(features)
        if len({len(row) for row in features}) > 1:
            raise InvalidInputError("the rows have different lengths")


class Client:
    """Calls the routes of one application over one store."""

    def __init__(self, http: httpx.AsyncClient, store: JobStore) -> None:
        self.http = http
        self.store = store

    async def submit(self, **asked: Any) -> dict[str, Any]:
        answer = await self.http.post("/predict/async", json={"features": FEATURES, **asked})
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        content: dict[str, Any] = answer.json()
        return content

    async def end(self, result: str | None = None) -> Job:
        """End the next job, with a result or as failed."""
        (job,) = await self.store.claim(1, "test", 60.0)
        if result is None:
            await self.store.fail(job, "the model is broken", "ServerError")
        else:
            await self.store.complete(job, result)
        return job


def application(api: JobsApi) -> FastAPI:
    app = FastAPI()
    app.include_router(router(api))

    async def told(_: Request, error: Exception) -> Response:
        reply = refused(error)
        headers = {name.decode(): value.decode() for name, value in reply.headers}
        return Response(reply.body, reply.status, headers, reply.media.decode())

    app.add_exception_handler(Refused, told)
    app.add_exception_handler(ToolkitError, told)
    return app


@asynccontextmanager
async def _client(url: str, engine: Engine, max_pending: int, enabled: bool) -> Any:
    store = await JobStore.open(url, max_pending=max_pending)
    app = application(JobsApi(store, engine, enabled))
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://gateway"
        ) as http:
            yield Client(http, store)
    finally:
        await store.close()


def calling(
    url: str,
    act: Callable[[Client], Awaitable[None]],
    engine: Engine | None = None,
    *,
    max_pending: int = 100,
    enabled: bool = True,
) -> None:
    async def run() -> None:
        async with _client(url, engine or Engine(), max_pending, enabled) as client:
            await act(client)

    asyncio.run(run())


def test_a_submission_is_answered_as_documented(url: str) -> None:
    async def act(client: Client) -> None:
        answer = await client.submit(request_id="mine", priority="HIGH", timeout_ms=5000)
        assert UUID(answer["job_id"])
        assert answer["status"] == "pending"
        assert answer["eta_seconds"] == 0.5
        assert MOMENT.fullmatch(answer["timestamp"])
        job = await client.store.get(answer["job_id"])
        assert job is not None
        assert (job.model, job.version, job.request_id, job.priority) == ("churn", "2", "mine", 1)
        assert job.left_seconds == pytest.approx(5, abs=4.9)

    calling(url, act)


def test_without_a_wish_a_job_is_normal_unlimited_and_has_a_request_id(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        answer = await client.submit()
        job = await client.store.get(answer["job_id"])
        assert job is not None
        assert (job.priority, job.deadline) == (2, None)
        assert UUID(job.request_id)

    calling(sqlite_url, act)


def test_the_eta_is_the_mean_time_the_queue_and_one_at_submit(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        first = await client.submit()
        second = await client.submit()
        assert (first["eta_seconds"], second["eta_seconds"]) == (0.5, 1.0)
        assert (await client.get(f"/jobs/{first['job_id']}"))["eta_seconds"] == 1.0

    calling(sqlite_url, act)


def test_without_history_the_eta_is_null(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        answer = await client.submit()
        assert answer["eta_seconds"] is None
        assert (await client.get(f"/jobs/{answer['job_id']}"))["eta_seconds"] is None

    calling(sqlite_url, act, Engine(mean=None))


def test_a_running_job_is_shown_as_pending_and_its_stage_says_more(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        job_id = (await client.submit())["job_id"]
        await client.store.claim(1, "test", 60.0)
        shown = await client.get(f"/jobs/{job_id}")
        assert (shown["status"], shown["stage"]) == ("pending", "running")
        for status in ("pending", "running"):
            (line,) = (await client.get(f"/jobs?status={status}"))["jobs"]
            assert (line["job_id"], line["status"], line["stage"]) == (job_id, "pending", "running")

    calling(sqlite_url, act)


def test_a_completed_job_has_the_result_of_its_worker(url: str) -> None:
    async def answer(_: Job) -> dict[str, Any]:
        return {"predictions": [[0.95]], "metadata": {}}

    async def act(client: Client) -> None:
        job_id = (await client.submit(request_id="mine"))["job_id"]
        async with Worker(client.store, answer), asyncio.timeout(60):
            while True:
                shown = await client.get(f"/jobs/{job_id}")
                if shown["status"] != "pending":
                    break
                await asyncio.sleep(0.02)
        assert set(shown) == {"job_id", "status", "result", "timestamp"}
        result = shown["result"]
        assert MOMENT.fullmatch(result.pop("timestamp"))
        assert result == {
            "request_id": "mine",
            "success": True,
            "predictions": [[0.95]],
            "metadata": {},
        }

    calling(url, act)


def test_a_failed_job_says_why(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        job_id = (await client.submit(request_id="mine"))["job_id"]
        await client.end()
        shown = await client.get(f"/jobs/{job_id}")
        assert shown["status"] == "failed"
        assert MOMENT.fullmatch(shown["result"].pop("timestamp"))
        assert shown["result"] == {
            "request_id": "mine",
            "success": False,
            "error": "the model is broken",
            "metadata": {"exception": "ServerError"},
        }

    calling(sqlite_url, act)


def test_a_job_whose_time_is_over_is_seen_as_failed_at_once(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        job_id = (await client.submit(timeout_ms=0.001))["job_id"]
        shown = await client.get(f"/jobs/{job_id}")
        assert shown["status"] == "failed"
        assert "timed out" in shown["result"]["error"]

    calling(sqlite_url, act)


def test_features_keep_nan_and_every_digit_on_their_way(url: str) -> None:
    async def act(client: Client) -> None:
        body = '{"features": [[NaN, 0.1, 1e308, -0.0, 12345678901234567]]}'
        headers = {"content-type": "application/json"}
        answer = await client.http.post("/predict/async", content=body, headers=headers)
        assert answer.status_code == 200
        (job,) = await client.store.claim(1, "test", 60.0)
        assert job.features == "[[NaN,0.1,1e+308,-0.0,1.2345678901234568e+16]]"

    calling(url, act)


@pytest.mark.parametrize(
    ("engine", "enabled", "status", "detail"),
    [
        (Engine(), False, 400, "Asynchronous processing is disabled"),
        (Engine(is_ready=False), True, 503, "Engine not ready. Current state: ERROR"),
        (Engine(current=None), True, 400, "No model loaded"),
        (Engine(has_batching=False), True, 400, "Dynamic batching is not enabled in the engine"),
    ],
)
def test_where_jobs_cannot_be_taken_the_answer_says_why(
    sqlite_url: str, engine: Engine, enabled: bool, status: int, detail: str
) -> None:
    async def act(client: Client) -> None:
        answer = await client.http.post("/predict/async", json={"features": FEATURES})
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})

    calling(sqlite_url, act, engine, enabled=enabled)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"features": []}, "features cannot be empty"),
        ({"features": [["a"]]}, "valid number"),
        ({"features": FEATURES, "priority": "urgent"}, "priority must be one of high, normal, low"),
        ({"features": FEATURES, "timeout_ms": 0}, "greater than 0"),
        ({"features": FEATURES, "request_id": "a\x00b"}, "match pattern"),
        ({}, "Field required"),
    ],
)
def test_a_body_that_does_not_fit_is_422(sqlite_url: str, asked: dict[str, Any], said: str) -> None:
    async def act(client: Client) -> None:
        answer = await client.http.post("/predict/async", json=asked)
        assert answer.status_code == 422
        assert said in answer.text

    calling(sqlite_url, act)


def test_ragged_rows_are_refused_before_they_become_a_job(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        answer = await client.http.post("/predict/async", json={"features": [[1.0], [1.0, 2.0]]})
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("Invalid feature format: ")
        assert await client.store.queue_length() == 0

    calling(sqlite_url, act)


def test_a_full_queue_is_refused_at_once_and_says_when_to_come_back(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        await client.submit()
        answer = await client.http.post("/predict/async", json={"features": FEATURES})
        assert answer.status_code == 503
        assert "Request queue is full" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1

    calling(sqlite_url, act, max_pending=1)


def test_a_store_that_is_away_is_503_and_works_again_when_back(
    sqlite_url: str, tmp_path: Path
) -> None:
    async def act(client: Client) -> None:
        job_id = (await client.submit())["job_id"]
        file = tmp_path / "jobs.db"
        file.rename(tmp_path / "away")
        answers = [
            await client.http.post("/predict/async", json={"features": FEATURES}),
            await client.http.get(f"/jobs/{job_id}"),
            await client.http.get("/jobs"),
            await client.http.delete(f"/jobs/{job_id}"),
            await client.http.post(f"/jobs/{job_id}/retry"),
        ]
        assert [answer.status_code for answer in answers] == [503] * 5
        assert all("retry-after" in answer.headers for answer in answers)
        (tmp_path / "away").rename(file)
        assert (await client.get(f"/jobs/{job_id}"))["status"] == "pending"

    calling(sqlite_url, act)


@pytest.mark.parametrize("job_id", [str(uuid4()), str(uuid4()).upper(), "nonsense", "%00"])
def test_a_job_nobody_knows_is_404(url: str, job_id: str) -> None:
    async def act(client: Client) -> None:
        answers = [
            await client.http.get(f"/jobs/{job_id}"),
            await client.http.delete(f"/jobs/{job_id}"),
            await client.http.post(f"/jobs/{job_id}/retry"),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert answers[0].json()["detail"].startswith("Job not found: ")

    calling(url, act)


def test_a_list_is_newest_first_and_counts_what_it_returns(url: str) -> None:
    async def act(client: Client) -> None:
        ids = [(await client.submit())["job_id"] for _ in range(22)]
        shown = await client.get("/jobs")
        assert [line["job_id"] for line in shown["jobs"]] == ids[:1:-1]
        assert shown["total_count"] == 20
        assert MOMENT.fullmatch(shown["timestamp"])
        line = shown["jobs"][0]
        assert MOMENT.fullmatch(line["created_at"])
        assert 0 <= line["age_seconds"] < 60
        assert (line["status"], line["priority"]) == ("pending", "normal")
        await client.end("{}")
        (done,) = (await client.get("/jobs?status=completed&limit=100"))["jobs"]
        assert done["job_id"] == ids[0]

    calling(url, act)


@pytest.mark.parametrize(("query", "count"), [("limit=1", 1), ("limit=100", 3), ("status=no", 0)])
def test_a_list_obeys_limit_and_status(sqlite_url: str, query: str, count: int) -> None:
    async def act(client: Client) -> None:
        for _ in range(3):
            await client.submit()
        shown = await client.get(f"/jobs?{query}")
        assert len(shown["jobs"]) == shown["total_count"] == count

    calling(sqlite_url, act)


@pytest.mark.parametrize("limit", ["0", "101", "x"])
def test_a_limit_out_of_range_is_422(sqlite_url: str, limit: str) -> None:
    async def act(client: Client) -> None:
        await client.get(f"/jobs?limit={limit}", 422)

    calling(sqlite_url, act)


def test_a_cancelled_job_is_cancelled_however_often_and_can_be_retried(url: str) -> None:
    async def act(client: Client) -> None:
        job_id = (await client.submit())["job_id"]
        for _ in range(2):
            answer = await client.http.delete(f"/jobs/{job_id}")
            assert answer.status_code == 200
            assert answer.json()["status"] == "cancelled"
            assert answer.json()["result"]["success"] is False
        again = await client.http.post(f"/jobs/{job_id}/retry")
        assert again.status_code == 200
        assert again.json()["job_id"] == job_id
        assert again.json()["eta_seconds"] == 0.5
        assert (await client.get(f"/jobs/{job_id}"))["status"] == "pending"

    calling(url, act)


def test_what_has_ended_cannot_be_cancelled_nor_what_waits_be_retried(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        done, waiting = [(await client.submit())["job_id"] for _ in range(2)]
        await client.end("{}")
        cancel = await client.http.delete(f"/jobs/{done}")
        assert cancel.status_code == 409
        assert cancel.json()["detail"] == f"Job has already completed: {done}"
        for job_id, shown in ((done, "completed"), (waiting, "pending")):
            retry = await client.http.post(f"/jobs/{job_id}/retry")
            assert retry.status_code == 409
            assert f"Job is {shown}" in retry.json()["detail"]

    calling(sqlite_url, act)


def test_the_published_schema_names_every_route_field_and_code(sqlite_url: str) -> None:
    async def act(client: Client) -> None:
        schema = await client.get("/openapi.json")
        codes = {
            f"{method} {path}": set(operation["responses"])
            for path, operations in schema["paths"].items()
            for method, operation in operations.items()
        }
        assert codes == {
            "post /predict/async": {"200", "400", "422", "503"},
            "get /jobs": {"200", "422", "503"},
            "get /jobs/{job_id}": {"200", "404", "422", "503"},
            "delete /jobs/{job_id}": {"200", "404", "409", "422", "503"},
            "post /jobs/{job_id}/retry": {"200", "404", "409", "422", "503"},
        }
        request = schema["components"]["schemas"]["AsyncRequest"]
        assert set(request["properties"]) == {"features", "request_id", "priority", "timeout_ms"}
        assert request["required"] == ["features"]

    calling(sqlite_url, act)
