"""Gateways on real sockets, before a real Triton."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from toolkit.deploy import embedded
from toolkit.deploy.state import Server
from toolkit.gateway import create_app
from toolkit.gateway.settings import Settings

MODELS = Path(__file__).parents[1] / "client/models"
Opened = Callable[..., AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a repository of small Python models."""
    repository = tmp_path_factory.mktemp("gateway") / "repository"
    for name in ("echo", "text", "people", "raises", "slow", "unbatched"):
        shutil.copytree(MODELS / name, repository / name)
    return repository


@pytest.fixture(scope="session")
def triton(serve: Callable[[Path], Server], models_folder: Path) -> Server:
    """Serve them."""
    server = serve(models_folder)
    with embedded.client(server) as control:
        for entry in sorted(models_folder.iterdir()):
            control.load(entry.name)
    return server


def _run(server: uvicorn.Server) -> None:
    with suppress(SystemExit):  # what uvicorn ends with when the application does not start
        server.run()


@contextmanager
def running(app: Any) -> Iterator[httpx.Client]:
    """Serve an application on a free port; give a client of it."""
    config = uvicorn.Config(
        app, port=0, loop="uvloop", http="httptools", log_level="warning", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_run, args=(server,))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        assert server.started, "the gateway did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def opened(triton: Server, models_folder: Path) -> Opened:
    """Open a gateway with settings of its own before the Triton."""

    def open_(**settings: Any) -> AbstractContextManager[httpx.Client]:
        given = {"model_repository": models_folder, "_env_file": None, **settings}
        return running(create_app(Settings(**given)))

    return open_


@pytest.fixture(scope="session")
def gateway(opened: Opened) -> Iterator[httpx.Client]:
    """Give a client of a gateway with the settings that it has by itself."""
    with opened() as client:
        yield client
