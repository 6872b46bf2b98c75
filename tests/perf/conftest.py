"""A real server with a few small models to measure, one of them with rows of its own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.perf.proof_rows import write_proof
from toolkit.deploy import embedded
from toolkit.deploy.state import Server

_SERVED = ("text", "unbatched", "slow", "raises")


@pytest.fixture(scope="session")
def measured(serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the repository of a running server that serves the models in it."""
    repository = tmp_path_factory.mktemp("perf") / "repository"
    here = Path(__file__).parent
    for name in _SERVED:
        shutil.copytree(here.parent / "client/models" / name, repository / name)
    shutil.copytree(here / "models/keeper", repository / "keeper")
    write_proof(repository / "keeper/1")
    with embedded.client(serve(repository)) as control:
        for name in (*_SERVED, "keeper"):
            control.load(name)
    return repository
