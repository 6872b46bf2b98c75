"""The state that the page shows: slow, broken and hidden parts of it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.client.asking import signature_of
from toolkit.client.transport import IndexedModel, ModelMetadata, TensorMetadata
from toolkit.errors import UnavailableError
from toolkit.gateway.jobs.schema import NewJob
from toolkit.gateway.jobs.store import JobStore
from toolkit.gateway.models import Known
from toolkit.gateway.ui.live import Live
from toolkit.gateway.ui.state import Jobs, Sources, View
from toolkit.pbtxt import FEATURE_NAMES

READY = IndexedModel("flower", "2", "READY", "")
LISTED = (
    IndexedModel("flower", "1", "UNAVAILABLE", "unloaded"),
    READY,
    IndexedModel("never", "", "", ""),
    IndexedModel("broken", "1", "UNAVAILABLE", "Internal:\n no weights"),
)


def everything(_: str) -> bool:
    return True


async def known(name: str) -> Known:
    specs = (TensorMetadata("x", "FP32", (-1, 2)),)
    metadata = ModelMetadata(name, ("2",), "onnxruntime_onnx", specs, specs)
    config = {
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "parameters": {FEATURE_NAMES: {"string_value": '["a", "b"]'}},
    }
    return Known(name, "2", signature_of(metadata, config), fixed=True, cached=False)


async def listed() -> tuple[IndexedModel, ...]:
    return LISTED


def view(
    listed: Callable[[], Awaitable[Any]] = listed,
    errors: tuple[dict[str, Any], ...] = (),
    jobs: Callable[[], Awaitable[Jobs]] | None = None,
) -> View:
    return View(Sources(Live(lambda: 0, lambda: 0), listed, known, lambda: errors, jobs))


def test_a_model_is_told_with_its_state_and_what_it_takes() -> None:
    state = asyncio.run(view().collect(everything))
    broken, flower, never = state["models"]
    assert flower["state"] == "READY"
    assert flower["versions"] == ["2"]
    assert flower["reason"] == "version 1: unloaded"
    assert flower["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert flower["backend"] == "onnxruntime"
    assert flower["features"] == ["a", "b"]
    assert flower["recent"] == {"requests": 0, "errors": 0, "p50_ms": None}
    assert (broken["state"], broken["reason"]) == ("UNAVAILABLE", "Internal: no weights")
    assert never["state"] == "NOT LOADED"
    assert state["triton"] == {"ready": True, "problem": None}
    assert state["jobs"] is None


def test_who_may_see_one_model_is_told_of_no_other() -> None:
    errors = tuple(
        {"time": "t", "model": model, "status": 500, "error": "e", "client": "secret"}
        for model in ("flower", "broken", "")
    )
    state = asyncio.run(view(errors=errors).collect(lambda name: name == "flower", all_=False))
    assert [one["name"] for one in state["models"]] == ["flower"]
    assert [one["model"] for one in state["errors"]] == ["flower"]
    assert "client" not in state["errors"][0]


def test_the_newest_error_comes_first() -> None:
    errors = tuple({"model": "flower", "request_id": str(number)} for number in range(3))
    state = asyncio.run(view(errors=errors).collect(everything))
    assert [one["request_id"] for one in state["errors"]] == ["2", "1", "0"]


def test_a_triton_that_is_away_is_told_and_what_was_known_stays() -> None:
    away = False

    async def sometimes() -> tuple[IndexedModel, ...]:
        if away:
            raise UnavailableError("Triton is not ready")
        return (READY,)

    async def looks() -> None:
        nonlocal away
        shown = view(sometimes)
        assert (await shown.collect(everything))["triton"]["ready"]
        away = True
        shown._models._asked = -1e9
        state = await shown.collect(everything)
        assert state["triton"] == {"ready": False, "problem": "Triton is not ready"}
        assert [one["name"] for one in state["models"]] == ["flower"]
        away = False
        shown._models._asked = -1e9
        assert (await shown.collect(everything))["triton"]["ready"]

    asyncio.run(looks())


def test_a_triton_that_hangs_does_not_hold_up_the_figures() -> None:
    hung = asyncio.Event()

    async def hangs() -> tuple[IndexedModel, ...]:
        await hung.wait()
        return (READY,)

    async def looks() -> None:
        shown = view(hangs)
        async with asyncio.timeout(20):
            state = await shown.collect(everything)
            assert state["models"] is None
            assert len(state["live"]["requests"]) == 300
            hung.set()
            assert (await shown.collect(everything))["models"]

    asyncio.run(looks())


def test_triton_is_asked_once_however_many_look() -> None:
    asked = 0

    async def counted() -> tuple[IndexedModel, ...]:
        nonlocal asked
        asked += 1
        return (READY,)

    async def looks() -> None:
        shown = view(counted)
        await asyncio.gather(*(shown.collect(everything) for _ in range(20)))

    asyncio.run(looks())
    assert asked == 1


def test_jobs_are_told_with_their_numbers(tmp_path: Path) -> None:
    async def looks() -> tuple[Any, Any]:
        store = await JobStore.open(f"sqlite:///{tmp_path / 'jobs.db'}")
        try:
            for model in ("flower", "other"):
                await store.submit(NewJob(model, "[[1, 2]]", priority=1))
            [job] = await store.claim(1, "me", 60)
            await store.fail(job, "no weights", "ServerError")

            async def jobs() -> Jobs:
                return Jobs(await store.counts(), await store.page(20))

            shown = view(jobs=jobs)
            state = await shown.collect(everything)
            part = await shown.collect(lambda name: name == "other", all_=False)
            return state["jobs"], part["jobs"]
        finally:
            await store.close()

    told, part = asyncio.run(looks())
    assert told["problem"] is None
    assert (told["counts"]["pending"], told["counts"]["failed"]) == (1, 1)
    newest, first = told["newest"]
    assert (newest["model"], newest["status"], newest["took_seconds"]) == ("other", "pending", None)
    assert (first["status"], first["error"], first["priority"]) == ("failed", "no weights", "high")
    assert first["took_seconds"] >= 0
    assert part["counts"] is None
    assert [one["model"] for one in part["newest"]] == ["other"]


def test_a_job_store_that_is_away_is_told_and_the_rest_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def gone() -> Jobs:
        raise OSError("disk")

    state = asyncio.run(view(jobs=gone).collect(everything))
    assert "log says why" in state["jobs"]["problem"]
    assert state["models"]
    assert "disk" in caplog.text
