"""An embedded Triton of a benchmark's own: free ports, its own state, stopped at the end."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toolkit import repository, runtime
from toolkit.deploy import embedded
from toolkit.deploy.models import Deployed
from toolkit.deploy.state import Server
from toolkit.spec import RepositoryEntry

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deployed(
    home: Path, entries: Sequence[RepositoryEntry]
) -> Iterator[tuple[Server, tuple[Deployed, ...]]]:
    """Serve ``entries`` of the repository ``home``; say what became of each."""
    runtime.install()
    os.environ["XDG_STATE_HOME"] = str(home.parent / "state")
    http, grpc, metrics = free_ports(3)
    ports = embedded.ServerOptions(http_port=http, grpc_port=grpc, metrics_port=metrics)
    try:
        yield embedded.deploy(home, entries, ports)
    finally:
        undisturbed(lambda: embedded.stop(home, timeout=0))


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Serve all of the repository ``home``. Raises ``ToolkitError`` if an entry fails."""
    with deployed(home, repository.entries(home)) as (server, results):
        for result in results:
            if result.error:
                raise result.error
        yield server


def free_ports(count: int) -> list[int]:
    """Return numbers of ports that nobody listens on just now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def undisturbed(action: Callable[[], object]) -> None:
    """Run ``action`` to its end, whatever keys are pressed meanwhile."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTIONS}
    try:
        action()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
