"""A model that doubles its input, and what deploying it leaves behind."""

import time
from collections.abc import Callable
from pathlib import Path

from toolkit.deploy import embedded

Ports = Callable[[], tuple[int, int, int]]
SHM = Path("/dev/shm")  # noqa: S108 - where Triton's stubs keep their memory

DOUBLE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)]) for x in inputs]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
"""


def add_model(repo: Path, name: str, code: str = DOUBLE) -> None:
    version = repo / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version / "model.py").write_text(code)
    (repo / name / "config.pbtxt").write_text(CONFIG)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def left_behind(repo: Path) -> list[object]:
    regions = list(SHM.glob(f"{embedded._shm_prefix(repo)}*"))
    return [*regions, *embedded._stubs(repo)]
