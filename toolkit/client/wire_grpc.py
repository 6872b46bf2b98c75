"""gRPC for threads, with tritonclient's stubs."""

from collections.abc import Mapping
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import grpc
from tritonclient.grpc import service_pb2_grpc

from toolkit.client.grpc_codec import (
    INFER,
    OPTIONS,
    decode,
    encode,
    failure,
    metadata,
    token_metadata,
)
from toolkit.client.lifetimes import warn_unclosed
from toolkit.client.transport import NO_HEADERS, Answer, Call
from toolkit.errors import ConnectionFailedError, DeadlineExceededError, RequestError


class Line:
    """A channel, which is one connection, and the calls under way on it.

    A call that got no answer in time may have been on a connection that hangs, which gRPC
    does not find out: further calls go over a new one, and the last call on the old one
    closes it.
    """

    __slots__ = ("channel", "given_up", "methods", "running")

    def __init__(self, channel: Any) -> None:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.channel = channel
        # ``ModelInfer`` takes and gives bytes.
        self.methods = {**vars(stub), "ModelInfer": channel.unary_unary(INFER)}
        self.running = 0
        self.given_up = False

    @property
    def idle(self) -> bool:
        """Whether it is to be closed."""
        return self.given_up and not self.running


class GrpcTransport:
    """One Triton over gRPC: one connection, which all threads share."""

    _closed = True

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._metadata = token_metadata(token)
        self._lock = Lock()
        self._line = Line(open_channel(url, grpc))
        self._closed = False

    def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        method, message = encode(call, timeout)
        travelling = metadata(self._metadata, headers)
        if self._closed:
            raise ConnectionFailedError("the client was closed")
        with self._lock:
            line = self._line
            line.running += 1
        try:
            reply = line.methods[method](message, timeout=timeout, metadata=travelling)
        except grpc.RpcError as error:
            raise self._failure(error, timeout, line) from error
        except ValueError as error:
            # grpcio's way to say that the channel was closed by another thread.
            raise ConnectionFailedError("the client was closed") from error
        finally:
            with self._lock:
                line.running -= 1
            if line.idle:
                line.channel.close()
        return decode(call, reply)

    def _failure(self, error: grpc.RpcError, timeout: float, line: Line) -> RequestError:
        failed = failure(error, timeout, self.url)
        if isinstance(failed, DeadlineExceededError):
            with self._lock:
                if line is self._line and not self._closed:
                    self._line = Line(open_channel(self.url, grpc))
                    line.given_up = True
        return failed

    def close(self) -> None:
        """Close the channel; requests under way fail."""
        with self._lock:
            self._closed = True
        self._line.channel.close()

    def __del__(self) -> None:
        warn_unclosed(self, closed=self._closed)


def open_channel(url: str, library: Any) -> Any:
    """Return a channel of ``library``, which is ``grpc`` or ``grpc.aio``."""
    parts = urlsplit(url)
    if parts.scheme == "grpcs":
        return library.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), OPTIONS)
    return library.insecure_channel(parts.netloc, OPTIONS)
