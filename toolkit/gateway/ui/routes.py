"""The page, and what it asks the gateway for."""

from pathlib import Path

from fastapi import APIRouter, Request, Response

from toolkit.errors import UnknownModelError
from toolkit.gateway import examples, guard
from toolkit.gateway.exchange import Asked, Refused, Reply
from toolkit.gateway.published import response
from toolkit.gateway.replies import json_reply
from toolkit.gateway.ui.live import Sees
from toolkit.gateway.ui.state import View

PATH = "/ui"
"""The page holds nothing, so it needs no key; what it asks for does."""

_UNKEYED = b'data-key="optional"'
_KEYED = b'data-key="required"'


def router(view: View, *, key_required: bool = False) -> APIRouter:
    """Return the routes; they are the page's own and not part of the published schema."""
    routes = APIRouter(include_in_schema=False)
    page = (Path(__file__).parent / "page.html").read_bytes()
    if key_required:
        page = page.replace(_UNKEYED, _KEYED, 1)
    shown = Reply(200, page, b"text/html; charset=utf-8", guard.page_headers(page))

    @routes.get(PATH)
    async def ui() -> Response:
        return response(shown)

    @routes.get(f"{PATH}/state")
    async def state(request: Request, model: str = "") -> Response:
        asked: Asked = request.scope["asked"]
        all_ = asked.key is None or not asked.key.models
        return response(json_reply(await view.collect(seen_by(asked), all_=all_, model=model)))

    @routes.get(f"{PATH}/example")
    async def example(request: Request, model: str) -> Response:
        asked: Asked = request.scope["asked"]
        if asked.key is not None:
            asked.key.check_model(model)
        try:
            known = await view.sources.known(model)
        except UnknownModelError as error:
            raise Refused(404, f"Model not found: {model}") from error
        return response(json_reply({"features": examples.example(known.signature)}))

    return routes


def seen_by(asked: Asked) -> Sees:
    """Return what tells which models the caller may know of: those its key is for."""
    key = asked.key

    def sees(model: str) -> bool:
        try:
            if key is not None:
                key.check_model(model)
        except Refused:
            return False
        return True

    return sees
