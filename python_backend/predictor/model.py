"""Serve a pickled predictor on Triton's Python backend.

Beside this file stand the predictor itself, ``predictor.json`` (how to ask it),
``requirements.txt`` (what the server's Python must hold) and modules of the predictor's own.
This file imports nothing but numpy until a model is loaded, and works without Triton too:
``load`` and ``predict``.
"""

import contextlib
import importlib.metadata
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

_BITS = (8, 16, 32, 64)
_NUMPY_NAMES = {
    "FP64": "float64",
    "FP32": "float32",
    "FP16": "float16",
    "BOOL": "bool",
    **{f"{kind}INT{bits}": f"{kind}int{bits}".lower() for kind in ("", "U") for bits in _BITS},
}

Tensors = dict[str, Any]


def load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return the predictor in ``folder`` and its settings."""
    settings = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
    # For modules of the predictor's own. The entry stays: functions may import when called.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if settings["form"] == "tensors":
        return _load_torch(folder / settings["file"]), settings
    import joblib

    predictor = joblib.load(folder / settings["file"])
    _single_threaded(predictor)
    return predictor, settings


def _load_torch(file: Path) -> Any:
    import torch

    # More threads add up in another order, and a server runs instances side by side.
    torch.set_num_threads(1)
    return torch.load(file, map_location="cpu", weights_only=False).eval()


def differing(folder: Path) -> list[str]:
    """Return what the server's Python lacks of ``requirements.txt`` or has in another version."""
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        name, _, wanted = line.partition("==")
        if not wanted or line.startswith("#"):
            continue
        try:
            version = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        if version != wanted:
            found.append(f"{name} {version} is installed, {wanted} made the predictor")
    return found


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

    One whose answer to a row depends on the rows beside it is asked row by row.

    Raises ``ValueError`` if the predictor answers with another number of rows, or with
    numbers that the output's data type does not hold.
    """
    rows = len(next(iter(tensors.values())))
    if settings["alone"] and rows > 1:
        each = [
            predict(predictor, settings, {name: part[i : i + 1] for name, part in tensors.items()})
            for i in range(rows)
        ]
        return {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    arrays = [_decoded(tensors[name]) for name in settings["inputs"]]
    if settings["form"] == "tensors":
        return _predict_torch(predictor, settings, arrays)
    table = _table(settings, arrays)
    asked: dict[str, Any] = {}
    answers = {}
    for output in settings["outputs"]:
        given = _ask(predictor, output["method"], table, asked)
        if output["part"] is not None:
            given = given[output["part"]]
        given = np.asarray(given.toarray() if hasattr(given, "toarray") else given)
        # A transformer of images gives several entries a row.
        several = output["method"] == "transform" and given.size and given.shape[0] % rows == 0
        if given.shape[:1] != (rows,) and not several:
            msg = f"{output['method']} gave {given.shape} for {rows} rows"
            raise ValueError(msg)
        shaped = given.reshape(rows, *output["dims"])
        answers[output["name"]] = _typed(shaped, output["dtype"])
    return answers


def _predict_torch(module: Any, settings: dict[str, Any], arrays: list[Any]) -> Tensors:
    """Call a torch module; its answer is a tensor, several by position, or named ones."""
    import torch

    rows = len(arrays[0])
    with torch.no_grad():
        given = module(*(torch.from_numpy(np.array(array)) for array in arrays))
    if not isinstance(given, dict | tuple | list):
        given = (given,)
    answers = {}
    for place, output in enumerate(settings["outputs"]):
        part = output["part"]
        key = output["name"] if isinstance(given, dict) else place if part is None else part
        array = given[key].numpy(force=True)
        if rows == 1 and -1 not in output["dims"]:
            array = array.reshape(rows, *output["dims"])  # A squeeze takes a batch of one away.
        if array.shape[:1] != (rows,):
            msg = f"{output['name']} has the shape {array.shape} for {rows} rows"
            raise ValueError(msg)
        answers[output["name"]] = _typed(array, output["dtype"])
    return answers


def _table(settings: dict[str, Any], arrays: list[Any]) -> Callable[[], Any]:
    """Return a maker of fresh tables: some predictors write to what they are given."""
    form = settings["form"]
    if form == "matrix":
        return arrays[0].copy  # type: ignore[no-any-return]
    if form in {"texts", "vector"}:
        return lambda: arrays[0].reshape(-1).copy()
    if form == "tokens":
        return lambda: [_tokens(text) for text in arrays[0].ravel().tolist()]
    if form == "frame":
        return lambda: _frame(settings, arrays)
    columns = settings["columns"]
    cells = list(zip(*(array.ravel().tolist() for array in arrays), strict=True))
    if form == "pairs":
        return lambda: [list(zip(columns, row, strict=True)) for row in cells]
    return lambda: [dict(zip(columns, row, strict=True)) for row in cells]


def _tokens(text: str) -> list[Any]:
    tokens = json.loads(text)
    if not isinstance(tokens, list):
        msg = f"{text!r} is not the text of a JSON list of tokens"
        raise ValueError(msg)  # noqa: TRY004 - the text has a wrong value
    return tokens


def _frame(settings: dict[str, Any], arrays: list[Any]) -> Any:
    import pandas as pd

    columns = settings["columns"]
    if len(arrays) == 1 and arrays[0].shape[1] == len(columns):
        if not settings["categories"] and not settings["missing"]:
            return pd.DataFrame(arrays[0].copy(), columns=columns)
        arrays = list(arrays[0].T)
    return pd.DataFrame(
        {
            name: _column(settings, name, array.reshape(-1).copy())
            for name, array in zip(columns, arrays, strict=True)
        }
    )


def _column(settings: dict[str, Any], name: str, array: Any) -> Any:
    """Return a column with missing texts in place of empty ones, in its categories."""
    import pandas as pd

    missing = settings["missing"]
    fitted = settings["categories"].get(name)
    if name in missing and array.dtype == object:
        array[array == ""] = np.nan if missing[name] == "nan" else None
        if not fitted:
            # Told the type, pandas 3 does not make NaN of None.
            return pd.Series(array, dtype=object)
    if fitted:
        known = pd.Index(fitted["values"], dtype=fitted["dtype"])
        codes = known.get_indexer(array)
        return pd.Categorical.from_codes(codes, categories=known, ordered=fitted["ordered"])
    return array


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
    if dtype == "BYTES":
        texts = ["" if _is_missing(text) else str(text) for text in array.ravel().tolist()]
        encoded = [text.encode("utf-8") for text in texts]
        return np.array(encoded, dtype=object).reshape(array.shape)
    typed = np.ascontiguousarray(array, dtype=_NUMPY_NAMES[dtype])
    # A label of 0.5 would else be 0, and an integer of 2**53 + 1 another one.
    if array.dtype.kind in "iuf" and typed.dtype.kind != array.dtype.kind:
        same = np.array_equal(typed.astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
        if not same:
            msg = f"the predictor gave numbers that {dtype} does not hold"
            raise ValueError(msg)
    return typed


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and np.isnan(cell))


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the predictor, or say what the server's Python lacks."""
        folder = Path(args["model_repository"]) / args["model_version"]
        name = args["model_name"]
        other = differing(folder)
        try:
            self.predictor, self.settings = load(folder)
        except ModuleNotFoundError as error:
            msg = (
                f"{name} needs the Python module {error.name!r}:"
                f" pip install -r {folder / 'requirements.txt'}"
            )
            raise pb_utils.TritonModelException(msg) from error
        except Exception as error:
            why = f" ({'; '.join(other)}: pip install -r {folder / 'requirements.txt'})"
            msg = f"{name}: the predictor does not load: {error}{why if other else ''}"
            raise pb_utils.TritonModelException(msg) from error
        if other:
            pb_utils.Logger.log_warn(f"{name}: {'; '.join(other)}")

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
