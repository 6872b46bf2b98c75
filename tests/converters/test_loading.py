"""A file that is no good gets one clear line, and nothing runs without trust."""

import pickle
import subprocess
import sys
from pathlib import Path

import catboost
import joblib
import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.linear_model import LogisticRegression

from converters import ConversionOptions, convert
from converters.loading import load
from tests.converters.conftest import Convert, Data, Pickled
from toolkit.errors import (
    ConfigError,
    ModelFileError,
    RepositoryError,
    SampleError,
    UnsupportedModelError,
    UntrustedModelError,
)
from toolkit.spec import Road


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.target), "w")


@pytest.mark.parametrize(
    "name", ["m.pkl", "m.joblib", "m.onnx", "m.ubj", "m.txt", "m.pt", "m.json", "m"]
)
def test_a_pickle_under_any_name_does_not_run_without_trust(tmp_path: Path, name: str) -> None:
    target = tmp_path / "it ran"
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(UntrustedModelError, match="loading it runs the code inside it") as caught:
        load(path, trusted=False)
    assert str(caught.value.hint).startswith(f"toolkit convert {path} --trusted")
    assert not target.exists()


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "lzma", "xz"])
def test_a_compressed_pickle_does_not_run_without_trust(tmp_path: Path, method: str) -> None:
    target = tmp_path / "it ran"
    path = tmp_path / "model.bin"
    joblib.dump(Bomb(target), path, compress=(method, 3))
    with pytest.raises(UntrustedModelError):
        load(path, trusted=False)
    assert not target.exists()


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", ["m.pt", "m.onnx"])
def test_a_torch_pickle_does_not_run_without_trust(
    tmp_path: Path, new_format: bool, name: str
) -> None:
    import torch

    target = tmp_path / "it ran"
    path = tmp_path / name
    torch.save(Bomb(target), path, _use_new_zipfile_serialization=new_format)
    target.unlink(missing_ok=True)
    with pytest.raises(UntrustedModelError):
        load(path, trusted=False)
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".onnx", ".pkl", ".ubj", ".json", ".txt", ".pt", ".xyz"])
def test_a_damaged_file_names_itself(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"certainly no model\n" * 50)
    with pytest.raises(ModelFileError, match="broken"):
        load(path, trusted=True)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"tree\nversion=v4\n", "LightGBM"),
        (b"CBM1\x01", "CatBoost"),
        (b'{"learner": 3', "XGBoost"),
        (b"PK\x03\x04x", "Torch"),
    ],
)
def test_a_file_cut_short_says_what_it_was(tmp_path: Path, head: bytes, what: str) -> None:
    path = tmp_path / "cut"
    path.write_bytes(head)
    with pytest.raises(ModelFileError, match=what):
        load(path, trusted=False)


def test_a_missing_an_empty_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        load(tmp_path / "nowhere.pkl", trusted=True)
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(ModelFileError, match="is empty"):
        load(tmp_path / "empty.pkl", trusted=True)
    with pytest.raises(ModelFileError, match="is a folder"):
        load(tmp_path, trusted=True)


def test_a_missing_module_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cnot_installed_here.models\nModel\n.")
    with pytest.raises(ModelFileError, match="needs the module not_installed_here") as caught:
        load(path, trusted=True)
    assert caught.value.hint == "pip install not_installed_here"


def test_a_class_of_the_training_script_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    script = f"import pickle\nclass Own: predict = 1\npickle.dump(Own(), open({str(path)!r}, 'wb'))"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(ModelFileError, match="that its training script defined") as caught:
        load(path, trusted=True)
    assert "module" in str(caught.value.hint)


def test_an_object_that_answers_for_no_new_rows_names_its_class(
    pickled: Pickled, iris: Data
) -> None:
    path = pickled(DBSCAN().fit(iris[0]))
    with pytest.raises(UnsupportedModelError, match="a DBSCAN, which has neither predict nor"):
        load(path, trusted=True)
    with pytest.raises(UnsupportedModelError, match="a dict, which has neither predict nor"):
        load(pickled({"model": 1}), trusted=True)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("Logloss", "CatBoostClassifier"),
        ("RMSE", "CatBoostRegressor"),
        ("YetiRank", "CatBoostRanker"),
    ],
)
@pytest.mark.parametrize("name", ["m.cbm", "m"])
def test_a_catboost_file_loads_as_what_its_loss_makes_it(
    tmp_path: Path, iris: Data, loss: str, kind: str, name: str
) -> None:
    x, y = iris
    model = catboost.CatBoost(
        {"loss_function": loss, "iterations": 2, "verbose": 0, "bootstrap_type": "No"}
        | {"allow_writing_files": False}
    )
    model.fit(catboost.Pool(x, y > 0, group_id=np.arange(len(x)) // 10))
    model.save_model(str(tmp_path / name))
    loaded = load(tmp_path / name, trusted=False)
    assert (loaded.framework, loaded.class_name) == ("catboost", kind)


def test_an_unknown_framework_is_refused_with_the_known_ones(pickled: Pickled, iris: Data) -> None:
    path = pickled(LogisticRegression(max_iter=1000).fit(*iris))
    with pytest.raises(ConfigError, match="unknown framework 'keras'") as caught:
        load(path, trusted=True, framework="keras")
    for known in ("sklearn", "xgboost", "lightgbm", "catboost", "torch", "onnx", "predictor"):
        assert known in str(caught.value.hint)
    with pytest.raises(ConfigError, match="holds a sklearn model, not a torch one"):
        load(path, trusted=True, framework="torch")


def test_a_sample_of_another_width_says_both_widths(convert_model: Convert, iris: Data) -> None:
    x, y = iris
    model = LogisticRegression(max_iter=1000).fit(x, y)
    with pytest.raises(SampleError, match="the sample has 5 columns, the model takes 4") as caught:
        convert_model(model, np.column_stack([x, y]))
    assert "--drop COLUMN" in str(caught.value.hint)
    sample = {str(i): column for i, column in enumerate(np.column_stack([x, y]).T)}
    with pytest.raises(SampleError, match="the sample has 5 columns, the model takes 4"):
        convert_model(model, sample)


def test_a_road_the_framework_does_not_have_is_refused(convert_model: Convert, iris: Data) -> None:
    with pytest.raises(ConfigError, match="a model of sklearn cannot take the road torchscript"):
        convert_model(LogisticRegression(max_iter=1000).fit(*iris), road=Road.TORCHSCRIPT)


def test_a_name_that_triton_refuses_stops_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="cannot name a model"):
        convert(tmp_path / "x.pkl", ConversionOptions(name="../x"), tmp_path)


class Exit:
    """Ends the program when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return sys.exit, (0,)


def test_a_pickle_that_ends_the_program_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "exit.pkl"
    path.write_bytes(pickle.dumps(Exit()))
    with pytest.raises(ModelFileError, match=r"exit\.pkl does not load: SystemExit: 0"):
        load(path, trusted=True)


@pytest.mark.parametrize("content", [b"no pickle at all", pickle.dumps(list(range(99)))[:40]])
def test_a_damaged_pickle_names_the_kind_of_error_and_what_to_do(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "broken.joblib"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"does not load: \w+(Error|Exception)") as caught:
        load(path, trusted=True)
    assert "save the model again" in str(caught.value.hint)
