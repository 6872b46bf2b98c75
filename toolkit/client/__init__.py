"""Ask a running Triton, over HTTP or gRPC, with the rows one has at hand."""

from toolkit.client.client import Client, Prediction
from toolkit.client.transport import (
    TOKEN_HEADER,
    IndexedModel,
    ModelMetadata,
    ServerMetadata,
    TensorMetadata,
)

__all__ = [
    "TOKEN_HEADER",
    "Client",
    "IndexedModel",
    "ModelMetadata",
    "Prediction",
    "ServerMetadata",
    "TensorMetadata",
]
