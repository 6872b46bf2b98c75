"""Where a model runs that is to be measured: a server, and its entry if it is here."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from perf.measurement import Protocol
from toolkit import repository as repositories
from toolkit.client import Client, ClientOptions
from toolkit.errors import ConfigError, RepositoryError
from toolkit.spec import RepositoryEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running Triton, and the entry of the model in a repository here, if there is one.

    URLs have a scheme: ``http://127.0.0.1:8000``, ``grpc://127.0.0.1:8001``; at least one of
    the two is there. ``token`` opens the control of models, ``process`` is the number of the
    server's process where it is one of this machine.
    """

    http_url: str | None = None
    grpc_url: str | None = None
    token: str | None = None
    entry: RepositoryEntry | None = None
    process: int | None = None

    def __post_init__(self) -> None:
        if self.http_url is None and self.grpc_url is None:
            raise ConfigError("a server has an HTTP or a gRPC address")

    def client(self, *, timeout: float = 30.0) -> Client:
        """Return a client that may control the server; ``timeout`` in seconds a call.

        It asks once: a measurement wants to know of a failure.
        """
        at_once = ClientOptions(retries=0, breaker=False)
        url = self.http_url or self.grpc_url
        assert url is not None
        return Client(url, token=self.token, timeout=timeout, options=at_once)

    def address(self, protocol: Protocol) -> str:
        """Return ``host:port`` for ``protocol``; ``ConfigError`` where it is not known."""
        url = self.grpc_url if protocol is Protocol.GRPC else self.http_url
        if url is None:
            other = self.http_url or self.grpc_url
            raise ConfigError(
                f"the load goes over {protocol}, and only {other} is known",
                hint=f"--url {protocol}://HOST:PORT beside it, or --protocol with the other one",
            )
        return urlsplit(url).netloc


def of_repository(repository: Path, model: str) -> Target:
    """Return the embedded server of ``repository``.

    Raises ``ServerNotRunningError`` when none runs, ``RepositoryError`` for a model that the
    repository does not hold.
    """
    from toolkit.deploy import embedded

    entry = repositories.find(repository, model)
    server = embedded.require_running(repository)
    return Target(
        http_url=server.http_url,
        grpc_url=server.grpc_url,
        token=server.token,
        entry=entry,
        process=server.pid,
    )


def of_urls(
    urls: Sequence[str], model: str, *, repository: Path | None = None, token: str | None = None
) -> Target:
    """Return the server at ``urls``: one for HTTP, one for gRPC, or one of the two.

    The model's entry is looked for in ``repository``; it need not be there.
    """
    given: dict[str, str] = {}
    for url in urls:
        scheme, found, _ = url.partition("://")
        wire = "grpc" if found and "grpc" in scheme else "http"
        if wire in given:
            raise ConfigError(
                f"{given[wire]} and {url} are both {wire.upper()}",
                hint="a measurement is of one server: give one URL for each protocol",
            )
        given[wire] = url if found else f"{wire}://{url}"
    entry = None
    with suppress(RepositoryError, ConfigError):
        entry = repositories.find(repository, model) if repository else None
    return Target(http_url=given.get("http"), grpc_url=given.get("grpc"), token=token, entry=entry)
