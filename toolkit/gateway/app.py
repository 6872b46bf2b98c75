"""The application: FastAPI for what is asked now and then, ``Front`` before it for all."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse

from toolkit.errors import ToolkitError
from toolkit.gateway import examples, models_api, routes_metrics
from toolkit.gateway.engine import routes as engine_routes
from toolkit.gateway.engine.view import View
from toolkit.gateway.exchange import Asked, Refused
from toolkit.gateway.front import Front
from toolkit.gateway.jobs import routes as jobs_routes
from toolkit.gateway.jobs.routes import JobsApi
from toolkit.gateway.published import response
from toolkit.gateway.replies import refused, told
from toolkit.gateway.service import Gateway
from toolkit.gateway.settings import Settings
from toolkit.gateway.ui import routes as ui_routes
from toolkit.gateway.ui.state import Sources
from toolkit.gateway.ui.state import View as UiView

_DESCRIPTION = "A high-performance API for machine learning model inference"


class GatewayApp(FastAPI):
    """The gateway as an ASGI application; ``gateway`` is all that its routes share."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            title="Inference Engine API",
            version="1.0.0",
            description=_DESCRIPTION,
            lifespan=_lifespan,
        )
        self.gateway = Gateway(settings)
        self.failure: ToolkitError | None = None
        inner: Any = super().__call__
        self._front = Front(self.gateway, inner)
        self.add_middleware(GZipMiddleware, minimum_size=1000)
        self.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
        )
        for kind in (Refused, ToolkitError):
            self.add_exception_handler(kind, _refused)
        self.add_exception_handler(RequestValidationError, _unfit)
        gateway = self.gateway
        view = View(gateway.engine, gateway.check)
        self.include_router(engine_routes.router(gateway.engine, gateway.health, _admit))
        # Before the model by its name, or "async" would be one.
        self.include_router(jobs_routes.router(JobsApi(gateway.jobs, view, settings.enable_async)))
        self.include_router(models_api.router(gateway))
        sources = Sources(
            gateway.live,
            gateway.index,
            gateway.models.get,
            lambda: gateway.log.errors,
            gateway.shown_jobs if settings.enable_async else None,
        )
        self.include_router(
            ui_routes.router(UiView(sources), key_required=settings.require_api_key)
        )
        self.include_router(
            routes_metrics.router(
                self.gateway.metrics,
                self.gateway.caches,
                max_batch_size=lambda: settings.engine_max_batch_size,
            )
        )
        # FastAPI's own route of the schema knows no models.
        schema = self.openapi_url or "/openapi.json"
        self.router.routes[:] = [
            route for route in self.router.routes if getattr(route, "path", "") != schema
        ]
        self.add_api_route(schema, self.published, include_in_schema=False)

    async def published(self) -> Response:
        """Return the schema with an example for each model that is served now."""
        models = self.gateway.models
        served = await examples.published(models.index, models.get)
        return JSONResponse(examples.openapi(self.openapi(), served))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; the start and the end of the application go to FastAPI."""
        if scope["type"] == "http":
            await self._front(scope, receive, send)
            return

        async def plainly(message: Any) -> None:
            # Not the traceback of what is no fault of the program.
            if message["type"] == "lifespan.startup.failed" and self.failure is not None:
                message = {**message, "message": f"the gateway does not start: {self.failure_line}"}
            await send(message)

        await super().__call__(scope, receive, plainly)

    @property
    def failure_line(self) -> str:
        """Why it did not start, and what to do."""
        return told(self.failure) if self.failure is not None else ""


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    try:
        await app.gateway.open()
    except ToolkitError as error:
        app.failure = error
        raise
    try:
        yield
    finally:
        await app.gateway.close()


def _admit(request: Request, model: str, rows: int) -> None:
    """Hold a caller of the engine to the limits of its key."""
    asked: Asked = request.scope["asked"]
    asked.endpoint, asked.model, asked.rows = "engine", model, rows
    request.app.gateway.admit(asked)


async def _unfit(request: Request, error: Exception) -> Response:
    """Tell what of a body does not fit; not with the body's own words, which may be no JSON."""
    assert isinstance(error, RequestValidationError)
    faults = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in error.errors()]
    request.scope["asked"].error = "; ".join(str(fault["msg"]) for fault in faults)
    return Response(json.dumps({"detail": faults}), 422, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    request.scope["asked"].error = str(error)
    return response(refused(error))
