"""System 1's routes: one model, loaded by its file, asked, explained and set up."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from fastapi import APIRouter, Request, Response

from toolkit.errors import RequestError, ToolkitError
from toolkit.gateway.engine import asking, importance, loading, schema
from toolkit.gateway.engine.asking import now
from toolkit.gateway.engine.loading import Wanted
from toolkit.gateway.engine.state import SERVING, Engine
from toolkit.gateway.exchange import Refused
from toolkit.gateway.folders import inside
from toolkit.gateway.published import Detail, response
from toolkit.gateway.replies import json_reply
from toolkit.gateway.replies import told as in_words

NAME = "Inference Engine API"
VERSION = "1.0.0"
DESCRIPTION = "A high-performance API for machine learning model inference"
_ALIVE = "Model Server is Alive and Kicking!!!!"

_WHY = {
    400: "No model loaded, or features that do not fit it.",
    403: "A pickle, and ALLOW_PICKLE is not set; or a key that may not do this.",
    404: "No such file in MODEL_DIR.",
    409: "The model's file is no longer the one that was loaded.",
    500: "It failed; detail says why.",
    502: "Triton refuses the gateway.",
    503: "The engine or Triton is not ready.",
    504: "No answer in time.",
}


def _told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    always = (401, 403, 413, 429)
    return {
        status: {"model": Detail, "description": _WHY.get(status, "Refused.")}
        for status in sorted({*always, *statuses})
    }


Admit = Callable[[Request, str, int], None]
"""What looks whether a request may ask this many rows of the model of this name."""


def _anybody(_request: Request, _model: str, _rows: int) -> None:
    """Let every request in."""


def router(
    engine: Engine,
    health: Callable[[], Mapping[str, Any]] = dict,
    admit: Admit = _anybody,
) -> APIRouter:
    """Return the routes; ``health`` gives what else belongs into ``GET /health``.

    ``admit`` raises ``Refused`` for a caller who may not ask the model.
    """
    routes = APIRouter(tags=["engine"])
    _add_about(routes, engine, health)
    _add_models(routes, engine)
    _add_predictions(routes, engine, admit)
    _add_settings(routes, engine)
    return routes


def _add_about(routes: APIRouter, engine: Engine, health: Callable[[], Mapping[str, Any]]) -> None:
    @routes.get("/", response_model=schema.Root)
    async def root() -> Response:
        """Say what answers here."""
        about = {"name": NAME, "version": VERSION, "description": DESCRIPTION}
        return _json({**about, "status": "running", "docs_url": "/docs", "message": _ALIVE})

    @routes.get("/health", response_model=schema.Health)
    async def healthy() -> Response:
        """Say how the gateway and its engine are; always 200."""
        current = engine.loaded()
        return _json(
            {
                "status": "healthy" if engine.state in SERVING else "unhealthy",
                "state": engine.state,
                "uptime_seconds": monotonic() - engine.began,
                "model_loaded": current is not None,
                "active_requests": engine.active,
                "model_info": current.info if current else None,
                "timestamp": now(),
                **health(),
            }
        )


def _add_models(routes: APIRouter, engine: Engine) -> None:
    @routes.post(
        "/models/load", response_model=schema.ModelLoaded, responses=_told(404, 500, 502, 503, 504)
    )
    async def load(asked: schema.ModelLoadRequest) -> Response:
        """Convert a model file, prove the result, and serve it in place of the former model."""
        wanted = await asyncio.to_thread(_wanted, engine, asked)
        try:
            model = await engine.load(wanted)
        except (ToolkitError, OSError) as error:
            raise _failed(engine, error) from error
        return _json(
            {
                "success": True,
                "message": "Model loaded successfully",
                "model_path": model.path,
                "model_type": asked.model_type or "auto-detected",
                "model_info": model.info,
            }
        )

    @routes.delete("/models", response_model=schema.Done, responses=_told(500))
    async def unload() -> Response:
        """Serve the model no more."""
        try:
            former = await engine.unload()
        except OSError as error:
            raise Refused(500, f"Failed to unload model: {error}") from error
        told = "Model unloaded successfully" if former else "No model was loaded"
        return _json({"success": True, "message": told})

    @routes.post(
        "/validate", response_model=schema.Validation, responses=_told(400, 500, 502, 503, 504)
    )
    async def validate() -> Response:
        """Ask the model rows whose answers are known from its proof."""
        model = engine.require_loaded()
        try:
            results = await engine.validate()
        except ToolkitError as error:
            raise _refusal("Validation failed: ", error) from error
        told = {"success": results["valid"], "model_type": model.kind, "results": results}
        return _json({**told, "timestamp": now()})


def _add_predictions(routes: APIRouter, engine: Engine, admit: Admit) -> None:
    refusals = _told(400, 500, 502, 503, 504)

    @routes.post("/predict", response_model=schema.InferenceResponse, responses=refusals)
    async def predict(asked: schema.InferenceRequest, request: Request) -> Response:
        """Predict rows; a failure of the model is told with 200 and ``success`` false."""
        admit(request, engine.require_model().name, len(asked.features))
        return _json(await asking.predict(engine, asked.features, asked.request_id))

    @routes.post("/predict/batch", response_model=schema.BatchInferenceResponse, responses=refusals)
    async def predict_batch(asked: schema.BatchInferenceRequest, request: Request) -> Response:
        """Predict the rows of several requests; each has an answer of its own."""
        admit(request, engine.require_model().name, sum(map(len, asked.batch)))
        try:
            return _json(await asking.predict_batch(engine, asked.batch, asked.request_ids))
        except ToolkitError as error:
            raise _refusal("Batch processing failed: ", error) from error

    @routes.post(
        "/feature-importance",
        response_model=schema.Importance,
        response_model_exclude_unset=True,
        responses=_told(400, 409, 500, 502, 503, 504),
    )
    async def explain(asked: schema.ImportanceRequest, request: Request) -> Response:
        """Say which columns of the first row its answer depends on."""
        admit(request, engine.require_model().name, 1)
        return _json(await importance.explain(engine, asked.features, asked.method))


def _add_settings(routes: APIRouter, engine: Engine) -> None:
    @routes.post(
        "/config", response_model=schema.ConfigUpdated, responses=_told(500, 502, 503, 504)
    )
    async def configure(asked: schema.EngineConfigRequest) -> Response:
        """Change settings while the model serves; no request is lost."""
        wanted = {key: value for key, value in asked.model_dump().items() if value is not None}
        try:
            notes = await engine.update(wanted)
        except ToolkitError as error:
            raise _refusal("Failed to update configuration: ", error) from error
        return _json(
            {
                "success": True,
                "message": "Configuration updated successfully",
                "updated_parameters": wanted,
                "current_config": engine.config.current(),
                "notes": notes,
            }
        )

    @routes.post("/restart", response_model=schema.Restarted, responses=_told(500, 502, 503, 504))
    async def restart() -> Response:
        """Serve the model from a new instance, under the settings as they are."""
        try:
            await engine.restart()
        except ToolkitError as error:
            raise _refusal("Failed to restart engine: ", error) from error
        told = {"success": True, "message": "Engine restarted successfully"}
        return _json({**told, "state": engine.state})


def _wanted(engine: Engine, asked: schema.ModelLoadRequest) -> Wanted:
    around = engine.around
    folder = Path(around.model_dir).resolve()
    path = inside(folder, asked.model_path)
    sample = inside(folder, asked.sample_path) if asked.sample_path else None
    loading.require_allowed(path, allow_pickle=around.allow_pickle)
    return Wanted(
        path=path,
        root=folder,
        model_type=asked.model_type,
        compiled=asked.compile_model,
        sample=sample,
        trusted=around.allow_pickle,
    )


def _failed(engine: Engine, error: ToolkitError | OSError) -> Exception:
    """Return the refusal of a load; the model that was there before answers on."""
    if isinstance(error, RequestError) and asking.is_outage(error):
        return error
    reason = in_words(error) if isinstance(error, ToolkitError) else str(error)
    line = " ".join(reason.split())
    former = engine.current
    still = f"; {Path(former.path).name} is served as before" if former else ""
    return Refused(500, f"Failed to load model. {line}{still}")


def _refusal(what: str, error: ToolkitError) -> Exception:
    if isinstance(error, RequestError) and asking.is_outage(error):
        return error
    return Refused(500, what + in_words(error))


def _json(content: Mapping[str, Any]) -> Response:
    return response(json_reply(content))
