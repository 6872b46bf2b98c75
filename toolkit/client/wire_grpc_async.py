"""gRPC for asyncio, with tritonclient's stubs on ``grpc.aio``."""

import asyncio
from collections.abc import Mapping

import grpc
import grpc.aio

from toolkit.client.grpc_codec import decode, encode, failure, metadata, token_metadata
from toolkit.client.lifetimes import may_stay, warn_unclosed
from toolkit.client.transport import NO_HEADERS, Answer, Call
from toolkit.client.wire_grpc import Line, open_channel
from toolkit.errors import ConnectionFailedError, DeadlineExceededError


class AsyncGrpcTransport:
    """One Triton over gRPC for one event loop, on one connection."""

    _closed = True

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._metadata = token_metadata(token)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line: Line | None = None
        self._closed = False

    async def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        method, message = encode(call, timeout)
        travelling = metadata(self._metadata, headers)
        if self._closed:
            raise ConnectionFailedError("the client was closed")
        line = self._bound(asyncio.get_running_loop())
        line.running += 1
        try:
            reply = await line.methods[method](message, timeout=timeout, metadata=travelling)
        except grpc.RpcError as error:
            failed = failure(error, timeout, self.url)
            if isinstance(failed, DeadlineExceededError) and line is self._line:
                self._line, line.given_up = None, True
            raise failed from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # grpcio's way to say that the channel was closed by another task.
                raise ConnectionFailedError("the client was closed") from error
            raise
        finally:
            line.running -= 1
            if line.idle:
                await line.channel.close()
        return decode(call, reply)

    def _bound(self, loop: asyncio.AbstractEventLoop) -> Line:
        """Return the line, made in the loop that will use it, which is when it is first used."""
        line = self._line
        if line is None or self._loop is None or not may_stay(self._loop, loop):
            line = self._line = Line(open_channel(self.url, grpc.aio))
            self._loop = loop
        return line

    async def close(self) -> None:
        """Close the channel; requests under way fail."""
        self._closed = True
        line, self._line = self._line, None
        if line is not None:
            await line.channel.close()

    def __del__(self) -> None:
        warn_unclosed(self, closed=self._closed or self._line is None)
