"""Three real servers, a proxy that breaks things, a name service, and callers of each style."""

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.load import Caller, OnLoop, as_url
from tests.faults.proxy import Proxy
from tests.faults.replica import MODEL, Replica, ports
from toolkit import runtime
from toolkit.client import Client
from toolkit.client.options import ClientOptions
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions

ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

Connect = Callable[..., Caller]

crosswise = pytest.mark.parametrize(
    ("scheme", "style"), [("http", "threads"), ("grpc", "asyncio")], indirect=True
)
"""Each wire and each style once: for what the policy does above them."""


@pytest.fixture(scope="session")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Start three servers at once, on the same ports of different addresses."""
    runtime.install()
    http, grpc, metrics = ports(ADDRESSES)
    home = tmp_path_factory.mktemp("faults")
    plain = embedded._arguments

    def with_model(repository: Path, *rest: Any) -> list[str]:
        # As servers are started by others: the ports open once the model is there.
        more = [f"--load-model={MODEL}"] if home in repository.parents else []
        return [*plain(repository, *rest), *more]

    three = [
        Replica(
            number,
            home / f"replica-{number}",
            ServerOptions(address=address, http_port=http, grpc_port=grpc, metrics_port=metrics),
        )
        for number, address in enumerate(ADDRESSES, start=1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "_arguments", with_model)
        try:
            with ThreadPoolExecutor(3) as pool:
                for replica in three:
                    replica.lay_out()
                list(pool.map(Replica.start, three))
            yield three
        finally:
            for replica in three:
                replica.end()
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def replicas(_three: list[Replica]) -> Iterator[list[Replica]]:
    """Give the three, each made whole again after the test."""
    yield _three
    for replica in _three:
        replica.mend()


@pytest.fixture
def replica(replicas: list[Replica]) -> Replica:
    return replicas[0]


@pytest.fixture(params=["http", "grpc"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["threads", "asyncio"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(style: str) -> Iterator[Connect]:
    """Make callers of the style under test: ``connect(*urls, retries=…)``."""
    callers: list[Caller] = []

    def make(*urls: str, **options: Any) -> Caller:
        callers.append(caller_of(style, urls, **options))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()


def caller_of(style: str, urls: Sequence[str], **options: Any) -> Caller:
    more: dict[str, Any] = {"options": ClientOptions(**options)} if options else {}
    if style == "threads":
        client: Caller = Client(as_url(urls), **more)
        return client
    from toolkit.client import AsyncClient

    return OnLoop(partial(AsyncClient, as_url(urls), **more))


@pytest.fixture
def before() -> Iterator[Callable[[str], Proxy]]:
    """Put a proxy before a URL."""
    proxies: list[Proxy] = []

    def stand(url: str) -> Proxy:
        proxies.append(Proxy(url))
        return proxies[-1]

    yield stand
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def proxy(before: Callable[[str], Proxy], replica: Replica, scheme: str) -> Proxy:
    return before(replica.url(scheme))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Give a table of names and their addresses, which this process asks from now on."""
    table: dict[str, list[str]] = {}
    plain = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        known = table.get(host.decode() if isinstance(host, bytes) else host)
        if known is None:
            return plain(host, port, *rest, **more)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in known for found in plain(address, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table
