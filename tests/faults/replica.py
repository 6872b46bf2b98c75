"""A server that a test may kill, freeze and start again."""

import random
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.deploy.doubling import wait_for
from toolkit import pbtxt
from toolkit.client import Client
from toolkit.deploy import embedded
from toolkit.deploy.embedded import ServerOptions
from toolkit.deploy.state import Server
from toolkit.spec import DType, ModelSpec, ServingConfig, TensorSpec

MODEL = "double"
_MODELS = Path(__file__).parent / "models"
_ROW = TensorSpec("x", DType.FP32, (2,))
_CONVERTED = ModelSpec(MODEL, "onnxruntime", (_ROW,), (_ROW,))

_HEEDS_CALLERS = ServingConfig(
    allow_timeout_override=True, default_timeout_microseconds=1_800_000_000
)


@dataclass
class Replica:
    """One of several equal servers; each of its answers says its ``number``."""

    number: int
    repository: Path
    options: ServerOptions
    server: Server | None = None

    def lay_out(self) -> None:
        """Write the repository: with our number, and batched as ``toolkit convert`` has it.

        Its queue heeds the callers' time, which is asked for with two flags.
        """
        shutil.copytree(_MODELS, self.repository)
        config = self.repository / MODEL / "config.pbtxt"
        message = pbtxt.parse_message(config.read_text())
        message.parameters["replica"].string_value = str(self.number)
        message.dynamic_batching.CopyFrom(
            pbtxt.to_message(_CONVERTED, _HEEDS_CALLERS, {}).dynamic_batching
        )
        config.write_text(str(message))

    def url(self, scheme: str) -> str:
        port = self.options.http_port if scheme == "http" else self.options.grpc_port
        return f"{scheme}://{self.options.address}:{port}"

    def start(self) -> None:
        """Start the server; its ports open once the model is loaded."""
        self.server = embedded.start(self.repository, self.options)

    def kill(self) -> None:
        """End the server and all its children at once, as when its machine loses power."""
        _kill(self._processes())
        self.server = None

    def freeze(self) -> None:
        """Stop the server in its tracks: connections are taken, nothing is answered."""
        self._processes()[0].suspend()

    def thaw(self) -> None:
        self._processes()[0].resume()

    def kill_model(self) -> None:
        """End the process that runs the model; the server itself lives on."""
        _kill(self._processes()[1:])

    def load_model(self) -> None:
        """Load the model anew, as who deploys a mended one does."""
        assert self.server is not None
        # Triton 2.51 takes a load of what has not changed for done.
        (self.repository / MODEL / "1" / "model.py").touch()
        with Client(self.server.http_url, token=self.server.token) as control:
            control.load(MODEL)

    def executed(self) -> int:
        """Return how many rows the model has answered."""
        with Client(self.url("http")) as client:
            return int(client.statistics(MODEL)[0]["inference_count"])

    def mend(self) -> None:
        """Make it whole again, whatever a test did to it."""
        if self.server is None or self.server.process() is None:
            self.start()
        self.thaw()
        if len(self._processes()) == 1:
            self.load_model()

    def end(self) -> None:
        self.kill()
        embedded.stop(self.repository, timeout=0)

    def _processes(self) -> list[psutil.Process]:
        process = self.server.process() if self.server else None
        if process is None:
            return []
        children = [p for p in process.children(recursive=True) if _is_running(p)]
        return [process, *children]


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for(lambda: not any(map(_is_running, processes)))


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def ports(addresses: list[str]) -> tuple[int, int, int]:
    """Find three ports that are free on all addresses.

    They lie below those the system gives to outgoing connections: a client that tries to
    reach a killed server again and again could otherwise be given the server's own port.
    """
    found: list[int] = []
    while len(found) < 3:
        port = random.randrange(12000, 32000)
        if port not in found and all(_is_free(address, port) for address in addresses):
            found.append(port)
    return found[0], found[1], found[2]


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
