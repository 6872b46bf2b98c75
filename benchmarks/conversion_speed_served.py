"""How long a request of a few rows takes through Triton: the stock converter's ONNX and ours.

Both are entries of one embedded server, with the configuration that ``toolkit convert``
writes; requests go over gRPC, in turns, from one caller. The figures are wall time, medians.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import tritonclient.grpc

from benchmarks import conversion_speed
from benchmarks.models.case import Array
from benchmarks.server import deployed
from converters import ConversionOptions, convert
from toolkit import options, repository
from toolkit.runtime import install
from toolkit.spec import RepositoryEntry, TensorSpec

_BATCHES = (1, 64)
_REQUESTS = 1500
Made = tuple[RepositoryEntry, TensorSpec]


def main(only: Sequence[str] | None) -> None:
    """Print the table: microseconds a request, and how many times as fast ours is."""
    install()
    print(f"microseconds a request over gRPC, one caller, medians of {_REQUESTS}")
    print("| model | batch | stock ONNX | ours | ours to stock |")
    print("|---|---|---|---|---|")
    for name, model, x in conversion_speed.fitted(only):
        with tempfile.TemporaryDirectory(prefix="speed-") as folder:
            made = _written(model, x, Path(folder))
            entries = [entry for entry, _ in made]
            with deployed(Path(folder) / "repository", entries) as (server, _):
                url = server.grpc_url.removeprefix("grpc://")
                client = tritonclient.grpc.InferenceServerClient(url)
                for batch in _BATCHES:
                    asked = [_asking(client, each, x[:batch]) for each in made]
                    stock, ours = _medians(asked)
                    cells = f"{stock:.0f} | {ours:.0f} | {stock / ours:.2f}x"
                    print(f"| {name} | {batch} | {cells} |", flush=True)


def _written(model: Any, x: Array, folder: Path) -> list[Made]:
    """Convert and write both; a stock model goes the way of any finished ONNX file."""
    import joblib

    files = {"stock": folder / "stock.onnx", "ours": folder / "model.joblib"}
    files["stock"].write_bytes(conversion_speed.stock(model, x).SerializeToString())
    joblib.dump(model, files["ours"])
    made = []
    for name, path in files.items():
        # Its proof is not the point here, and so one row of its own dtype will do for both.
        sample = x[:400].astype("float32") if name == "stock" else x[:400]
        wanted = ConversionOptions(name=name, sample=sample, trusted=True)
        artifact = convert(path, wanted, folder / f"{name}-work")
        config = options.serving_config({}, artifact)
        written = repository.write(folder / "repository", artifact, config)
        made.append((written.entry, artifact.spec.inputs[0]))
    return made


def _asking(client: Any, made: Made, rows: Array) -> Callable[[], Any]:
    entry, tensor = made
    given = tritonclient.grpc.InferInput(tensor.name, list(rows.shape), tensor.dtype.value)
    given.set_data_from_numpy(rows.astype(tensor.dtype.numpy_name))
    return lambda: client.infer(entry.name, [given])


def _medians(asked: Sequence[Callable[[], Any]]) -> list[float]:
    times: list[list[float]] = [[] for _ in asked]
    for _ in range(_REQUESTS):
        for ask, taken in zip(asked, times, strict=True):
            started = time.perf_counter()
            ask()
            taken.append(time.perf_counter() - started)
    return [median(taken) * 1e6 for taken in times]
