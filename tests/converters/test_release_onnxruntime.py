"""What is written answers the same in the ONNX Runtime of the container it is written for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC

from converters import ConversionOptions, convert, releases
from tests.converters.conftest import Data

RELEASE = releases.find(ConversionOptions(name="m").release)

ASK = """
import json, sys
import numpy as np
import onnxruntime

found = {"version": onnxruntime.__version__, "different": []}
for folder in sys.argv[1:]:
    with np.load(folder + "/proof.npz") as kept:
        rows = {name: kept[name] for name in kept.files}
    inputs = {n[6:]: a.astype(object) if a.dtype.kind == "U" else a
              for n, a in rows.items() if n.startswith("input:")}
    for threads in (1, 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(folder + "/model.onnx", options)
        for output, given in zip(session.get_outputs(), session.run(None, inputs)):
            expected = rows["expected:" + output.name]
            if expected.dtype.kind in "Ui":
                good = (given == expected).all()
            else:
                good = np.allclose(given, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
            if not good:
                found["different"].append((folder, threads, output.name))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def onnxruntime_of_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install that ONNX Runtime into a folder of its own."""
    folder = tmp_path_factory.mktemp("onnxruntime")
    wanted = f"onnxruntime=={RELEASE.onnxruntime}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, str(folder), wanted], check=True)
    return folder


def models(cancer: Data, iris: Data, diabetes: Data) -> dict[str, tuple[Any, Any]]:
    x, y = cancer
    flowers, kinds = iris
    body, sugar = diabetes
    texts = np.array(["Übung macht", "den Meister", "good Films", "bad films no"] * 20, object)
    votes = [1, 0, 1, 0] * 20
    columns = {
        "age": x[:, 0],
        "city": np.array(["Oslo", "Rome", "Bern"] * 189 + ["Rom", ""], object),
    }
    frame = pd.DataFrame(columns)
    by_column = make_column_transformer(
        (make_pipeline(SimpleImputer(), SplineTransformer()), ["age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
    )
    numbers = [
        RandomForestClassifier(50, random_state=0),
        RandomForestClassifier(50, max_depth=3, random_state=0),
        HistGradientBoostingClassifier(max_iter=20),
        IsolationForest(n_estimators=20, random_state=0),
        lightgbm.LGBMClassifier(n_estimators=20, verbose=-1),
        xgboost.XGBClassifier(n_estimators=20),
        catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False),
        make_pipeline(StandardScaler(), PCA(5), SVC()),
        make_pipeline(QuantileTransformer(n_quantiles=50), LogisticRegression()),
        make_pipeline(
            KBinsDiscretizer(encode="ordinal", quantile_method="averaged_inverted_cdf"),
            PowerTransformer(),
        ),
    ]
    several = [RandomForestClassifier(30, max_depth=depth, random_state=0) for depth in (None, 2)]
    amounts = [RandomForestRegressor(20, random_state=0), GradientBoostingRegressor()]
    chosen: dict[str, tuple[Any, Any]] = {
        f"binary-{i}": (m.fit(x, y), x) for i, m in enumerate(numbers)
    }
    chosen |= {f"kinds-{i}": (m.fit(flowers, kinds), flowers) for i, m in enumerate(several)}
    chosen |= {f"amounts-{i}": (m.fit(body, sugar), body) for i, m in enumerate(amounts)}
    chosen["columns"] = (make_pipeline(by_column, LogisticRegression()).fit(frame, y), columns)
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    chosen["texts"] = (words.fit(texts, votes), texts)
    return chosen


def test_all_families_answer_the_same_there(
    onnxruntime_of_release: Path, tmp_path: Path, cancer: Data, iris: Data, diabetes: Data
) -> None:
    folders = []
    for name, (model, sample) in models(cancer, iris, diabetes).items():
        path = tmp_path / f"{name}.joblib"
        joblib.dump(model, path)
        options = ConversionOptions(name="m", sample=sample, trusted=True, generated_rows=300)
        artifact = convert(path, options, tmp_path / name)
        assert artifact.rung == "exact", (name, artifact.refused)
        folders.append(str(artifact.files["model.onnx"].parent))
    code = f"import sys; sys.path.insert(0, {str(onnxruntime_of_release)!r})\n{ASK}"
    ask = [sys.executable, "-c", code, *folders]
    shown = subprocess.run(ask, capture_output=True, text=True, check=True)
    found = json.loads(shown.stdout)
    assert found == {"version": RELEASE.onnxruntime, "different": []}
