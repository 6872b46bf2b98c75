"""gRPC for asyncio, with tritonclient's stubs on ``grpc.aio``."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from toolkit.client.grpc_codec import decode, encode, failure, metadata, token_metadata
from toolkit.client.lifetimes import may_stay, warn_unclosed
from toolkit.client.transport import NO_HEADERS, Answer, Call
from toolkit.client.wire_grpc import methods, open_channel
from toolkit.errors import ConnectionFailedError


class AsyncGrpcTransport:
    """One Triton over gRPC for one event loop, on one connection."""

    _closed = True

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._metadata = token_metadata(token)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: Any = None
        self._methods: Mapping[str, Callable[..., Any]] = {}
        self._closed = False

    async def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        method, message = encode(call, timeout)
        travelling = metadata(self._metadata, headers)
        if self._closed:
            raise ConnectionFailedError("the client was closed")
        self._bind(asyncio.get_running_loop())
        try:
            reply = await self._methods[method](message, timeout=timeout, metadata=travelling)
        except grpc.RpcError as error:
            raise failure(error, timeout, self.url) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # grpcio's way to say that the channel was closed by another task.
                raise ConnectionFailedError("the client was closed") from error
            raise
        return decode(call, reply)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the channel in the loop that will use it, which is when it is first used."""
        if self._loop is None or not may_stay(self._loop, loop):
            self._channel = open_channel(self.url, grpc.aio)
            self._methods = methods(self._channel)
            self._loop = loop

    async def close(self) -> None:
        """Close the channel; requests under way fail."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def __del__(self) -> None:
        warn_unclosed(self, closed=self._closed or self._channel is None)
