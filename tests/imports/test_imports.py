"""What importing costs: the packages themselves load no framework and no server library."""

import subprocess
import sys

import pytest

HEAVY = {
    "fastapi", "grpc", "lightgbm", "onnx", "onnxruntime", "pandas", "skl2onnx", "sklearn",
    "torch", "tritonclient", "xgboost",
}  # fmt: skip
PACKAGES = [
    "toolkit", "toolkit.cli", "toolkit.client", "toolkit.deploy.embedded", "toolkit.pbtxt",
    "toolkit.repository", "toolkit.runtime", "toolkit.samples", "toolkit.verify", "converters",
    "converters.table", "perf", "perf.loadtest", "perf.loadtest.plan", "perf.space",
    "perf.throughput",
]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    script = f"import sys, {package}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert HEAVY & set(ended.stdout.split()) == set()


def test_the_commands_start_without_numpy() -> None:
    script = "import sys, toolkit.cli; print('numpy' in sys.modules, 'rich' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "False"]
