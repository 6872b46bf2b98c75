"""An engine over a real Triton, asked as a client asks: by HTTP, without a socket."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import joblib
from fastapi import FastAPI, Request, Response
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from toolkit.client import AsyncClient
from toolkit.client.asking import signature_of
from toolkit.deploy import embedded
from toolkit.deploy.state import Server
from toolkit.errors import ToolkitError
from toolkit.gateway import features
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.routes import Admit, router
from toolkit.gateway.engine.state import Engine
from toolkit.gateway.engine.surroundings import Surroundings, Told
from toolkit.gateway.exchange import Refused
from toolkit.gateway.replies import refused

NAMES = ("a", "b", "c")


@dataclass
class Home:
    """Where an engine lives, and what it told its surroundings."""

    folder: Path
    repository: Path
    server: Server
    forgotten: list[str] = field(default_factory=list)
    configs: list[Config] = field(default_factory=list)

    @property
    def models(self) -> Path:
        """MODEL_DIR."""
        path = self.folder / "models"
        path.mkdir(exist_ok=True)
        return path


@dataclass
class Asked:
    """An engine and the client of its routes."""

    engine: Engine
    client: httpx.AsyncClient
    home: Home

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        answer = await self.client.post(path, json=body)
        return answer.status_code, answer.json()


def application(engine: Engine, admit: Admit | None = None) -> FastAPI:
    app = FastAPI()
    app.include_router(router(engine, admit=admit) if admit else router(engine))

    async def told(_request: Request, error: Exception) -> Response:
        reply = refused(error)
        return Response(reply.body, reply.status, media_type="application/json")

    for kind in (Refused, ToolkitError):
        app.add_exception_handler(kind, told)
    return app


@asynccontextmanager
async def client_of(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def engine_at(
    home: Home, config: Config | None = None, *, start: bool = True, **surroundings: Any
) -> AsyncIterator[Asked]:
    """Give an engine in front of the home's server, as the gateway would set it up."""
    async with AsyncClient(home.server.http_url) as triton:

        async def ask(model: str, rows: list[Any], *, request_id: str | None, cached: bool) -> Told:
            triton.forget(model)
            signature = signature_of(await triton.metadata(model), await triton.config(model))
            answer = await triton.predict(model, features.tensors(rows, signature))
            return Told(features.predictions(answer.outputs), answer.outputs, 0.001)

        engine = Engine(
            Surroundings(
                repository=home.repository,
                folder=home.folder / "state",
                model_dir=home.models,
                ask=ask,
                control=lambda: embedded.client(home.server),
                forget=home.forgotten.append,
                changed=home.configs.append,
                **{"allow_pickle": True, **surroundings},
            ),
            config or Config(),
        )
        async with client_of(engine) as client:
            if start:
                await engine.start()
            yield Asked(engine, client, home)


def classifier(path: Path, *, labels: tuple[Any, Any] = (0, 1), scale: float = 1.0) -> Any:
    """Train on the spot; column 1 decides, column 2 says nothing."""
    import numpy as np

    rng = np.random.default_rng(7)
    rows = rng.normal(5.0, 2.0, size=(200, 3))
    decided = np.where((rows[:, 1] + 0.2 * rows[:, 0]) * scale > 6 * scale, labels[1], labels[0])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[:, :3], decided)
    joblib.dump(model, path)
    return model


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


Make = Callable[[Path], Home]
