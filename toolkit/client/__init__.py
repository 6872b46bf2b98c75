"""Ask a running Triton, over HTTP or gRPC, with the rows one has at hand."""

from toolkit.client.async_client import AsyncClient
from toolkit.client.client import Client
from toolkit.client.options import ClientOptions
from toolkit.client.prediction import Prediction
from toolkit.client.records import Hook, RequestRecord
from toolkit.client.transport import (
    TOKEN_HEADER,
    IndexedModel,
    ModelMetadata,
    ServerMetadata,
    TensorMetadata,
)

__all__ = [
    "TOKEN_HEADER",
    "AsyncClient",
    "Client",
    "ClientOptions",
    "Hook",
    "IndexedModel",
    "ModelMetadata",
    "Prediction",
    "RequestRecord",
    "ServerMetadata",
    "TensorMetadata",
]
