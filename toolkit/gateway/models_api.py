"""The routes of models by their names as FastAPI publishes them; ``routes_models`` answers."""

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from toolkit.gateway import routes_models
from toolkit.gateway.published import Detail, response
from toolkit.gateway.replies import json_reply

if TYPE_CHECKING:
    from toolkit.gateway.service import Gateway


class Features(BaseModel):
    """What a model is asked about."""

    features: Any = Field(
        description="Rows of values, one row, a record or records by the names of the features,"
        " or an object of inputs by their names.",
        examples=[[[5.1, 3.5, 1.4, 0.2]]],
    )


class Predictions(BaseModel):
    """A model's answer, one entry a row."""

    model: str
    predictions: list[Any] = Field(description="The first output: one list a row.")
    outputs: dict[str, list[Any]] | None = Field(
        None, description="The outputs beside the first, by their names."
    )


class Available(BaseModel):
    """A model that is served."""

    name: str
    version: str
    backend: str
    dtype: str
    input_shape: list[int]
    output_shape: list[int]
    features: list[str]
    classes: list[str]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Detail} for status in (401, 403, 404, 408, 413, 422, 429, 500, 503, 504)
}


def router(gateway: "Gateway") -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["models"])
    body = {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Features.model_json_schema()}},
        }
    }

    @routes.post(
        "/predict/{model}",
        response_model=Predictions,
        responses=_REFUSALS,
        openapi_extra=body,
    )
    async def predict(model: str, request: Request) -> Response:  # noqa: ARG001
        """Predict any number of rows."""
        return response(await routes_models.predict(gateway, request.scope["asked"]))

    @routes.post(
        "/predict_batched/{model}",
        response_model=Predictions,
        responses=_REFUSALS,
        openapi_extra=body,
    )
    async def predict_batched(model: str, request: Request) -> Response:  # noqa: ARG001
        """Predict one row, joined with those of other callers; limited in its rate."""
        return response(await routes_models.predict_batched(gateway, request.scope["asked"]))

    @routes.get(
        "/available_models",
        responses={200: {"model": list[Available], "content": {"text/html": {}}}, **_REFUSALS},
    )
    async def available_models(request: Request) -> Response:
        """List what is served: a page for browsers, JSON for ``Accept: application/json``."""
        models = await routes_models.available(gateway)
        if "application/json" in request.headers.get("accept", ""):
            return response(json_reply(models))
        return HTMLResponse(routes_models.page(models))

    return routes
