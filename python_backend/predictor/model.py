"""Serve a pickled predictor on Triton's Python backend.

Beside this file stand the predictor itself, ``predictor.json`` (how to ask it),
``requirements.txt`` (what the server's Python must hold) and modules of the predictor's own.
This file imports nothing but numpy until a model is loaded, and works without Triton too:
``load`` and ``predict``.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

try:
    import triton_python_backend_utils as pb_utils
except ModuleNotFoundError:  # Outside Triton, where only load and predict are used.
    pb_utils = None

_NUMPY_NAMES = {"FP64": "float64", "FP32": "float32", "INT64": "int64", "BOOL": "bool"}

Tensors = dict[str, Any]


def load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return the predictor in ``folder`` and its settings."""
    import joblib

    settings = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
    # For modules of the predictor's own. The entry stays: functions may import when called.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    predictor = joblib.load(folder / settings["file"])
    _single_threaded(predictor)
    return predictor, settings


def _single_threaded(predictor: Any) -> None:
    """Set ``n_jobs`` to 1 in every scikit-learn object that the predictor is or holds.

    A server runs instances side by side anyway, and threads add up a forest's answers in
    the order in which they end, so that the same row would not give the same bits twice.
    """
    waiting = [predictor, getattr(predictor, "__dict__", None)]
    seen = set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif hasattr(part, "get_params"):
            with contextlib.suppress(Exception):  # Others have a get_params of their own kind.
                if "n_jobs" in part.get_params(deep=False):
                    part.set_params(n_jobs=1)
            waiting.append(getattr(part, "__dict__", None))


def predict(predictor: Any, settings: dict[str, Any], tensors: Tensors) -> Tensors:
    """Ask the predictor once; tensors by name, rows first, texts as ``bytes`` on the way out.

    Raises ``ValueError`` if the predictor answers with another number of rows.
    """
    rows = len(next(iter(tensors.values())))
    table = _table(settings, [_decoded(tensors[name]) for name in settings["inputs"]])
    asked: dict[str, Any] = {}
    answers = {}
    for output in settings["outputs"]:
        given = np.asarray(_ask(predictor, output["method"], table, asked))
        if given.shape[:1] != (rows,):
            msg = f"{output['method']} gave {given.shape} for {rows} rows"
            raise ValueError(msg)
        shaped = given.reshape(rows, *output["dims"])
        answers[output["name"]] = _typed(shaped, output["dtype"])
    return answers


def _table(settings: dict[str, Any], arrays: list[Any]) -> Callable[[], Any]:
    """Return a maker of fresh tables: some predictors write to what they are given."""
    if settings["form"] == "matrix":
        return arrays[0].copy  # type: ignore[no-any-return]
    if settings["form"] == "texts":
        return lambda: arrays[0].reshape(-1).copy()
    import pandas as pd

    columns = settings["columns"]
    if len(arrays) == 1 and arrays[0].shape[1] == len(columns):
        return lambda: pd.DataFrame(arrays[0].copy(), columns=columns)
    return lambda: pd.DataFrame(
        {name: array.reshape(-1).copy() for name, array in zip(columns, arrays, strict=True)}
    )


def _ask(predictor: Any, method: str, table: Callable[[], Any], asked: dict[str, Any]) -> Any:
    """Call a method of the predictor, or make a classifier's output of a bare booster's."""
    derived = {"booster_label": _best_class, "booster_probabilities": _both_classes}
    name = "predict" if method in derived else method
    if name not in asked:
        asked[name] = getattr(predictor, name)(table())
    return derived[method](asked[name]) if method in derived else asked[name]


def _both_classes(given: Any) -> Any:
    return np.column_stack([1.0 - given, given]) if given.ndim == 1 else given


def _best_class(given: Any) -> Any:
    return _both_classes(given).argmax(axis=1)


def _decoded(array: Any) -> Any:
    if array.dtype.kind != "O":
        return array
    texts = [
        text.decode("utf-8") if isinstance(text, bytes) else str(text)
        for text in array.ravel().tolist()
    ]
    return np.array(texts, dtype=object).reshape(array.shape)


def _typed(array: Any, dtype: str) -> Any:
    if dtype != "BYTES":
        return np.ascontiguousarray(array, dtype=_NUMPY_NAMES[dtype])
    texts = [str(text).encode("utf-8") for text in array.ravel().tolist()]
    return np.array(texts, dtype=object).reshape(array.shape)


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the predictor, or say what the server's Python lacks."""
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            self.predictor, self.settings = load(folder)
        except ModuleNotFoundError as error:
            msg = (
                f"{args['model_name']} needs the Python module {error.name!r}:"
                f" pip install -r {folder / 'requirements.txt'}"
            )
            raise pb_utils.TritonModelException(msg) from error
        except Exception as error:
            msg = f"{args['model_name']}: the predictor does not load: {error}"
            raise pb_utils.TritonModelException(msg) from error

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests with one prediction; after a failure, each by itself."""
        inputs = [self._inputs(request) for request in requests]
        if len(requests) > 1:
            try:
                return self._answer(inputs)
            except Exception:  # noqa: BLE001, S110 - whose fault it is shows one by one
                pass
        responses = []
        for tensors in inputs:
            try:
                responses += self._answer([tensors])
            except Exception as error:  # noqa: BLE001 - a bad request is answered, not fatal
                reason = pb_utils.TritonError(f"{type(error).__name__}: {error}")
                responses.append(pb_utils.InferenceResponse(error=reason))
        return responses

    def _inputs(self, request: Any) -> Tensors:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self.settings["inputs"]
        }

    def _answer(self, inputs: list[Tensors]) -> list[Any]:
        names = self.settings["inputs"]
        joined = {name: np.concatenate([tensors[name] for tensors in inputs]) for name in names}
        answers = predict(self.predictor, self.settings, joined)
        responses = []
        start = 0
        for tensors in inputs:
            end = start + len(tensors[names[0]])
            outputs = [pb_utils.Tensor(name, array[start:end]) for name, array in answers.items()]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
            start = end
        return responses
