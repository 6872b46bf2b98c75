"""One real server for all tests of the backends, and a plain way to talk to it."""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import urllib3
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from toolkit.client import TOKEN_HEADER
from toolkit.deploy import state
from toolkit.deploy.state import Server

ONE_INSTANCE = "instance_group [ { count: 1 kind: KIND_CPU } ] "
_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}


@dataclass(frozen=True)
class Triton:
    """A running server and its repository; answers are those of the V2 protocol."""

    server: Server
    repository: Path
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(maxsize=64, retries=False)
    )

    def add(self, name: str, file: str, model: bytes | None, config: str | None) -> None:
        """Write a model into the repository."""
        folder = self.repository / name / "1"
        folder.mkdir(parents=True)
        if model is not None:
            (folder / file).write_bytes(model)
        if config is not None:
            (folder.parent / "config.pbtxt").write_text(config)

    def load(self, name: str) -> str:
        """Load a model; return why it was refused, or nothing."""
        path = f"/v2/repository/models/{name}/load"
        reply = self.http.request(
            "POST", self.server.http_url + path, headers={TOKEN_HEADER: self.server.token}
        )
        return "" if reply.status == 200 else str(reply.json()["error"])

    def unload(self, name: str) -> None:
        path = f"/v2/repository/models/{name}/unload"
        self.http.request(
            "POST", self.server.http_url + path, headers={TOKEN_HEADER: self.server.token}
        )

    def load_all(self, names: Sequence[str]) -> dict[str, str]:
        """Load models side by side; return the refusals by name."""
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(names, pool.map(self.load, names), strict=True))

    def config(self, name: str) -> dict[str, Any]:
        """Return the config a model is served with."""
        url = f"{self.server.http_url}/v2/models/{name}/config"
        found: dict[str, Any] = self.http.request("GET", url).json()
        return found

    def ask(self, name: str, inputs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Send one request as it stands; return the answer as it came."""
        url = f"{self.server.http_url}/v2/models/{name}/infer"
        body = json.dumps({"inputs": inputs, **more})
        answer: dict[str, Any] = self.http.request("POST", url, body=body).json()
        return answer

    def infer(self, name: str, feed: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Ask with arrays; return arrays, or raise ``RuntimeError`` with the server's words."""
        inputs = [
            {
                "name": tensor,
                "shape": list(array.shape),
                "datatype": _DATATYPES[str(array.dtype)],
                "data": array.ravel().tolist(),
            }
            for tensor, array in feed.items()
        ]
        answer = self.ask(name, inputs, **more)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        types = {datatype: numpy for numpy, datatype in _DATATYPES.items()}
        return {
            output["name"]: np.array(output["data"], types[output["datatype"]]).reshape(
                output["shape"]
            )
            for output in answer["outputs"]
        }

    def executions(self, name: str, rows: int) -> int:
        """Return in how many executions the model answered ``rows`` rows since it was loaded.

        Triton counts after it has answered, so this waits until all rows are counted.
        """
        url = f"{self.server.http_url}/v2/models/{name}/stats"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            (stats,) = self.http.request("GET", url).json()["model_stats"]
            if stats["inference_count"] == rows:
                return int(stats["execution_count"])
        raise AssertionError(f"{name} counts {stats['inference_count']} rows, not {rows}")

    def log(self) -> str:
        """Return what the server has written so far."""
        return state.log_file(self.repository).read_text(errors="replace")


@pytest.fixture(scope="session")
def triton(
    serve: Callable[[Path], Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Triton]:
    """Return the server; its repository is empty at first."""
    repository = tmp_path_factory.mktemp("backends")
    server = serve(repository)
    triton = Triton(server, repository)
    yield triton
    triton.http.clear()  # Triton 2.51 waits out its exit time-out for connections kept alive


def rules(backend: str) -> ModuleType:
    """Import the rules of a backend, which Triton imports from the backend's folder."""
    name = f"{backend}_rules"
    if name not in sys.modules:
        folder = Path(str(resources.files("python_backend"))) / "backends" / backend
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def parsed(config: str) -> dict[str, Any]:
    """Read a config.pbtxt into the form in which Triton hands it to a backend."""
    message = text_format.Parse(f'name: "m" {config}', model_config_pb2.ModelConfig())
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    for kind in ("input", "output"):
        for entry in found.setdefault(kind, []):
            entry["dims"] = [int(dim) for dim in entry["dims"]]
            if "reshape" in entry:
                entry["reshape"] = {
                    "shape": [int(dim) for dim in entry["reshape"].get("shape", [])]
                }
    found.setdefault("max_batch_size", 0)
    return found


def floats(values: Any) -> Any:
    """Make a float32 array."""
    return np.array(values, np.float32)


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same time; return results and raised errors in order."""

    def outcome(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RuntimeError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))
