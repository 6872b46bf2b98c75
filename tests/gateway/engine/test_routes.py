import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import Request

from tests.gateway.engine.asked import Asked, application, client_of
from toolkit.errors import (
    ConnectionFailedError,
    InvalidInputError,
    RequestError,
    ServerError,
    UnknownModelError,
)
from toolkit.gateway.engine import live_config
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.model import Model
from toolkit.gateway.engine.state import Engine, State
from toolkit.gateway.engine.surroundings import Surroundings, Told
from toolkit.gateway.engine.view import View
from toolkit.gateway.exchange import Refused
from toolkit.gateway.settings import Settings

MODEL = Model(
    name="engine_sum",
    version=1,
    path="/models/sum.pkl",
    root="/models",
    asked_type=None,
    kind="sklearn",
    trusted=True,
    compiled=True,
    input_features=3,
    info={"model_type": "sklearn", "input_features": 3, "output_shape": [1]},
)
WEIGHTS = np.array([1.0, -3.0, 0.0])


class Sum:
    """A weighted sum in the place of Triton; takes at most 64 rows, as its entry says."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.most = 64
        self.refused = threading.Event()
        self.fails: RequestError | None = None
        self.begun = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()

    async def __call__(
        self, model: str, features: list[Any], *, request_id: str | None, cached: bool
    ) -> Told:
        assert (model, request_id) != ("engine_sum", "")
        assert isinstance(cached, bool)
        self.begun.set()
        await self.held.wait()
        self.asked.append(len(features))
        if self.fails:
            raise self.fails
        rows = np.array(features)
        if rows.dtype.kind not in "fi" or rows.shape[1] != 3:
            raise InvalidInputError(f"{rows.shape[1]} values a row, the model takes 3")
        if len(rows) > self.most:
            self.refused.set()
            raise InvalidInputError(f"{len(rows)} rows are more than {self.most}")
        answer = (rows @ WEIGHTS).reshape(-1, 1)
        return Told(answer, {"y": answer}, 0.002)


def ask(
    scenario: Callable[[Asked, Sum], Coroutine[Any, Any, None]],
    tmp_path: Path,
    config: Config | None = None,
    **surroundings: Any,
) -> list[Config]:
    """Run ``scenario`` against an engine with a model; return the configurations it told."""
    told: list[Config] = []

    async def run() -> None:
        model = Sum()
        (tmp_path / "models").mkdir(exist_ok=True)
        around = Surroundings(
            repository=tmp_path / "repository",
            folder=tmp_path / "state",
            model_dir=tmp_path / "models",
            ask=model,
            control=lambda: pytest.fail("nothing here is a matter for Triton"),
            changed=told.append,
            **surroundings,
        )
        engine = Engine(around, config or Config())
        await engine.start()
        engine.current = MODEL
        async with client_of(engine) as client:
            await scenario(Asked(engine, client, None), model)  # type: ignore[arg-type]

    asyncio.run(run())
    return told


def test_the_root_and_the_health_have_the_fields_of_both_services(tmp_path: Path) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        root = (await asked.client.get("/")).json()
        assert root == {
            "name": "Inference Engine API",
            "version": "1.0.0",
            "description": "A high-performance API for machine learning model inference",
            "status": "running",
            "docs_url": "/docs",
            "message": "Model Server is Alive and Kicking!!!!",
        }
        asked.engine._stage = State.ERROR
        answer = await asked.client.get("/health")
        health = answer.json()
        assert answer.status_code == 200
        assert (health["status"], health["state"]) == ("unhealthy", "ERROR")
        assert set(health) == {
            "status",
            "state",
            "uptime_seconds",
            "model_loaded",
            "active_requests",
            "model_info",
            "timestamp",
        }

    ask(scenario, tmp_path)


def test_a_prediction_has_the_documented_fields(tmp_path: Path) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        status, answer = await asked.post("/predict", features=[[1, 2, 3], [0.5, 0, 0]])
        assert status == 200
        assert answer["predictions"] == [[-5.0], [0.5]]
        assert (answer["success"], answer["error"]) == (True, None)
        assert len(answer["request_id"]) == 36
        assert answer["metadata"]["inference_time_ms"] == 2.0
        assert (answer["metadata"]["batch_size"], answer["metadata"]["compiled_model_used"]) == (
            2,
            True,
        )
        assert asked.engine.mean_seconds() == 0.002

    ask(scenario, tmp_path)


@pytest.mark.parametrize(
    ("state", "model", "status", "detail"),
    [
        (State.ERROR, MODEL, 503, "Engine not ready. Current state: ERROR"),
        (State.LOADING, None, 503, "Engine not ready. Current state: LOADING"),
        (State.READY, None, 400, "No model loaded"),
    ],
)
def test_no_prediction_is_made_without_a_ready_engine_and_a_model(
    tmp_path: Path, state: State, model: Model | None, status: int, detail: str
) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        asked.engine._stage, asked.engine.current = state, model
        for path, body in (
            ("/predict", {"features": [[1, 2, 3]]}),
            ("/predict/batch", {"batch": [[[1, 2, 3]]]}),
            ("/feature-importance", {"features": [[1, 2, 3]]}),
        ):
            assert await asked.post(path, **body) == (status, {"detail": detail})
        # What cannot be read is told first, as the body is looked at before the engine.
        assert (await asked.post("/predict", features=[]))[0] == 422

    ask(scenario, tmp_path)


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/predict", {"features": []}, 422, "features cannot be empty"),
        ("/predict", {"features": "text"}, 422, "valid list"),
        ("/predict", {}, 422, "Field required"),
        ("/predict", {"features": [[1, 2, 3], [1]]}, 400, "Invalid feature format: its rows"),
        ("/predict", {"features": [[1, 2]]}, 400, "Invalid feature format: 2 values a row"),
        ("/predict/batch", {"batch": []}, 422, "at least 1 item"),
        (
            "/predict/batch",
            {"batch": [[[1, 2, 3]]], "request_ids": ["a", "b"]},
            422,
            "If provided, request_ids must have the same length as batch",
        ),
        ("/predict/batch", {"batch": [[[1, 2], [1]]]}, 400, "Invalid feature format"),
        ("/models/load", {"model_path": "x.onnx", "model_type": "tensorflow"}, 422, "sklearn"),
        ("/models/load", {"model_path": "x.onnx"}, 404, "Model file not found: x.onnx"),
        ("/models/load", {"model_path": "../x.onnx"}, 404, "Model file not found: ../x.onnx"),
        ("/models/load", {"model_path": "m.pkl"}, 403, "ALLOW_PICKLE=1"),
        ("/config", {"max_batch_size": 0}, 422, "greater than or equal to 1"),
        ("/config", {"num_threads": -1}, 422, "greater than or equal to 1"),
        ("/config", {"cache_ttl_seconds": 0}, 422, "greater than 0"),
        ("/feature-importance", {"features": ["text"]}, 400, "rows that are lists of values"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_own_status(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, told: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.pkl").write_bytes(b"\x80\x04N.")

    async def scenario(asked: Asked, _model: Sum) -> None:
        found, answer = await asked.post(path, **body)
        assert found == status, answer
        assert told in str(answer["detail"])

    ask(scenario, tmp_path)


def test_a_model_that_fails_is_told_with_200_and_a_triton_that_does_not_answer_with_503(
    tmp_path: Path,
) -> None:
    async def scenario(asked: Asked, model: Sum) -> None:
        model.fails = ServerError("the model divided by zero")
        status, answer = await asked.post("/predict", features=[[1, 2, 3]], request_id="mine")
        assert (status, answer["success"], answer["predictions"]) == (200, False, None)
        assert (answer["error"], answer["request_id"]) == ("the model divided by zero", "mine")
        _, answer = await asked.post("/predict/batch", batch=[[[1, 2, 3]], [[4, 5, 6]]])
        assert answer["metadata"]["success_rate"] == 0.0
        status, answer = await asked.post("/feature-importance", features=[[1, 2, 3]])
        assert status == 500
        assert answer["detail"].startswith("Failed to calculate feature importance: the model")
        model.fails = ConnectionFailedError("nobody is there")
        for path, body in (
            ("/predict", {"features": [[1, 2, 3]]}),
            ("/predict/batch", {"batch": [[[1, 2, 3]]]}),
            ("/feature-importance", {"features": [[1, 2, 3]]}),
        ):
            assert (await asked.post(path, **body))[0] == 503

    ask(scenario, tmp_path)


@pytest.mark.parametrize("by_pressure", [False, True])
def test_what_is_too_much_is_throttled_with_200_and_the_state_is_running_meanwhile(
    tmp_path: Path, by_pressure: bool
) -> None:
    async def scenario(asked: Asked, model: Sum) -> None:
        model.held.clear()
        first = asyncio.create_task(asked.post("/predict", features=[[1, 2, 3]]))
        await model.begun.wait()
        assert asked.engine.state is State.RUNNING
        status, answer = await asked.post("/predict", features=[[1, 2, 3]])
        assert (status, answer["success"]) == (200, False)
        assert answer["error"] == "Request throttled due to high load"
        assert answer["metadata"]["throttled"] is True
        model.held.set()
        assert (await first)[1]["success"] is True
        assert asked.engine.state.value == "READY"

    config = Config(enable_throttling=not by_pressure, max_concurrent_requests=1)
    ask(scenario, tmp_path, config, pressed=lambda: by_pressure)


def test_more_rows_than_triton_takes_are_asked_in_pieces(tmp_path: Path) -> None:
    async def scenario(asked: Asked, model: Sum) -> None:
        rows = [[float(number), 0.0, 0.0] for number in range(150)]
        _, answer = await asked.post("/predict", features=rows)
        assert answer["predictions"] == [[number] for number, _, _ in rows]
        assert sorted(model.asked) == [22, 64, 64]

    ask(scenario, tmp_path)


def test_a_batch_is_one_call_where_its_rows_are_alike_and_one_bad_item_fails_alone(
    tmp_path: Path,
) -> None:
    async def scenario(asked: Asked, model: Sum) -> None:
        batch = [[[1, 0, 0]], [[2, 0, 0], [3, 0, 0]]]
        status, answer = await asked.post("/predict/batch", batch=batch, request_ids=["a", "b"])
        assert status == 200
        assert model.asked == [3]
        assert [each["predictions"] for each in answer["results"]] == [[[1.0]], [[2.0], [3.0]]]
        assert [each["request_id"] for each in answer["results"]] == ["a", "b"]
        places = [each["metadata"]["batch_index"] for each in answer["results"]]
        assert (places, answer["metadata"]["success_rate"]) == ([0, 1], 1.0)
        assert set(answer["metadata"]) == {
            "total_time_ms",
            "batch_size",
            "success_rate",
            "avg_time_per_item_ms",
        }
        _, answer = await asked.post("/predict/batch", batch=[[[1, 0, 0]], [[1, 0]]])
        assert [each["success"] for each in answer["results"]] == [True, False]
        assert "2 values a row" in answer["results"][1]["error"]

    ask(scenario, tmp_path)


def test_importance_is_the_share_of_what_each_column_moves_all_asked_in_one_batch(
    tmp_path: Path,
) -> None:
    async def scenario(asked: Asked, model: Sum) -> None:
        _, told = await asked.post("/feature-importance", features=[[2, 2, 9]])
        assert told["feature_importance"] == {
            "feature_1": 0.75,
            "feature_0": 0.25,
            "feature_2": 0.0,
        }
        assert list(told["feature_importance"]) == ["feature_1", "feature_0", "feature_2"]
        assert told["baseline_prediction"] == [-4.0]
        assert model.asked == [1, 4]

    ask(scenario, tmp_path)


def test_settings_that_concern_the_gateway_alone_change_at_once_and_null_changes_nothing(
    tmp_path: Path,
) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        status, told = await asked.post(
            "/config", max_cache_entries=20, enable_throttling=True, num_threads=None
        )
        assert status == 200
        assert told["updated_parameters"] == {"max_cache_entries": 20, "enable_throttling": True}
        assert told["message"] == "Configuration updated successfully"
        assert told["current_config"] == {
            "enable_batching": True,
            "max_batch_size": 64,
            "batch_timeout": 0.01,
            "enable_cache": True,
            "max_cache_entries": 20,
            "cache_ttl_seconds": 3600.0,
            "enable_quantization": False,
            "num_threads": 4,
            "enable_throttling": True,
            "max_concurrent_requests": 100,
        }
        _, told = await asked.post("/config", enable_quantization=True)
        assert told["notes"] == [
            "enable_quantization: takes effect with the next POST /models/load"
        ]

    configs = ask(scenario, tmp_path)
    assert [config.max_cache_entries for config in configs] == [1000, 20, 20]


def test_unloading_nothing_is_no_error(tmp_path: Path) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        asked.engine.current = None
        answer = await asked.client.delete("/models")
        assert answer.json() == {"success": True, "message": "No model was loaded"}
        assert await asked.post("/validate") == (400, {"detail": "No model loaded"})

    ask(scenario, tmp_path)


def test_the_jobs_see_the_engine_through_its_view(tmp_path: Path) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        def fits(model: str, features: list[Any]) -> None:
            raise InvalidInputError(f"{model} does not take {features}")

        view = View(asked.engine, fits)
        assert (view.ready(), view.state(), view.batching()) == (True, "READY", True)
        assert view.model() == ("engine_sum", None)
        with pytest.raises(InvalidInputError, match="engine_sum does not take"):
            view.check([[1.0]])
        asked.engine.current = None
        assert view.model() is None
        with pytest.raises(Refused, match="No model loaded"):
            asked.engine.require_model()

    ask(scenario, tmp_path)


def test_the_configuration_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_MAX_BATCH_SIZE", "16")
    monkeypatch.setenv("ENGINE_BATCH_TIMEOUT", "0.002")
    config = Config.of(Settings())
    assert config.serving() == {
        "max_batch_size": 16,
        "dynamic_batching": True,
        "max_queue_delay_microseconds": 2000,
    }
    # What nobody chose is left to the converter, and holds no request back.
    assert config.threads is None
    assert Config().serving()["max_queue_delay_microseconds"] == 0
    monkeypatch.setenv("ENGINE_NUM_THREADS", "2")
    assert Config.of(Settings()).threads == 2


def test_every_route_is_published_with_its_answers(tmp_path: Path) -> None:
    async def scenario(asked: Asked, _model: Sum) -> None:
        paths = application(asked.engine).openapi()["paths"]
        assert set(paths) == {
            "/",
            "/health",
            "/models/load",
            "/models",
            "/validate",
            "/predict",
            "/predict/batch",
            "/feature-importance",
            "/config",
            "/restart",
        }
        assert {"200", "400", "422", "503", "504"} <= set(paths["/predict"]["post"]["responses"])

    ask(scenario, tmp_path)


def test_a_model_that_triton_has_lost_is_503_until_it_is_served_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(asked: Asked, model: Sum) -> None:
        served: list[str] = []
        back = asyncio.Event()

        def serve(name: str) -> None:
            served.append(name)
            model.fails = None
            loop.call_soon_threadsafe(back.set)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(asked.engine, "_serve", serve)
        model.fails = UnknownModelError("Triton knows no engine_sum")
        status, answer = await asked.post("/predict", features=[[1, 2, 3]])
        assert (status, answer["detail"]) == (503, "Triton does not serve engine_sum now")
        await back.wait()
        status, _ = await asked.post("/predict", features=[[1, 2, 3]])
        assert (status, served) == (200, ["engine_sum"])

    ask(scenario, tmp_path)


def test_a_request_of_the_moment_in_which_batches_become_smaller_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repository" / "engine_sum" / "1").mkdir(parents=True)

    async def scenario(asked: Asked, model: Sum) -> None:
        loop, smaller = asyncio.get_running_loop(), asyncio.Event()

        def apply(*_given: Any) -> tuple[str, ...]:
            model.most = 2
            loop.call_soon_threadsafe(smaller.set)
            assert model.refused.wait(20)
            return ()

        monkeypatch.setattr(live_config, "apply", apply)
        change = asyncio.create_task(asked.post("/config", max_batch_size=2))
        await smaller.wait()
        status, answer = await asked.post("/predict", features=[[1, 0, 0], [2, 0, 0], [3, 0, 0]])
        assert (status, answer.get("predictions")) == (200, [[1.0], [2.0], [3.0]])
        assert (await change)[0] == 200
        assert model.asked == [3, 2, 1]
        # What does not fit at any size is refused all the same.
        assert (await asked.post("/predict", features=[[1, 0]]))[0] == 400

    ask(scenario, tmp_path)


def test_who_may_not_ask_the_model_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    def admit(request: Request, model: str, rows: int) -> None:
        raise Refused(403, f"{request.url.path} {model} {rows}")

    async def scenario(asked: Asked, _model: Sum) -> None:
        app = application(asked.engine, admit)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            rows = [[1, 2, 3], [4, 5, 6]]
            for path, body, count in (
                ("/predict", {"features": rows}, 2),
                ("/predict/batch", {"batch": [rows, rows]}, 4),
                ("/feature-importance", {"features": rows}, 1),
            ):
                answer = await client.post(path, json=body)
                assert answer.status_code == 403
                assert answer.json()["detail"] == f"{path} engine_sum {count}"

    ask(scenario, tmp_path)
