"""What every family of routes needs of FastAPI: a refusal in its schema, a reply as it sends it."""

from fastapi import Response
from pydantic import BaseModel, Field

from toolkit.gateway.exchange import Reply


class Detail(BaseModel):
    """Why something was not done."""

    detail: str = Field(examples=["No model loaded"])


def response(reply: Reply) -> Response:
    """Return a reply as FastAPI sends it."""
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, headers, reply.media.decode())
