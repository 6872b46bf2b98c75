"""The embedded server's life: start in the background, find again, stop without a trace."""

import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import psutil

from toolkit.client import Client, ClientOptions
from toolkit.client.transport import TOKEN_HEADER
from toolkit.deploy import models, state
from toolkit.deploy.models import Deployed
from toolkit.deploy.ports import require_free
from toolkit.deploy.state import Server
from toolkit.errors import (
    ConnectionFailedError,
    DeployError,
    RequestError,
    RuntimeNotReadyError,
    ServerDiedError,
    ServerNotRunningError,
)
from toolkit.runtime import Runtime, check_machine, check_runtime, require
from toolkit.runtime.machine import SHARED_MEMORY, environment
from toolkit.runtime.numpy2 import stub_for_numpy
from toolkit.runtime.wheels import TRITON_VERSION
from toolkit.spec import RepositoryEntry

_RESTRICTED = "model-repository,shared-memory"
_EXIT_SECONDS = 3.0  # for a server without models, which has nothing left to do

# A started server outlives the command that started it; holding its handle keeps Python
# from warning that a child was forgotten.
_CHILDREN: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the embedded server is started; times in seconds, sizes in bytes."""

    address: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    response_cache_bytes: int = 64 * 2**20
    log_verbose: int = 0
    start_timeout: float = 60.0
    exit_timeout: int = 30


def running(repository: Path) -> Server | None:
    """Return the server of ``repository``, or None.

    A record whose process has ended is cleared away, and so is what the process left
    behind: stubs and shared memory.
    """
    server = state.read(repository)
    if server is None:
        return None
    if server.process() is None:
        _clear(repository)
        return None
    return server


def require_running(repository: Path) -> Server:
    """Return the server of ``repository`` or raise ``ServerNotRunningError``."""
    server = running(repository)
    if server is None:
        raise ServerNotRunningError(
            f"no embedded server is running for {repository}", hint="toolkit deploy"
        )
    return server


def require_same(repository: Path, options: Mapping[str, object]) -> None:
    """Raise ``DeployError`` when a server runs and ``options`` ask for another one."""
    server = running(repository)
    for name, value in options.items():
        if server is not None and getattr(server, name, value) != value:
            raise DeployError(
                f"the server of {repository} runs already, at {server.http_url}, with another"
                f" {name.replace('_', ' ')}",
                hint="toolkit stop, then deploy again; or deploy without saying where",
            )


def client(server: Server, *, timeout: float = 30.0) -> Client:
    """Return a client that may control ``server``; ``timeout`` in seconds a call."""
    at_once = ClientOptions(retries=0, breaker=False)
    return Client(server.http_url, token=server.token, timeout=timeout, options=at_once)


def deploy(
    repository: Path,
    chosen: Sequence[RepositoryEntry],
    options: ServerOptions,
) -> tuple[Server, tuple[Deployed, ...]]:
    """Start the server if none runs, load ``chosen``, return what became of each.

    Raises what ``start`` raises, and ``ServerDiedError`` when the server ends while it
    loads.
    """
    ran_before = running(repository) is not None
    server = start(repository, options)
    try:
        with _stubs_end_with(server, repository), client(server) as control:
            results = models.load(control, chosen)
    except BaseException:
        if not ran_before:
            stop(repository, timeout=0)
        raise
    if any(isinstance(result.error, ConnectionFailedError) for result in results):
        check_alive(repository, server)
    return server, results


def start(repository: Path, options: ServerOptions) -> Server:
    """Start a server for ``repository``, or return the one that runs.

    No model is loaded yet. Raises ``RuntimeNotReadyError``, ``PortInUseError`` (all
    ports at once), ``ServerDiedError``; on any failure, and on Ctrl-C, nothing is left.
    """
    with _state_folder(), state.locked(repository):
        server = running(repository)
        if server is not None:
            # One that was killed stays a process for a moment.
            with suppress(DeployError):
                _wait_until_live(repository, server, _EXIT_SECONDS)
        return running(repository) or _start(repository, options)


def _start(repository: Path, options: ServerOptions) -> Server:
    runtime = require()
    _check(runtime)
    require_free(options.address, (options.http_port, options.grpc_port, options.metrics_port))
    folder = state.folder(repository)
    _lay_out(folder, runtime)
    try:
        server = _launch(repository, folder, runtime, options)
        _wait_until_live(repository, server, options.start_timeout)
    except BaseException:
        _stop(repository, timeout=0)
        raise
    return server


@contextmanager
def _state_folder() -> Iterator[None]:
    """Say what to do where the state cannot be kept."""
    try:
        yield
    except OSError as error:
        raise DeployError(
            f"cannot keep the server's state in {error.filename}: {error.strerror}",
            hint="point XDG_STATE_HOME at a folder you can write to",
        ) from error


def stop(repository: Path, *, timeout: float = 60.0) -> bool:
    """Stop the server of ``repository``; return whether one ran.

    Requests in flight are finished first, for at most ``timeout`` seconds.
    """
    with _state_folder(), state.locked(repository):
        return _stop(repository, timeout)


def _stop(repository: Path, timeout: float) -> bool:
    server = state.read(repository)
    process = server.process() if server else None
    if server is not None and process is not None:
        if timeout:
            _drain(server, timeout)
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(_EXIT_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)
    _clear(repository)
    return process is not None


def _drain(server: Server, timeout: float) -> None:
    """Unload every model and wait until the last request is answered.

    Left to itself, the server would wait its whole exit time-out for an idle connection
    that some HTTP client keeps alive (seen in 2.51.0).
    """
    deadline = time.monotonic() + timeout
    with suppress(RequestError), client(server, timeout=5.0) as control:
        for model in control.repository_index():
            if model.state:
                control.unload(model.name)
        while time.monotonic() < deadline:
            states = {model.state for model in control.repository_index()}
            if not states & {"READY", "LOADING", "UNLOADING"}:
                return
            time.sleep(0.05)


def log_tail(repository: Path, lines: int) -> list[str]:
    """Return the last lines of the server's log."""
    try:
        text = state.log_file(repository).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]


def _check(runtime: Runtime) -> None:
    problems = (*check_machine(), *check_runtime(runtime))
    if problems:
        raise RuntimeNotReadyError(
            "; ".join(problem.what for problem in problems),
            hint="\n".join(problem.mend for problem in problems),
        )


def _lay_out(folder: Path, runtime: Runtime) -> None:
    """Build the backend folder: the Python backend and ours, as copies.

    A link out of the folder is refused by Triton ("escapes backend directory").
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    backends = folder / "backends"
    shutil.rmtree(backends, ignore_errors=True)
    shutil.copytree(runtime.python_backend, backends / "python")
    stub = backends / "python" / runtime.stub.name
    stub.write_bytes(stub_for_numpy(runtime.stub.read_bytes(), version("numpy")))
    stub.chmod(0o755)
    with resources.as_file(resources.files("python_backend") / "backends") as ours:
        _copy_backends(ours, backends)
    (folder / "empty").mkdir(exist_ok=True)
    log = folder / "server.log"
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def _copy_backends(ours: Path, backends: Path) -> None:
    """Copy our backends, each with the modules that all of them share."""
    shared = sorted(ours.glob("*.py"))
    for source in sorted(path.parent for path in ours.glob("*/model.py")):
        target = backends / source.name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for module in shared:
            shutil.copy2(module, target)


def _launch(repository: Path, folder: Path, runtime: Runtime, options: ServerOptions) -> Server:
    token = secrets.token_urlsafe(24)
    command = [str(runtime.server), *_arguments(repository, folder, runtime, options, token)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # The stub puts the working folder on its import path: keep it empty.
            cwd=folder / "empty",
            env=environment(runtime),
            start_new_session=True,
        )
    _CHILDREN.append(process)
    server = Server(
        pid=process.pid,
        created=psutil.Process(process.pid).create_time(),
        address=options.address,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        metrics_port=options.metrics_port,
        token=token,
        repository=str(repository.resolve()),
        triton_version=TRITON_VERSION,
    )
    state.write(repository, server)
    return server


def _arguments(
    repository: Path, folder: Path, runtime: Runtime, options: ServerOptions, token: str
) -> list[str]:
    prefix = _shm_prefix(repository)
    backends = sorted(path.name for path in (folder / "backends").iterdir())
    return [
        f"--model-repository={repository.resolve()}",
        "--model-control-mode=explicit",
        f"--backend-directory={folder / 'backends'}",
        *(f"--backend-config={name},shm-region-prefix-name={prefix}" for name in backends),
        f"--cache-directory={runtime.caches}",
        f"--cache-config=local,size={options.response_cache_bytes}",
        f"--http-address={options.address}",
        f"--http-port={options.http_port}",
        f"--grpc-address={options.address}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-address={options.address}",
        f"--metrics-port={options.metrics_port}",
        f"--http-restricted-api={_RESTRICTED}:{TOKEN_HEADER}={token}",
        f"--grpc-restricted-protocol={_RESTRICTED}:{TOKEN_HEADER}={token}",
        f"--exit-timeout-secs={options.exit_timeout}",
        f"--log-verbose={options.log_verbose}",
        # Or NVML and DCGM complain on a machine without a GPU.
        "--allow-gpu-metrics=false",
        "--exit-on-error=false",
        # One broken model must not make the whole server look unready.
        "--strict-readiness=false",
    ]


@contextmanager
def _stubs_end_with(server: Server, repository: Path) -> Iterator[None]:
    """End the stubs as soon as the server has ended.

    They inherit its connections, so while one of them lives a caller of a dead server
    hears nothing and waits for its whole time-out (seen in 2.51.0).
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            if server.process() is None:
                _end_stubs(repository)

    watcher = threading.Thread(target=watch, name="server-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _wait_until_live(repository: Path, server: Server, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    with client(server, timeout=1.0) as probe:
        while time.monotonic() < deadline:
            check_alive(repository, server)
            with suppress(RequestError):
                if probe.is_ready():
                    return
            time.sleep(0.05)
    raise DeployError(f"the server did not become ready within {timeout:g} s", hint="toolkit logs")


def check_alive(repository: Path, server: Server) -> None:
    """Raise ``ServerDiedError``, with the end of its log, when the server has ended."""
    if server.process() is None:
        last = [line for line in log_tail(repository, 40) if _is_telling(line)]
        reason = last[-1] if last else "its log says nothing"
        _clear(repository)
        raise ServerDiedError(f"the server ended by itself: {reason}", hint="toolkit logs")


def _is_telling(line: str) -> bool:
    return line.startswith(("E", "F")) or "rror" in line or "ignal" in line


def _shm_prefix(repository: Path) -> str:
    return f"tc_{state.folder(repository).name}"


def _clear(repository: Path) -> None:
    """End leftover stubs, remove leftover shared memory, forget the record."""
    _end_stubs(repository)
    for region in SHARED_MEMORY.glob(f"{_shm_prefix(repository)}*"):
        with suppress(OSError):
            region.unlink()
    state.forget(repository)
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]


def _end_stubs(repository: Path) -> None:
    for process in _stubs(repository):
        with suppress(psutil.Error):
            process.kill()
            process.wait(5)


def _stubs(repository: Path) -> Iterator[psutil.Process]:
    """Find processes started from the backend folder of this repository's server."""
    marker = str(state.folder(repository) / "backends") + os.sep
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(argument.startswith(marker) for argument in process.cmdline()[:1]):
                yield process
