"""Which Triton the gateway stands before: one with a URL, or the embedded one of a repository."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from toolkit import repository as repositories
from toolkit.client import AsyncClient, Client, ClientOptions
from toolkit.deploy import embedded, ports
from toolkit.deploy.state import Server
from toolkit.errors import ConfigError, ToolkitError
from toolkit.gateway.settings import Settings

_log = logging.getLogger(__name__)

# A request that Triton cannot take now is the caller's to repeat: it is told so at once.
_OPTIONS = ClientOptions(
    retries=1, backoff=0.02, breaker_threshold=20, breaker_reset=0.25, connections=512
)
_LOOK_SECONDS = 1.0


class Upstream:
    """The Triton behind the gateway, and the clients that ask it.

    ``repository`` is None where only a URL is known; then models cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        self._given = settings.triton_url
        self._token = settings.triton_token
        self._grpc_url = settings.triton_grpc_url
        self.repository: Path | None = None if self._given else settings.model_repository
        self._server: Server | None = None
        self._own = False
        self._watching: asyncio.Task[None] | None = None
        self.client: AsyncClient

    @property
    def http_url(self) -> str:
        """Where Triton answers HTTP."""
        if self._server is not None:
            return self._server.http_url
        assert self._given is not None
        return self._given

    @property
    def grpc_url(self) -> str | None:
        """Where Triton answers gRPC, as far as that is known."""
        return self._server.grpc_url if self._server is not None else self._grpc_url

    async def open(self) -> None:
        """Find the server, or start the embedded one with every entry of the repository."""
        if self.repository is not None:
            await asyncio.to_thread(self._start, self.repository)
            if self._own:
                self._watching = asyncio.create_task(self._watch())
        elif self._given and not self._given.startswith(("http://", "https://")):
            raise ConfigError(
                f"TRITON_URL is the address of Triton's HTTP port, got {self._given!r}",
                hint="http://localhost:8000; the gRPC port goes to TRITON_GRPC_URL",
            )
        self.client = AsyncClient(self.http_url, options=_OPTIONS)

    async def close(self) -> None:
        """Close the connections; stop the server if it was started here."""
        if self._watching is not None:
            self._watching.cancel()
        await self.client.close()
        if self._own and self.repository is not None:
            await asyncio.to_thread(embedded.stop, self.repository)

    def token(self) -> str | None:
        """Return the token of the server's controls, as it is now."""
        if self.repository is not None:
            self._server = embedded.running(self.repository) or self._server
        if self._server is not None:
            return self._server.token
        return self._token.get_secret_value() if self._token else None

    @asynccontextmanager
    async def control(self, *, timeout: float = 30.0) -> AsyncIterator[AsyncClient]:
        """Give a client that may load and unload models; ``timeout`` in seconds a call."""
        client = AsyncClient(self.http_url, token=self.token(), timeout=timeout)
        try:
            yield client
        finally:
            await client.close()

    @contextmanager
    def blocking_control(self, *, timeout: float = 30.0) -> Iterator[Client]:
        """Give the same for a thread."""
        at_once = ClientOptions(retries=0, breaker=False)
        with Client(self.http_url, token=self.token(), timeout=timeout, options=at_once) as client:
            yield client

    def _start(self, repository: Path) -> None:
        self._server = embedded.running(repository)
        if self._server is not None:
            return
        repository.mkdir(parents=True, exist_ok=True)
        # Nobody but the gateway needs to find it, and 8000 may be the gateway's own port.
        http, grpc, metrics = ports.unused("127.0.0.1")
        options = embedded.ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)
        self._serve(repository, options)
        self._own = True

    def _serve(self, repository: Path, options: embedded.ServerOptions) -> None:
        entries = repositories.entries(repository)
        self._server, results = embedded.deploy(repository, entries, options)
        for result in results:
            if result.error is not None:
                _log.error("%s is not served: %s", result.name, result.error.message)

    async def _watch(self) -> None:
        """Start the server again, on its ports, when it has ended by itself."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            server, repository = self._server, self.repository
            if server is None or repository is None or server.process() is not None:
                continue
            _log.error("Triton has ended by itself; it is started again")
            options = embedded.ServerOptions(
                http_port=server.http_port,
                grpc_port=server.grpc_port,
                metrics_port=server.metrics_port,
            )
            try:
                await asyncio.to_thread(self._serve, repository, options)
            except ToolkitError as error:
                _log.error("Triton does not start: %s", error.message)
