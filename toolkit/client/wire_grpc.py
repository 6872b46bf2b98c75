"""gRPC for threads, with tritonclient's stubs."""

from collections.abc import Callable, Mapping
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
from toolkit.errors import ConnectionFailedError


class GrpcTransport:
    """One Triton over gRPC: one connection, which all threads share."""

    _closed = True

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._metadata = token_metadata(token)
        self._channel = open_channel(url, grpc)
        self._methods = methods(self._channel)
        self._closed = False

    def send(
        self, call: Call[Answer], timeout: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """Return the answer to ``call`` within ``timeout`` seconds."""
        method, message = encode(call, timeout)
        travelling = metadata(self._metadata, headers)
        if self._closed:
            raise ConnectionFailedError("the client was closed")
        try:
            reply = self._methods[method](message, timeout=timeout, metadata=travelling)
        except grpc.RpcError as error:
            raise failure(error, timeout, self.url) from error
        except ValueError as error:
            # grpcio's way to say that the channel was closed by another thread.
            raise ConnectionFailedError("the client was closed") from error
        return decode(call, reply)

    def close(self) -> None:
        """Close the channel; requests under way fail."""
        self._closed = True
        self._channel.close()

    def __del__(self) -> None:
        warn_unclosed(self, closed=self._closed)


def open_channel(url: str, library: Any) -> Any:
    """Return a channel of ``library``, which is ``grpc`` or ``grpc.aio``."""
    parts = urlsplit(url)
    if parts.scheme == "grpcs":
        return library.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), OPTIONS)
    return library.insecure_channel(parts.netloc, OPTIONS)


def methods(channel: Any) -> Mapping[str, Callable[..., Any]]:
    """Return what can be called at ``channel``, by name; ``ModelInfer`` takes and gives bytes."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return {**vars(stub), "ModelInfer": channel.unary_unary(INFER)}
