"""The V2 protocol, passed through with the gateway's keys and limits."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from toolkit.gateway import spans, v2_http
from toolkit.gateway.exchange import Asked, Headers, Refused, Reply
from toolkit.gateway.keys import Key
from toolkit.gateway.v2_http import Receive, Streamed

if TYPE_CHECKING:
    from toolkit.gateway.service import Gateway

V2 = "/v2"
_FOR_ALL = ("/v2", "/v2/health/live", "/v2/health/ready")
_PREDICTS = ("/infer", "/generate", "/generate_stream")


async def pass_on(gateway: "Gateway", asked: Asked, receive: Receive) -> Reply | Streamed:
    """Return Triton's answer to a request below ``/v2``.

    Raises ``Refused`` and ``RequestError``s. What predicts has a place in the back pressure.
    """
    named = v2_http.model_of(asked.path)
    if named is not None:
        asked.model, asked.version = named
    elif asked.key is not None:
        check_whole(asked.key, asked.path)
    if not asked.path.endswith(_PREDICTS):
        gateway.admit(asked)
        return await _answered(gateway, asked, receive)
    asked.endpoint = "v2"
    gateway.admit(asked)
    async with gateway.pressure:
        return await _answered(gateway, asked, receive)


async def _answered(gateway: "Gateway", asked: Asked, receive: Receive) -> Reply | Streamed:
    seconds = gateway.settings.predict_timeout_seconds
    return await gateway.v2.pass_on(asked, seconds, receive=receive, added=spans.headers())


def check_whole(key: Key, path: str) -> None:
    """Refuse what tells of all models to a key that is for some of them."""
    if key.models and path not in _FOR_ALL:
        raise Refused(403, "This API key is for some models, and this is about all of them")


def check_call(gateway: "Gateway", metadata: Mapping[str, str], model: str | None) -> str:
    """Look at the key of a call over gRPC; return its name. Raises ``Refused``."""
    headers = {name.encode(): value.encode("latin-1") for name, value in metadata.items()}
    asked = Asked("", "", headers, model=model or "")
    gateway.authorise(asked)
    if model:
        gateway.admit(asked)
    elif asked.key is not None:
        check_whole(asked.key, "")
    return asked.key_id


def headers_of(reply: Reply, common: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers of a reply; one without a body of its own names no media type."""
    media = ((b"content-type", reply.media),) if reply.media else ()
    length = (b"content-length", b"%d" % len(reply.body))
    return [*media, length, *reply.headers, *common]
