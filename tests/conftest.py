"""What every stage shares: a private home for state, and real servers."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from toolkit import runtime
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server

Serve = Callable[[Path], Server]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session", autouse=True)
def _private_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def free_ports() -> Callable[[], tuple[int, int, int]]:
    """Give three ports that nothing listens on."""

    def three() -> tuple[int, int, int]:
        probes = [socket.socket() for _ in range(3)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in probes]
        for probe in probes:
            probe.close()
        return ports[0], ports[1], ports[2]

    return three


@pytest.fixture(scope="session")
def serve(free_ports: Callable[[], tuple[int, int, int]]) -> Iterator[Serve]:
    """Start an embedded server for a repository; all are stopped at the end."""
    runtime.install()
    repositories: list[Path] = []

    def start(repository: Path) -> Server:
        http, grpc, metrics = free_ports()
        options = ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)
        repositories.append(repository)
        return embedded.start(repository, options)

    yield start
    for repository in repositories:
        embedded.stop(repository)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, of the system or as ``playwright install chromium`` puts it.

    For one module at a time: no other of asyncio's loops can run in this thread beside it.
    """
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.fail(
                f"no browser: {error.message.splitlines()[0]}\n"
                "  try: apt-get install chromium, or playwright install chromium"
            )
        yield running
        running.close()
