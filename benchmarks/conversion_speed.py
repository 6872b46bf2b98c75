"""How fast a converted model is: native, the stock converter's ONNX and ours, on one thread.

The three take turns within each repeat, so that whatever else the machine does falls on
all of them. The figures are processor time, and the least of the repeats: what else a
machine does can only slow.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models.case import Array

_BATCHES = (1, 64, 1024)
_REPEATS = 60
_FEATURES, _ROWS = 28, 4000
_SHORTEST_SECONDS = 0.003
_LONGEST_SECONDS = 2.0

Ask = Callable[[Array], Any]


def main(only: Sequence[str] | None) -> None:
    """Print the table: microseconds a row, and how many times as fast ours is."""
    print(f"microseconds of processor time a row, one thread, the least of {_REPEATS}")
    print("| model | batch | native | stock ONNX | ours | ours to stock | ours to native |")
    print("|---|---|---|---|---|---|---|")
    for name, model, x in fitted(only):
        with tempfile.TemporaryDirectory(prefix="speed-") as folder:
            asked, notes = _ways(model, x, Path(folder))
            for batch in _BATCHES:
                print(_row(name, batch, _least(asked, x[:batch])), flush=True)
        for note in notes:
            print(f"  {name}: {note}")


def fitted(only: Sequence[str] | None) -> Iterator[tuple[str, Any, Array]]:
    """Yield the models whose names begin so, fitted, with rows to ask them."""
    for name, made in _MODELS.items():
        if only and not name.startswith(tuple(only)):
            continue
        x, y = _data(3 if name.endswith("3 classes") else 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = made().fit(x, y)
        yield name, model, x


def _data(classes: int) -> tuple[Array, Array]:
    from sklearn.datasets import make_classification

    x, y = make_classification(
        _ROWS, _FEATURES, n_informative=12, n_classes=classes, random_state=0
    )
    return x, y


def _row(name: str, batch: int, figures: dict[str, float]) -> str:
    native, stock, ours = (figures.get(way, np.nan) for way in ("native", "stock", "ours"))
    cells = " | ".join("-" if np.isnan(f) else f"{f:.2f}" for f in (native, stock, ours))
    ratios = " | ".join("-" if np.isnan(f) else f"{f / ours:.2f}x" for f in (stock, native))
    return f"| {name} | {batch} | {cells} | {ratios} |"


def _least(asked: dict[str, Ask], rows: Array) -> dict[str, float]:
    """Return microseconds a row, by way; of fewer repeats where one takes long."""
    calls, repeats = {}, {}
    for way, ask in asked.items():
        ask(rows)
        took = max(_seconds(ask, rows, 1), 1e-7)
        calls[way] = max(1, round(_SHORTEST_SECONDS / took))
        repeats[way] = min(_REPEATS, max(3, round(_LONGEST_SECONDS / (took * calls[way]))))
    times: dict[str, list[float]] = {way: [] for way in asked}
    for repeat in range(_REPEATS):
        order = [item for item in asked.items() if repeat < repeats[item[0]]]
        for way, ask in order if repeat % 2 else reversed(order):
            times[way].append(_seconds(ask, rows, calls[way]) / calls[way])
    return {way: min(taken) / len(rows) * 1e6 for way, taken in times.items()}


def _seconds(ask: Ask, rows: Array, calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        ask(rows)
    return time.process_time() - started


def _ways(model: Any, x: Array, folder: Path) -> tuple[dict[str, Ask], list[str]]:
    """Return native, stock and ours; and notes on what is missing or worth knowing."""
    asked: dict[str, Ask] = {"native": model.predict_proba}
    notes = []
    try:
        (folder / "stock.onnx").write_bytes(stock(model, x).SerializeToString())
        asked["stock"] = _asking(folder / "stock.onnx")
    except Exception as error:  # noqa: BLE001 - the stock converters raise anything.
        notes.append(f"no stock ONNX: {str(error).partition(chr(10))[0][:160]}")
    artifact, seconds = _ours(model, x, folder)
    notes.append(f"converted with its proof in {seconds:.1f} s, road {artifact.road.value}")
    if artifact.road.value == "onnx":
        asked["ours"] = _asking(Path(artifact.files["model.onnx"]))
    return asked, notes


def stock(model: Any, x: Array) -> Any:
    """Convert with skl2onnx or onnxmltools as their documentation says: float32, no ZipMap."""
    root = type(model).__module__.partition(".")[0]
    if root == "sklearn":
        from skl2onnx import to_onnx

        return to_onnx(model, x[:1].astype(np.float32), options={"zipmap": False})
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("input", FloatTensorType([None, x.shape[1]]))]
    if root == "lightgbm":
        return onnxmltools.convert_lightgbm(
            model, initial_types=types, target_opset=15, zipmap=False
        )
    return onnxmltools.convert_xgboost(model, initial_types=types, target_opset=15)


def _ours(model: Any, x: Array, folder: Path) -> tuple[Any, float]:
    import joblib

    from converters.conversion import convert
    from converters.options import ConversionOptions

    path = folder / "model.joblib"
    joblib.dump(model, path)
    started = time.perf_counter()
    options = ConversionOptions(name="model", sample=x[:400], trusted=True)
    return convert(path, options, folder / "work"), time.perf_counter() - started


def _asking(path: Path) -> Ask:
    """Open the file on one thread; rows are cast before, as callers send what it declares."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # onnxmltools declares one label for any number of rows.
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    tensor = session.get_inputs()[0]
    dtype = np.float64 if "double" in tensor.type else np.float32
    cast: dict[int, Array] = {}

    def ask(rows: Array) -> Any:
        if len(rows) not in cast:
            cast[len(rows)] = np.ascontiguousarray(rows, dtype=dtype)
        return session.run(None, {tensor.name: cast[len(rows)]})

    return ask


def _forest(trees: int, depth: int | None = None) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(trees, max_depth=depth, random_state=0, n_jobs=1)


def _lightgbm() -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=100, n_jobs=1, verbose=-1)


def _xgboost() -> Any:
    import xgboost

    return xgboost.XGBClassifier(n_estimators=100, n_jobs=1)


def _hist() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=100)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def _network() -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((64, 32), max_iter=30, random_state=0)


_MODELS: dict[str, Callable[[], Any]] = {
    "forest of 100": lambda: _forest(100),
    "forest of 100, 3 classes": lambda: _forest(100),
    "forest of 100, depth 8": lambda: _forest(100, 8),
    "forest of 100, depth 8, 3 classes": lambda: _forest(100, 8),
    "forest of 500": lambda: _forest(500),
    "LightGBM 100": _lightgbm,
    "XGBoost 100": _xgboost,
    "hist boosting 100": _hist,
    "logistic pipeline": _logistic,
    "logistic pipeline, 3 classes": _logistic,
    "MLP 64-32": _network,
}
