"""What is known about an embedded server between two commands.

One folder a repository, below ``XDG_STATE_HOME``: ``state.json`` while a server runs,
its log, and the backends it was started with.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import platformdirs
import psutil

from toolkit import locking
from toolkit.runtime.wheels import TRITON_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running embedded server: its process, addresses and the token of its controls.

    ``created`` is the start time of the process in seconds since the epoch; with
    ``pid`` it names the process even after the number was used again.
    """

    pid: int
    created: float
    address: str
    http_port: int
    grpc_port: int
    metrics_port: int
    token: str
    repository: str
    triton_version: str

    @property
    def http_url(self) -> str:
        """Where it answers HTTP."""
        return f"http://{self.address}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """Where it answers gRPC."""
        return f"grpc://{self.address}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads its metrics."""
        return f"http://{self.address}:{self.metrics_port}/metrics"

    def process(self) -> psutil.Process | None:
        """Return the process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            ended = process.create_time() != self.created
            if ended or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process


def folder(repository: Path) -> Path:
    """Return the folder that belongs to the server of ``repository``."""
    key = sha256(str(repository.resolve()).encode()).hexdigest()[:12]
    return platformdirs.user_state_path("triton-companion") / "servers" / key


def log_file(repository: Path) -> Path:
    """Return the log of the running server, or of the last one."""
    return folder(repository) / "server.log"


def write(repository: Path, server: Server) -> None:
    """Record ``server``; only its owner may read the token in it."""
    path = folder(repository) / "state.json"
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    write_private(temporary, json.dumps(asdict(server), indent=1))
    temporary.replace(path)


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner may read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def read(repository: Path) -> Server | None:
    """Return what was recorded last, whether or not that server still runs.

    Where the record is lost, a server that runs is found by its command line, which
    holds all of it.
    """
    try:
        text = (folder(repository) / "state.json").read_text(encoding="utf-8")
        server = Server(**json.loads(text))
    except (OSError, ValueError, TypeError):
        # A missing, cut or older file says as much as no file.
        return _find(repository)
    whole = all(type(getattr(server, name)) is kind for name, kind in _KINDS.items())
    return server if whole else _find(repository)


_KINDS = {"pid": int, "created": float, "http_port": int, "address": str, "token": str}


def _find(repository: Path) -> Server | None:
    wanted = f"--backend-directory={folder(repository) / 'backends'}"
    for process in psutil.process_iter():
        with suppress(psutil.Error, KeyError, ValueError):
            arguments = process.cmdline()
            if wanted not in arguments:
                continue
            said = dict(word.lstrip("-").split("=", 1) for word in arguments if "=" in word)
            return Server(
                pid=process.pid,
                created=process.create_time(),
                address=said["http-address"],
                http_port=int(said["http-port"]),
                grpc_port=int(said["grpc-port"]),
                metrics_port=int(said["metrics-port"]),
                token=said["http-restricted-api"].rpartition("=")[2],
                repository=said["model-repository"],
                triton_version=TRITON_VERSION,
            )
    return None


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Let one command at a time start or stop the server of ``repository``."""
    home = folder(repository)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locking.locked(home):
        yield


def forget(repository: Path) -> None:
    """Remove the record; the log stays."""
    (folder(repository) / "state.json").unlink(missing_ok=True)
