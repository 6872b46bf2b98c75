"""Run a converted model without a server, the way the server will."""

import importlib.util
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from converters import onnx_graph
from converters.reference import quiet
from converters.rows import Array
from toolkit.spec import DType, ModelSpec

Runner = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Takes inputs by name and gives outputs by name, texts as ``object``."""


def open_runner(spec: ModelSpec, folder: Path, threads: int | None) -> Runner:
    """Open the model that stands in ``folder``; ``threads`` as in the server's settings."""
    openers = {
        "onnxruntime": _open_onnx,
        "pytorch": _open_torchscript,
        "python": _open_predictor,
        "fil": _open_fil,
    }
    return openers[spec.backend](spec, folder, threads)


def _open_onnx(spec: ModelSpec, folder: Path, threads: int | None) -> Runner:
    session = onnx_graph.session(folder / "model.onnx", threads)
    names = [tensor.name for tensor in spec.outputs]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def _open_torchscript(spec: ModelSpec, folder: Path, threads: int | None) -> Runner:
    import torch

    with quiet():  # torch 2.13 calls TorchScript deprecated; Triton reads nothing else.
        module = torch.jit.load(str(folder / "model.pt"), map_location="cpu").eval()

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with torch.no_grad(), quiet():
                given = module(*(torch.from_numpy(array.copy()) for array in inputs.values()))
        finally:
            torch.set_num_threads(before)
        values = given if isinstance(given, tuple | list) else (given,)
        return {
            tensor.name: value.numpy(force=True)
            for tensor, value in zip(spec.outputs, values, strict=True)
        }

    return run


def _open_predictor(spec: ModelSpec, folder: Path, _threads: int | None) -> Runner:
    host = _import_file(folder / "model.py")
    texts = {tensor.name for tensor in spec.outputs if tensor.dtype is DType.BYTES}
    with quiet():
        predictor, settings = host.load(folder)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with quiet():
            given = host.predict(predictor, settings, dict(inputs))
        return {name: _decoded(value) if name in texts else value for name, value in given.items()}

    return run


def _open_fil(spec: ModelSpec, folder: Path, threads: int | None) -> Runner:
    backend = files("python_backend") / "backends" / "fil"
    rules, forests = (_import_file(Path(str(backend / f"fil_{n}.py"))) for n in ("rules", "forest"))
    told = {**dict(spec.parameters), "cpu_nthread": str(threads or -1)}
    parameters = {key: {"string_value": text} for key, text in told.items()}
    settings = rules.settings({"name": spec.name, "parameters": parameters})
    with quiet():
        forest = forests.load(folder / spec.model_file, settings)
    (output,) = spec.outputs

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        (rows,) = inputs.values()
        return {output.name: forest.answer(rows, output.dims[0])}

    return run


def _import_file(path: Path) -> Any:
    """Import a file by its path, as Triton's stub does."""
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def _decoded(texts: Array) -> Array:
    flat = [text.decode("utf-8") for text in texts.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(texts.shape)


def run_parts(run: Runner, inputs: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Run the rows in batches of ``size``; return the answers, rows first."""
    count = len(next(iter(inputs.values())))
    answers = [
        run({name: array[start : start + size] for name, array in inputs.items()})
        for start in range(0, count, size)
    ]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def run_rows(
    spec: ModelSpec, run: Runner, inputs: Mapping[str, Array], count: int
) -> dict[str, Array]:
    """Run the first ``count`` rows one by one; return the answers, rows first."""
    answers: list[dict[str, Array]] = []
    for row in range(count):
        part = slice(row, row + 1)
        if spec.batched:
            answers.append(run({name: array[part] for name, array in inputs.items()}))
        else:
            given = run({name: array[row] for name, array in inputs.items()})
            answers.append({name: np.asarray(value)[None] for name, value in given.items()})
    return {
        tensor.name: np.concatenate([answer[tensor.name] for answer in answers])
        for tensor in spec.outputs
    }
