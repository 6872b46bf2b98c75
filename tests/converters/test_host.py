"""The file that serves a pickled predictor on Triton's Python backend."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.converters.conftest import Array, Convert, Data
from toolkit.artifact import Artifact
from toolkit.errors import UnsupportedModelError
from toolkit.spec import DType, Road, TensorSpec


class Centred:
    """Every answer depends on all rows of the batch."""

    def predict(self, rows: Array) -> Array:
        sums: Array = rows.sum(axis=1)
        return np.asarray(sums - sums.mean())


def test_a_predictor_that_mixes_the_rows_of_a_batch_is_refused(
    convert_model: Convert, iris: Data
) -> None:
    with pytest.raises(UnsupportedModelError, match=r"by up to .*requests cannot share a batch"):
        convert_model(Centred(), iris[0])


class Holder:
    """A user's own object around an estimator."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def predict(self, rows: Array) -> Array:
        answers: Array = self.held.predict(rows)
        return answers


def host_of(artifact: Artifact) -> Any:
    """Import the host as the server does."""
    host = artifact.files["model.py"]
    spec = importlib.util.spec_from_file_location("host", host)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def served(artifact: Artifact) -> Any:
    """Load the predictor as the host does."""
    return host_of(artifact).load(artifact.files["model.py"].parent)[0]


def test_the_host_asks_every_forest_with_one_thread(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    forest = RandomForestClassifier(3, n_jobs=2, random_state=0)
    search = GridSearchCV(make_pipeline(StandardScaler(), forest), {}, cv=2).fit(x, y)
    forest.fit(x, y)
    assert served(convert_model(forest, x, road=Road.PYTHON)).n_jobs == 1
    found = served(convert_model(search, x, road=Road.PYTHON))
    assert found.best_estimator_[-1].n_jobs == 1
    assert served(convert_model(Holder(forest), x)).held.n_jobs == 1


def scorer_beside(folder: Path, module: str) -> Path:
    """Store an object whose class is in a module beside it, which uses another one there."""
    folder.mkdir()
    (folder / "weights_beside.py").write_text("FACTOR = 3.0\n\ndef factor(): return FACTOR\n")
    (folder / f"{module}.py").write_text(
        "from weights_beside import factor\n"
        "class Scorer:\n"
        "    def predict(self, rows): return rows.sum(axis=1) * factor()\n"
    )
    path = folder / "scorer.pkl"
    script = f"import pickle, {module}; pickle.dump({module}.Scorer(), open({path.name!r}, 'wb'))"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder)
    return path


def test_modules_beside_the_model_file_go_with_it(
    convert_model: Convert, tmp_path: Path, iris: Data
) -> None:
    path = scorer_beside(tmp_path / "training", "scorer_beside")
    before = list(sys.path)
    artifact = convert_model(path, iris[0], trusted=True, generated_rows=0)
    assert str(path.parent) not in sys.path
    assert sys.path[-len(before) :] == before
    assert {"scorer_beside.py", "weights_beside.py"} <= set(artifact.files)
    assert "beside" not in artifact.files["requirements.txt"].read_text()
    shutil.rmtree(path.parent)
    script = (
        "import sys, numpy as np; from pathlib import Path; from converters import offline;"
        "from toolkit.spec import *; folder = Path(sys.argv[1]);"
        "spec = ModelSpec('m', 'python', (TensorSpec('input', DType.FP64, (4,)),),"
        " (TensorSpec('prediction', DType.FP64, (1,)),));"
        "print(offline.open_runner(spec, folder, 1)({'input': np.ones((2, 4))}))"
    )
    folder = str(artifact.files["model.py"].parent)
    run = subprocess.run(
        [sys.executable, "-c", script, folder], check=True, capture_output=True, text=True
    )
    assert "12." in run.stdout


def test_a_module_that_is_called_as_the_host_is_refused(
    convert_model: Convert, tmp_path: Path, iris: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scorer_beside(tmp_path / "training", "model")
    monkeypatch.delitem(sys.modules, "model", raising=False)
    monkeypatch.delitem(sys.modules, "weights_beside", raising=False)
    with pytest.raises(UnsupportedModelError, match="name of Triton's own file") as caught:
        convert_model(path, iris[0], trusted=True)
    assert "rename the module model" in str(caught.value.hint)
    sys.modules.pop("model", None)


def test_the_host_tells_which_versions_differ_from_those_of_the_conversion(
    convert_model: Convert, iris: Data
) -> None:
    artifact = convert_model(LinearRegression().fit(*iris), iris[0][:5], road=Road.PYTHON)
    host, folder = host_of(artifact), artifact.files["model.py"].parent
    assert host.differing(folder) == []
    requirements = artifact.files["requirements.txt"]
    lines = ["numpy==1.0\nnot-there==2.0\n# a note\n", requirements.read_text()]
    requirements.write_text("".join(lines))
    assert host.differing(folder) == [
        f"numpy {np.__version__} is installed, 1.0 made the predictor",
        "not-there none is installed, 2.0 made the predictor",
    ]


class Halves:
    """Names classes that are whole numbers on some rows only."""

    classes_ = np.array([0.0, 0.5, 1.0])

    def predict(self, rows: Array) -> Array:
        return np.where(rows[:, 0] > 6, 0.5, 1.0)


def test_a_class_between_whole_numbers_is_kept_though_no_row_met_it(
    convert_model: Convert, iris: Data
) -> None:
    artifact = convert_model(Halves(), iris[0][:5], generated_rows=0)
    assert [tensor.dtype for tensor in artifact.spec.outputs] == [DType.FP64]


def test_a_number_that_the_output_does_not_hold_is_an_error(
    convert_model: Convert, iris: Data
) -> None:
    artifact = convert_model(
        LogisticRegression(max_iter=1000).fit(*iris), iris[0], road=Road.PYTHON
    )
    host = host_of(artifact)
    settings = json.loads(artifact.files["predictor.json"].read_text())
    with pytest.raises(ValueError, match="numbers that INT64 does not hold"):
        host.predict(Halves(), {**settings, "outputs": settings["outputs"][:1]}, {"input": iris[0]})


def test_an_estimator_whose_rows_share_random_draws_is_asked_row_by_row(
    convert_model: Convert,
) -> None:
    images = np.random.default_rng(0).random((5, 6, 6))
    model = PatchExtractor(patch_size=(2, 2), max_patches=3, random_state=0).fit(images)
    together = model.transform(images).reshape(5, 3, 2, 2)
    alone = np.stack([model.transform(image[None]) for image in images])
    assert not np.array_equal(together, alone)
    artifact = convert_model(model, images, road=Road.PYTHON, generated_rows=0)
    assert json.loads(artifact.files["predictor.json"].read_text())["alone"] is True
    given = np.load(artifact.files["proof.npz"])["expected:transformed"]
    assert np.array_equal(given, alone)


def test_a_transformer_of_texts_gives_texts(
    convert_model: Convert,
) -> None:
    texts = np.array(["Rome", None, "Oslo"], dtype=object)
    frame = pd.DataFrame({"city": np.array(["Rome", np.nan, "Oslo"], dtype=object)})
    model = SimpleImputer(strategy="most_frequent").fit(frame)
    artifact = convert_model(model, {"city": texts}, road=Road.PYTHON, generated_rows=0)
    given = np.load(artifact.files["proof.npz"])
    assert given["input:city"].ravel().tolist() == ["Rome", "", "Oslo"]
    assert given["expected:transformed"].ravel().tolist() == ["Rome", "Oslo", "Oslo"]


class HalfUp:
    """A user's own predictor."""

    def predict(self, rows: Array) -> Array:
        halves: Array = rows.sum(axis=1) / 2
        return halves


def test_any_object_with_predict_is_served_by_the_python_backend(
    convert_model: Convert, iris: Data
) -> None:
    x, _ = iris
    artifact = convert_model(HalfUp(), x)
    assert (artifact.framework, artifact.road) == ("predictor", Road.PYTHON)
    assert artifact.spec.outputs == (TensorSpec("prediction", DType.FP64, (1,)),)
    with np.load(artifact.files["proof.npz"]) as rows:
        expected = rows["input:input"].sum(axis=1) / 2
        np.testing.assert_array_equal(rows["expected:prediction"][:, 0], expected)
