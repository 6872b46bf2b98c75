from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.gateway.engine.asked import Home
from toolkit.deploy.state import Server


@pytest.fixture(scope="package")
def triton(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Server]:
    repository = tmp_path_factory.mktemp("served") / "model_repository"
    repository.mkdir()
    return repository, serve(repository)


@pytest.fixture
def home(triton: tuple[Path, Server], tmp_path: Path) -> Home:
    return Home(tmp_path, *triton)
