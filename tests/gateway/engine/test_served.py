import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.doubling import add_model
from tests.gateway.engine.asked import Asked, Home, classifier, engine_at, write_json
from toolkit.client import Client
from toolkit.deploy import embedded
from toolkit.gateway.engine import live_config, loading
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.model import Kept, Model
from toolkit.gateway.engine.state import State

ROWS = [[1.0, 2.0, 3.0], [6.0, 7.0, 8.0]]


def test_a_model_is_loaded_by_its_file_outlives_its_gateway_and_a_broken_one_and_makes_room(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    churn = classifier(home.models / "churn.pkl", labels=("stays", "goes"))
    right = [[label] for label in churn.predict(ROWS)]

    async def first_life() -> None:
        async with engine_at(home, Config(batch_timeout=0.0)) as asked:
            await _is_loaded(asked)
            await _is_right(asked, right)
            await _is_explained(asked, churn.steps[0][1].mean_.tolist())
            _, told = await asked.post("/validate")
            assert (told["success"], told["results"]["rows_checked"]) == (True, 4)

    async def second_life() -> None:
        # Nothing was closed: the first one might as well have been killed.
        async with engine_at(home) as asked:
            await _is_right(asked, right)
            await _a_version_that_triton_refuses_leaves_the_former(asked, monkeypatch)
            await _is_right(asked, right)
            status, told = await asked.post("/restart")
            assert (status, told["state"]) == (200, "READY")
            await _is_right(asked, right)
            await _an_ensemble_takes_its_place(asked, right)
            answer = await asked.client.delete("/models")
            assert answer.json()["message"] == "Model unloaded successfully"
            assert list(home.repository.glob("engine_*")) == []

    asyncio.run(first_life())
    asyncio.run(second_life())


async def _is_loaded(asked: Asked) -> None:
    status, told = await asked.post("/models/load", model_path="churn.pkl", model_type="SKLearn")
    assert status == 200, told
    assert told["model_path"] == str(asked.home.models / "churn.pkl")
    assert (told["success"], told["message"]) == (True, "Model loaded successfully")
    assert told["model_type"] == "sklearn"
    info = told["model_info"]
    assert (info["input_features"], info["output_shape"], info["version"]) == (3, [1], 1)
    assert (info["model_class"], info["class_names"]) == ("Pipeline", ["goes", "stays"])
    health = (await asked.client.get("/health")).json()
    assert (health["status"], health["model_loaded"]) == ("healthy", True)
    assert health["model_info"] == info
    written = (asked.home.repository / "engine_churn" / "config.pbtxt").read_text()
    assert "max_batch_size: 64" in written


async def _is_right(asked: Asked, right: list[list[str]]) -> None:
    status, answer = await asked.post("/predict", features=ROWS, request_id="mine")
    assert (status, answer["error"]) == (200, None)
    assert (answer["predictions"], answer["request_id"]) == (right, "mine")


async def _is_explained(asked: Asked, means: list[float]) -> None:
    row = ROWS[:1]
    status, told = await asked.post("/feature-importance", features=row)
    assert status == 200, told
    assert max(told["feature_importance"], key=told["feature_importance"].get) == "feature_1"
    assert sum(told["feature_importance"].values()) == pytest.approx(1.0)
    assert told["baseline_prediction"] == ["stays"]
    # The scaler keeps the means of training, so that is what a column is put to.
    assert asked.engine.current is not None
    assert list(asked.engine.current.means) == means
    status, told = await asked.post("/feature-importance", features=row, method="exact")
    assert status == 200, told
    assert told["source"] == "linear coefficients"
    assert next(iter(told["feature_importance"])) == "feature_1"


async def _a_version_that_triton_refuses_leaves_the_former(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = asked.home.repository / "engine_churn"
    before = {path: path.read_bytes() for path in entry.rglob("*") if path.is_file()}

    async def apart(wanted: Mapping[str, Any], _seconds: float) -> dict[str, Any]:
        # What the conversion of a model does that Triton then does not serve.
        assert wanted["name"] == "engine_churn"
        (entry / "2").mkdir()
        (entry / "2" / "model.onnx").write_bytes(b"torn")
        (entry / "warmup" / "input").write_bytes(b"torn")
        with (entry / "config.pbtxt").open("a") as config:
            config.write("response_cache { enable: true }")
        return {}

    monkeypatch.setattr(loading, "apart", apart)
    status, told = await asked.post("/models/load", model_path="churn.pkl")
    monkeypatch.undo()
    assert status == 500
    assert told["detail"].startswith("Failed to load model. Triton does not serve 'engine_churn'")
    assert told["detail"].endswith("; churn.pkl is served as before")
    assert {path: path.read_bytes() for path in entry.rglob("*") if path.is_file()} == before
    assert asked.engine.state is State.READY


async def _an_ensemble_takes_its_place(asked: Asked, right: list[list[str]]) -> None:
    folder = asked.home.models
    classifier(folder / "one.pkl", labels=("stays", "goes"))
    description = {"model_paths": ["one.pkl", "churn.pkl"], "weights": [1, 3], "method": "average"}
    write_json(folder / "both.json", description)
    status, told = await asked.post("/models/load", model_path="both.json", model_type="ensemble")
    assert status == 200, told
    assert told["model_info"]["model_type"] == "ensemble"
    await _is_right(asked, right)
    assert [path.name for path in asked.home.repository.glob("engine_*")] == ["engine_both"]
    with embedded.client(asked.home.server) as client:
        assert not client.is_model_ready("engine_churn")


def _kept_double(home: Home) -> None:
    """Have the engine find a model that was loaded before, without a conversion."""
    add_model(home.repository, "engine_double")
    Kept(home.folder / "state").write(
        Model(
            name="engine_double",
            version=1,
            path=str(home.models / "double.pkl"),
            root=str(home.models),
            asked_type=None,
            kind="custom",
            trusted=True,
            compiled=False,
            input_features=2,
            output_shape=(2,),
            info={"model_type": "custom", "input_features": 2, "output_shape": [2]},
        )
    )


def test_settings_change_under_load_and_no_request_is_lost(home: Home) -> None:
    _kept_double(home)
    config = home.repository / "engine_double" / "config.pbtxt"
    answered: list[int] = []

    async def scenario() -> None:
        async with engine_at(home, Config(max_batch_size=8, batch_timeout=0.0)) as asked:
            over = False

            async def caller(number: float) -> None:
                rows = [[number + place, 1.0] for place in range(6)]
                while not over:
                    status, answer = await asked.post("/predict", features=rows)
                    assert (status, answer.get("error", answer)) == (200, None)
                    assert answer["predictions"] == [[2 * a, 2 * b] for a, b in rows]
                    answered.append(status)

            callers = [asyncio.create_task(caller(float(number))) for number in range(4)]
            for size, batching in ((4, True), (16, False), (8, True)):
                status, told = await asked.post(
                    "/config", max_batch_size=size, enable_batching=batching, batch_timeout=0.0005
                )
                assert status == 200, told
                assert f"max_batch_size: {size}" in config.read_text()
                assert ("dynamic_batching" in config.read_text()) == (batching is not False)
                seen = len(answered)
                while len(answered) < seen + 10:
                    await asyncio.sleep(0.01)
                    assert not any(task.done() for task in callers), await asyncio.gather(*callers)
            over = True
            await asyncio.gather(*callers)

    asyncio.run(scenario())
    assert "max_queue_delay_microseconds: 500" in config.read_text()
    with Client(home.server.http_url) as client:
        assert client.config("engine_double")["max_batch_size"] == 8
    assert len(answered) >= 30


_GROWN = "max_batch_size: 32"


def test_a_setting_that_triton_refuses_is_undone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kept_double(home)
    config = home.repository / "engine_double" / "config.pbtxt"
    real = live_config.write

    def spoilt(path: Path, text: str) -> None:
        real(path, text.replace('backend: "python"', 'backend: "none"') if _GROWN in text else text)

    async def scenario() -> None:
        async with engine_at(home, Config(max_batch_size=8)) as asked:
            before = config.read_text()
            monkeypatch.setattr(live_config, "write", spoilt)
            status, told = await asked.post("/config", max_batch_size=32)
            assert status == 500
            assert told["detail"].startswith("Failed to update configuration: Triton does not")
            assert config.read_text() == before
            assert asked.engine.config.max_batch_size == 8
            _, answer = await asked.post("/predict", features=[[1.0, 2.0]])
            assert answer["predictions"] == [[2.0, 4.0]]

    asyncio.run(scenario())


def test_another_gateway_sees_the_model_that_the_first_one_loaded(home: Home) -> None:
    async def scenario() -> None:
        async with engine_at(home) as asked:
            status, told = await asked.post("/predict", features=[[1.0, 2.0]])
            assert (status, told["detail"]) == (400, "No model loaded")
            _kept_double(home)
            with embedded.client(home.server) as client:
                client.load("engine_double")
            for _ in range(400):
                status, told = await asked.post("/predict", features=[[1.0, 2.0]])
                if status == 200:
                    break
                await asyncio.sleep(0.01)
            assert told["predictions"] == [[2.0, 4.0]]

    asyncio.run(scenario())


def test_the_kept_file_is_plain_json_and_a_torn_one_is_no_model(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.read() is None
    (tmp_path / "engine.json").write_text('{"name": "engine_')
    assert kept.changed()
    assert kept.read() is None
    kept.write(None)
    assert json.loads((tmp_path / "engine.json").read_text()) is None
