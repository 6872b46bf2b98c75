import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.engine.asked import client_of
from toolkit.errors import ConnectionFailedError, ConversionError, RepositoryError
from toolkit.gateway.engine import live_config, loading
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.loading import Wanted
from toolkit.gateway.engine.state import Engine, State
from toolkit.gateway.engine.surroundings import Surroundings, Told
from toolkit.spec import RepositoryEntry

TOLD = {
    "kind": "sklearn",
    "input_features": 3,
    "output_shape": [1],
    "model_class": "Ridge",
    "hyperparameters": {},
    "num_trees": None,
    "version": 1,
    "feature_names": [],
    "class_names": [],
    "compiled": True,
    "road": "onnx (exact)",
    "proven_rows": 1000,
    "notes": [],
    "batched": True,
    "means": [],
}


class Publishing:
    """What is put in the place of a conversion: it notes what was wanted."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.fails: Exception | None = None
        self.removed: list[str] = []

    async def publish(self, wanted: Wanted, *_given: Any) -> dict[str, Any]:
        self.wanted.append(wanted)
        if self.fails:
            raise self.fails
        return dict(TOLD)

    async def remove(self, name: str, *_given: Any) -> None:
        self.removed.append(name)


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> Publishing:
    there = Publishing()
    monkeypatch.setattr(loading, "publish", there.publish)
    monkeypatch.setattr(loading, "remove", there.remove)
    return there


def engine_in(folder: Path, config: Config | None = None) -> Engine:
    async def ask(_model: str, _rows: list[Any], *, request_id: str | None, cached: bool) -> Told:
        pytest.fail(f"nothing is asked here: {request_id} {cached}")

    return Engine(
        Surroundings(
            repository=folder / "repository",
            folder=folder / "state",
            model_dir=folder,
            ask=ask,
            control=lambda: pytest.fail("nothing here is a matter for Triton"),
        ),
        config or Config(),
    )


def test_the_model_of_the_settings_is_loaded_at_the_start_and_trusted(
    tmp_path: Path, publishing: Publishing
) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"model")

    async def scenario() -> None:
        engine = engine_in(tmp_path)
        await engine.start(str(path), "XGBOOST", compiled=True)
        assert engine.state is State.READY
        assert engine.current is not None
        assert engine.current.name == "engine_m"
        await engine_in(tmp_path).start(str(path), "no such type")
        await engine_in(tmp_path).start(str(tmp_path / "other.pkl"))

    asyncio.run(scenario())
    assert publishing.wanted[0] == Wanted(
        path=path, root=tmp_path, model_type="xgboost", compiled=True, trusted=True
    )


def test_a_model_of_the_settings_that_does_not_load_leaves_error_and_the_gateway_answers(
    tmp_path: Path, publishing: Publishing
) -> None:
    (tmp_path / "m.pkl").write_bytes(b"model")
    publishing.fails = ConversionError("it is torn")

    async def scenario() -> None:
        engine = engine_in(tmp_path)
        await engine.start(str(tmp_path / "m.pkl"))
        async with client_of(engine) as client:
            assert (await client.get("/health")).json()["state"] == "ERROR"
            answer = await client.post("/predict", json={"features": [[1]]})
            assert answer.status_code == 503
            assert answer.json() == {"detail": "Engine not ready. Current state: ERROR"}
            publishing.fails = None
            answer = await client.post("/models/load", json={"model_path": "m.pkl"})
            assert answer.status_code == 403
            (tmp_path / "m.onnx").write_bytes(b"model")
            answer = await client.post("/models/load", json={"model_path": "m.onnx"})
            assert answer.json()["model_type"] == "auto-detected"
            assert engine.state.value == "READY"

    asyncio.run(scenario())


def test_a_load_says_so_while_there_is_no_model_and_hides_behind_the_one_there_is(
    tmp_path: Path, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[State] = []

    async def scenario() -> None:
        engine = engine_in(tmp_path)
        await engine.start()

        async def publish(wanted: Wanted, *given: Any) -> dict[str, Any]:
            seen.append(engine.state)
            return await publishing.publish(wanted, *given)

        monkeypatch.setattr(loading, "publish", publish)
        await engine.load(Wanted(path=tmp_path / "one.onnx", root=tmp_path))
        await engine.load(Wanted(path=tmp_path / "two.onnx", root=tmp_path))
        await engine.load(Wanted(path=tmp_path / "two.onnx", root=tmp_path))

    asyncio.run(scenario())
    assert seen == [State.LOADING, State.READY, State.READY]
    assert publishing.removed == ["engine_one"]


@pytest.mark.parametrize(
    ("error", "state", "model"),
    [
        (RepositoryError("the entry is gone"), State.ERROR, None),
        (ConnectionFailedError("Triton is still starting"), State.READY, "engine_one"),
    ],
)
def test_a_model_that_was_loaded_before_is_taken_up_also_before_triton_is_there(  # noqa: PLR0917
    tmp_path: Path,
    publishing: Publishing,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    state: State,
    model: str | None,
) -> None:
    entry = tmp_path / "repository" / "engine_one"
    (entry / "1").mkdir(parents=True)

    def serve(found: RepositoryEntry, *_given: Any) -> int:
        assert found.path == entry
        raise error

    async def scenario() -> None:
        first = engine_in(tmp_path)
        await first.start()
        await first.load(Wanted(path=tmp_path / "one.onnx", root=tmp_path))
        monkeypatch.setattr(live_config, "serve", serve)
        second = engine_in(tmp_path)
        await second.start()
        assert second.state is state
        assert (second.current.name if second.current else None) == model

    asyncio.run(scenario())
    assert len(publishing.wanted) == 1


def test_another_file_in_the_settings_or_other_content_in_it_is_loaded_anew(
    tmp_path: Path, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    monkeypatch.setattr(live_config, "serve", lambda *_given: 4)
    monkeypatch.setattr(live_config, "apply", lambda *_given: ())
    for name in ("engine_one", "engine_two"):
        (tmp_path / "repository" / name / "1").mkdir(parents=True)

    async def started(path: Path) -> str:
        engine = engine_in(tmp_path)
        await engine.start(str(path))
        assert engine.current is not None
        return engine.current.name

    async def scenario() -> None:
        assert await started(one) == "engine_one"
        assert await started(one) == "engine_one"
        assert len(publishing.wanted) == 1
        assert await started(two) == "engine_two"
        assert publishing.removed == ["engine_one"]
        two.write_bytes(b"two")
        assert await started(two) == "engine_two"
        assert len(publishing.wanted) == 3
        engine = engine_in(tmp_path)
        await engine.start()
        assert (engine.state, engine.current) == (State.READY, None)

    asyncio.run(scenario())
    assert publishing.removed == ["engine_one", "engine_two"]
