"""A repository with one model, and free ports to serve it on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.doubling import Ports, add_model
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "repo"
    add_model(path, "double")
    yield path
    embedded.stop(path)


@pytest.fixture
def options(free_ports: Ports) -> ServerOptions:
    http, grpc, metrics = free_ports()
    return ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)
