"""The V2 protocol over gRPC: every method of Triton's service passed on as bytes."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import grpc
import grpc.aio

from toolkit.client.addresses import parse
from toolkit.client.grpc_codec import OPTIONS, failure
from toolkit.client.transport import TOKEN_HEADER
from toolkit.errors import ConfigError, ConnectionFailedError, PortInUseError, ToolkitError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.guard import request_id
from toolkit.gateway.replies import status_of, told
from toolkit.gateway.v2_http import check_token
from toolkit.gateway.v2_messages import STREAM, is_control, model_of

_log = logging.getLogger(__name__)

Check = Callable[[dict[str, str], str | None], str]
"""Metadata and a model's name to the id of the caller's key ("" for none), or ``Refused``."""

Metadata = list[tuple[str, str | bytes]]

TOKEN_METADATA = f"triton-grpc-protocol-{TOKEN_HEADER}"
"""Where a caller puts Triton's own token."""

STATUSES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What a refusal is called in gRPC; all else is INTERNAL."""

_SERVICE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/Check"
_REQUEST_ID = "x-request-id"
# Keys, and what each connection writes anew.
_STOPPED = frozenset({"authorization", "x-api-key", _REQUEST_ID, "user-agent", "te", "host"})
_OF_GRPC = "grpc-"
_PASSED_OF_GRPC = ("grpc-status-details-bin", "grpc-retry-pushback-ms")
_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
_MOST_CALLABLES = 64  # methods have names of the caller's choice


@dataclass(frozen=True, slots=True)
class Passed:
    """A call that is over: ``code`` is gRPC's name of its end, ``seconds`` what it took.

    ``model`` and ``version`` of a stream are those of its last message.
    """

    method: str
    model: str
    version: str
    key_id: str
    client: str
    request_id: str
    code: str
    seconds: float


class V2Grpc:
    """A gRPC server that passes calls on to the Triton at ``url`` (``grpc://``, ``grpcs://``).

    ``check`` is asked before a message is passed on, for each one of a stream too.
    ``token`` gives Triton's own token, with which callers may use the controls; it is
    compared and never sent. ``timeout_seconds`` is for calls without a deadline of their own,
    streams apart. ``heard`` gets a ``Passed`` of each call. ``largest_bytes`` is of a message.
    """

    def __init__(  # noqa: PLR0913  each is an option of the server
        self,
        url: str,
        check: Check,
        *,
        token: Callable[[], str | None] = lambda: None,
        timeout_seconds: float = 60.0,
        largest_bytes: int = 64 << 20,
        heard: Callable[[Passed], None] | None = None,
    ) -> None:
        self._address = parse(url)
        if self._address.protocol != "grpc":
            raise ConfigError(
                f"{url!r} is not the URL of Triton's gRPC port", hint="grpc://localhost:8001"
            )
        self.url = self._address.url
        self.check = check
        self.token = token
        self.heard = heard
        self._timeout_seconds = timeout_seconds
        self._largest_bytes = largest_bytes
        self._callables: dict[str, Any] = {}
        self._channel: Any = None
        self._server: Any = None

    async def serve(
        self,
        host: str,
        port: int,
        *,
        certificate: tuple[bytes, bytes] | None = None,
        shared: bool = False,
    ) -> int:
        """Begin to serve and return the port; ``certificate``: PEM chain and private key.

        ``shared`` lets several processes listen on one port. Raises ``PortInUseError`` if
        ``port`` (0: any) is taken.
        """
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", self._largest_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shared)),
            )
        )
        server.add_generic_rpc_handlers((_Methods(self),))
        try:
            if certificate is None:
                bound = server.add_insecure_port(place)
            else:
                chain, key = certificate
                bound = server.add_secure_port(place, grpc.ssl_server_credentials(((key, chain),)))
        except RuntimeError as error:
            raise PortInUseError(
                f"gRPC cannot listen on {place}: it is taken, or no address of this machine",
                hint="choose another port: GATEWAY_GRPC_PORT=…",
            ) from error
        self._channel = _channel(self.url)
        self._server = server
        await server.start()
        return int(bound)

    async def stop(self, grace: float | None = None) -> None:
        """Take no more calls, and end those under way after ``grace`` seconds (None: now)."""
        if self._server is not None:
            await self._server.stop(grace)
            await self._channel.close()

    async def unary(self, method: str, message: bytes, context: Any) -> bytes:
        """Pass on a call of one message and one answer."""
        call = _Call(self, method, context)
        answer = b""
        try:
            call.admit(message)
            left = context.time_remaining()
            onward = self._callable(method, "unary_unary")(
                message,
                timeout=self._timeout_seconds if left is None else left,
                metadata=call.passed_on(),
            )
            answer = await onward
            await call.begin(onward)
            await call.finish(onward)
        except Exception as error:  # noqa: BLE001  abort tells them apart
            await call.abort(error)
        finally:
            call.tell()
        return answer

    async def stream(
        self, method: str, messages: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        """Pass on a call of many messages and many answers."""
        call = _Call(self, method, context)
        onward = None
        try:
            call.admit(None)
            onward = self._callable(method, "stream_stream")(
                call.admitted(messages),
                timeout=context.time_remaining(),
                metadata=call.passed_on(),
            )
            async for answer in onward:
                await call.begin(onward)
                yield answer
            await call.finish(onward)
        except Exception as error:  # noqa: BLE001  abort tells them apart
            await call.abort(error)
        finally:
            if onward is not None:
                onward.cancel()
            call.tell()

    def _callable(self, method: str, shape: str) -> Callable[..., Any]:
        found: Callable[..., Any] | None = self._callables.get(method)
        if found is None:
            made: Callable[..., Any] = getattr(self._channel, shape)(method)
            if len(self._callables) < _MOST_CALLABLES:
                self._callables[method] = made
            return made
        return found


class _Call:
    """What is known of one call on its way."""

    def __init__(self, server: V2Grpc, method: str, context: Any) -> None:
        self._server = server
        self._context = context
        self._method = method.removeprefix(_SERVICE)
        self._given: Metadata = [(name, value) for name, value in context.invocation_metadata()]
        self._texts = {name: value for name, value in self._given if isinstance(value, str)}
        named = self._texts.get(_REQUEST_ID, "")
        self._request_id = request_id({_REQUEST_ID.encode(): named.encode()})
        self._began = perf_counter()
        self._has_begun = False
        self._model = self._version = self._key_id = ""
        self._code = grpc.StatusCode.CANCELLED.name
        self._refused: Exception | None = None

    def admit(self, message: bytes | None) -> None:
        """Raise ``Refused`` if this may not pass; None is a stream without a message yet."""
        about = None if message is None else model_of(self._method, message)
        self._model, self._version = about or ("", "")
        self._key_id = self._server.check(self._texts, self._model or None)
        if message is not None and is_control(self._method, message):
            check_token(self._texts.get(TOKEN_METADATA), self._server.token(), TOKEN_METADATA)

    async def admitted(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what may pass; the first that may not ends the stream, after its answers."""
        async for message in messages:
            try:
                self.admit(message)
            except Exception as error:  # noqa: BLE001  raised where the answers are passed on
                self._refused = error
                return
            yield message

    def passed_on(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata for Triton: the caller's, less its keys."""
        kept = [pair for pair in self._given if pair[0] not in _STOPPED]
        return (*_allowed(kept), (_REQUEST_ID, self._request_id))

    async def begin(self, onward: Any) -> None:
        """Give the caller what Triton said before its first answer."""
        if not self._has_begun:
            self._has_begun = True
            said = _allowed(await onward.initial_metadata())
            if said:
                await self._context.send_initial_metadata(tuple(said))

    async def finish(self, onward: Any) -> None:
        """Give the caller what Triton said after its last answer, or raise a refusal."""
        if self._refused is not None:
            raise self._refused
        said = _allowed(await onward.trailing_metadata())
        self._context.set_trailing_metadata((*said, (_REQUEST_ID, self._request_id)))
        self._code = grpc.StatusCode.OK.name

    async def abort(self, error: Exception) -> None:
        """End the call by ``error``; raises."""
        code, details, said = _ending(error, self._server.url)
        if code is grpc.StatusCode.INTERNAL and not isinstance(
            error, (grpc.RpcError, Refused, ToolkitError)
        ):
            _log.error("request %s failed inside", self._request_id, exc_info=error)
        self._code = code.name
        await self._context.abort(code, details, (*said, (_REQUEST_ID, self._request_id)))

    def tell(self) -> None:
        """Tell of the call, which is over."""
        if self._server.heard is not None:
            self._server.heard(
                Passed(
                    self._method,
                    self._model,
                    self._version,
                    self._key_id,
                    self._context.peer(),
                    self._request_id,
                    self._code,
                    perf_counter() - self._began,
                )
            )


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds who answers a method: all of Triton's service, and its health check."""

    def __init__(self, server: V2Grpc) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        """Return the handler, or None for what is not Triton's."""
        method = details.method
        if method == _SERVICE + STREAM:
            return grpc.stream_stream_rpc_method_handler(partial(self._server.stream, method))
        if method.startswith(_SERVICE) or method == _HEALTH:
            return grpc.unary_unary_rpc_method_handler(partial(self._server.unary, method))
        return None


def _channel(url: str) -> Any:
    target = url.partition("://")[2]
    if url.startswith("grpcs:"):
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=OPTIONS)
    return grpc.aio.insecure_channel(target, options=OPTIONS)


def _allowed(metadata: Any) -> Metadata:
    """Return what may be sent on; gRPC writes most of its own names itself."""
    return [
        (name, value)
        for name, value in metadata or ()
        if not name.startswith(_OF_GRPC) or name in _PASSED_OF_GRPC
    ]


def _ending(error: Exception, url: str) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return code, text and metadata with which ``error`` ends a call."""
    if isinstance(error, Refused):
        said: Metadata = [(name.decode(), value.decode()) for name, value in error.headers]
        return STATUSES.get(error.status, grpc.StatusCode.INTERNAL), error.detail, said
    if isinstance(error, grpc.aio.AioRpcError):
        code = error.code()
        if code in _BROKEN:
            failed = failure(error, 0.0, url)
            if isinstance(failed, ConnectionFailedError):
                text = f"Triton cannot be reached: {failed.message}"
                return grpc.StatusCode.UNAVAILABLE, text, [("retry-after", "1")]
        return code, error.details() or "", _allowed(error.trailing_metadata())
    if isinstance(error, ToolkitError):
        return STATUSES.get(status_of(error), grpc.StatusCode.INTERNAL), told(error), []
    return grpc.StatusCode.INTERNAL, "the gateway failed inside; its log says why", []
