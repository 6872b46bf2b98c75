"""A folder of models, each with its YAML, by one command to answers of a real Triton."""

import os
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
import torch
import yaml
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper, save_model
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from converters import ConversionOptions, from_class
from tests.cli.program import Run, start
from toolkit.cli import toolkit
from toolkit.client import Client
from toolkit.deploy import embedded
from toolkit.deploy.state import Server
from toolkit.errors import ConversionError
from toolkit.pbtxt import parse
from toolkit.spec import DType

Serve = Callable[[Path], Server]

PLANT = {
    "name": "plant",
    "version": "1.0.0",
    "description": "Which iris it is",
    "backend": "sklearn",
    "caching": True,
    "model_args": {"model_file": "plant.joblib"},
    "input": {"type": "array", "shape": [-1, 4], "dtype": "float32"},
    "output": {"type": "array", "shape": [-1], "dtype": "int64"},
    "preferred_batch_size": [4, 8],
    "max_batch_delay_ms": 2,
    "rush_batch_size": 16,
}
NAMES = """
import threading
from pathlib import Path


class Names:
    def __init__(self, shout):
        self.lock = threading.Lock()  # Cannot be pickled.
        self.shout = shout
        self.known = (Path(__file__).parent / "known.txt").read_text(encoding="utf-8").split()

    def predict(self, rows):
        ends = "!" if self.shout else "."
        told = ["known" if row[0] in self.known else "never-seen" for row in rows]
        return [[f"{row[0]} is a rather long answer: {t}{ends}"] for row, t in zip(rows, told)]
"""
LOOKUP = """
class Lookup:
    table = (7, 11, 2**53 + 1)

    def predict(self, rows):
        # Only whole numbers are an index.
        return [sum(self.table[place] for place in row) for row in rows % 3]
"""
NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.first = torch.nn.Linear(3, hidden)
        self.last = torch.nn.Linear(hidden, 2)

    def forward(self, rows):
        return self.last(torch.tanh(self.first(rows)))
"""
MATRIX = np.arange(6, dtype=np.float32).reshape(3, 2)


def describe(folder: Path, **changes: Any) -> Path:
    """Write the YAML of a model, that of ``PLANT`` but for some keys."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model_config.yaml"
    path.write_text(yaml.safe_dump({"model": {**PLANT, **changes}}))
    return path


def array(shape: list[int], dtype: str) -> dict[str, object]:
    return {"type": "array", "shape": shape, "dtype": dtype}


def plant(folder: Path) -> None:
    describe(folder)
    x, y = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(x, y), folder / "plant.joblib")
    np.save(folder / "sample.npy", x[:40])


def names(folder: Path) -> None:
    describe(
        folder, name="names", backend="python", input=array([-1, 1], "string"),
        output=array([-1, 1], "str"),
        model_args={
            "class": "predictor:Names", "kwargs": {"shout": True}, "model_file": "known.txt",
        },
    )  # fmt: skip
    (folder / "known.txt").write_text("text Köln", encoding="utf-8")
    (folder / "predictor.py").write_text(NAMES)


def lookup(folder: Path) -> None:
    # The module has the name of the other one, and is called as if from the folder above.
    target = f"{folder.parent.name}.{folder.name}.predictor:Lookup"
    describe(
        folder, name="lookup", backend="python", model_args={"class": target},
        input=array([-1, 2], "integer"), output=array([-1], "int64"),
    )  # fmt: skip
    (folder / "predictor.py").write_text(LOOKUP)


def product(folder: Path) -> None:
    describe(
        folder, name="product", backend="onnx", input=array([-1, 3], "float32"),
        model_args={"model_file": "product.onnx", "device": "cpu"}, rush_batch_size=6,
    )  # fmt: skip
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", "width"), ("y", 2))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "m"], ["y"])],
        "product", tensors[:1], tensors[1:], [numpy_helper.from_array(MATRIX, "m")],
    )  # fmt: skip
    opset = helper.make_opsetid("", 18)
    save_model(
        helper.make_model(graph, opset_imports=[opset], ir_version=9), folder / "product.onnx"
    )


def scripted(folder: Path) -> None:
    describe(
        folder, name="scripted", backend="torch", input=array([-1, 3], "float32"),
        model_args={"model_file": "net.pt"},
    )  # fmt: skip
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        torch.jit.script(torch.nn.Linear(3, 2).eval()).save(folder / "net.pt")


def weights(folder: Path) -> None:
    describe(
        folder, name="weights", backend="torch", input=array([-1, 3], "float32"),
        model_args={"model_file": "net.pth", "class": "net:Net", "kwargs": {"hidden": 5}},
    )  # fmt: skip
    (folder / "net.py").write_text(NET)
    torch.save(net().state_dict(), folder / "net.pth")


def net() -> torch.nn.Module:
    torch.manual_seed(3)
    layers = {
        "first": torch.nn.Linear(3, 5),
        "tanh": torch.nn.Tanh(),
        "last": torch.nn.Linear(5, 2),
    }
    return torch.nn.Sequential(OrderedDict(layers))


MODELS = {
    "plant": plant,
    "names": names,
    "lookup": lookup,
    "product": product,
    "scripted": scripted,
    "weights": weights,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("from-folder") / "models"
    for name, make in MODELS.items():
        make(folder / name)
    (folder / "compose.yaml").write_text("services: {}\n")
    (folder / "broken").mkdir()
    (folder / "broken/model_config.yaml").write_text("model: {name: broken}\n")
    lookup(folder / "crash")
    (folder / "crash/predictor.py").write_text("import os\nos.abort()\n")
    describe(
        folder / "crash", name="crash", backend="python",
        model_args={"class": "predictor:Lookup"},
    )  # fmt: skip
    plant(folder / "wide")
    describe(folder / "wide", name="wide", input=array([-1, 5], "float32"))
    (folder / "wide/sample.npy").unlink()
    return folder


@pytest.fixture(scope="module")
def converted(folder: Path) -> tuple[int, str]:
    """Convert the folder; give the exit code and all that was printed."""
    repository = folder.parent / "repo"
    ended = CliRunner().invoke(
        toolkit,
        [
            "convert",
            "--from-folder",
            str(folder),
            "--trusted",
            "--repository",
            str(repository),
            "--no-response-cache",
        ],
    )
    return ended.exit_code, ended.output


@pytest.fixture(scope="module")
def client(folder: Path, converted: tuple[int, str], serve: Serve) -> Iterator[Client]:
    with embedded.client(serve(folder.parent / "repo")) as client:
        for name in MODELS:
            client.load(name)
        yield client


def test_models_that_fail_or_crash_stop_no_other_and_the_exit_code_is_1(
    converted: tuple[int, str],
) -> None:
    code, printed = converted
    assert code == 1
    for name in MODELS:
        assert f"✔ {name} version 1: new entry" in printed
    assert "6 of 9 model(s)" in printed
    assert "crash/model_config.yaml: the process that converted it ended by itself" in printed
    assert "wide/model_config.yaml: input.shape is [-1, 5], and the model takes [-1, 4]" in printed
    assert "(40 of the sample)" in printed
    assert printed.count("the sample is made up") == 5
    assert "broken/model_config.yaml: Missing required key in model_signature: " in printed
    assert "compose.yaml is left alone" in printed


def test_the_batching_of_the_yaml_is_that_of_the_entry(
    folder: Path, converted: tuple[int, str]
) -> None:
    text = (folder.parent / "repo/plant/config.pbtxt").read_text()
    _, serving = parse(text)
    assert serving.preferred_batch_size == (4, 8, 16)
    assert serving.max_batch_size == 16
    assert serving.max_queue_delay_microseconds == 2000
    assert not serving.response_cache  # A flag wins over the YAML.
    assert sorted(path.name for path in (folder.parent / "repo").iterdir()) == sorted(MODELS)
    assert 'string_value: "Which iris it is"' in text
    assert 'string_value: "1.0.0"' in text
    _, other = parse((folder.parent / "repo/product/config.pbtxt").read_text())
    assert other.preferred_batch_size == (4, 8)
    assert "rush_batch_size 6 is below the last preferred_batch_size" in converted[1]


def test_a_pickled_estimator_answers(client: Client) -> None:
    x, y = load_iris(return_X_y=True)
    expected = LogisticRegression(max_iter=500).fit(x, y).predict_proba(x[:9])
    answer = client.predict("plant", x[:9])
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-6)


def test_a_class_answers_in_whole_texts_and_finds_its_file(client: Client) -> None:
    answer = client.predict("names", [["Köln"], ["Rome"]])["prediction"]
    assert answer.tolist() == [
        ["Köln is a rather long answer: known!"],
        ["Rome is a rather long answer: never-seen!"],
    ]


def test_a_class_gets_whole_numbers_and_none_is_rounded(client: Client) -> None:
    answer = client.predict("lookup", np.array([[0, 1], [2, 3]]))["prediction"]
    assert answer.tolist() == [18, 2**53 + 8]


def test_an_onnx_file_with_an_open_length_is_proved_at_the_length_of_the_yaml(
    client: Client,
) -> None:
    rows = np.array([[1, 2, 3], [0, 0, 1]], dtype=np.float32)
    assert client.predict("product", rows)["y"].tolist() == (rows @ MATRIX).tolist()


def test_torch_modules_answer_scripted_or_made_of_a_class_and_its_weights(client: Client) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = net()(torch.from_numpy(rows)).detach().numpy()
    (answer,) = client.predict("weights", rows).values()
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)
    (answer,) = client.predict("scripted", rows).values()
    assert answer.shape == (5, 2)


def test_the_entry_of_a_class_takes_the_data_types_of_the_yaml(
    folder: Path, converted: tuple[int, str]
) -> None:
    spec, _ = parse((folder.parent / "repo/lookup/config.pbtxt").read_text())
    assert [(tensor.dtype, tensor.dims) for tensor in spec.inputs] == [(DType.INT64, (2,))]
    held = {path.name for path in (folder.parent / "repo/names/1").iterdir()}
    assert {"predictor.py", "known.txt", "model.py"} <= held


def test_without_leave_no_code_of_the_folder_runs(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    names(folder / "names")
    plant(folder / "plant")
    (folder / "names/predictor.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + NAMES)
    ended = run("convert", "--from-folder", folder, "--repository", tmp_path / "repo")
    assert ended.code == 1
    assert "class predictor:Names is Python code" in ended.err
    assert "plant.joblib is a pickle" in ended.err
    assert ended.err.count(f"toolkit convert --from-folder {folder} --trusted") == 2
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class Lookup: pass", "must have a 'predict' method"),
        ("class Other: pass", "has no attribute 'Lookup'"),
        ("def Lookup(): raise SystemExit('no')", "SystemExit: no"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("class Lookup:\n def predict(self, rows): return [1]", "gives int64 of shape [1]"),
        ("class Lookup:\n def predict(self, rows): return rows[:, 0] / 2", "does not hold"),
        ("class Lookup:\n def predict(self, rows): raise KeyError(3)", "KeyError: 3"),
    ],
)
def test_a_class_that_does_not_work_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    monkeypatch.delitem(sys.modules, "predictor", raising=False)
    (tmp_path / "predictor.py").write_text(source)
    found = from_class.ClassSource("predictor:Lookup", {}, tmp_path)
    rows = np.arange(4).reshape(2, 2) * 2 + 1
    with pytest.raises(ConversionError) as refused:
        from_class.convert(
            found, rows, from_class.Gives(DType.INT64), ConversionOptions(name="m"), tmp_path / "w"
        )
    assert words in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.hint
    sys.modules.pop("predictor", None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m.onnx", "--from-folder", "models"], "give one of them"),
        ([], "PATH"),
        (["--from-folder", "models", "--name", "m"], "--name is about one model"),
        (["--from-folder", "models", "--sample", "m.npy"], "--sample is about one model"),
        (["--from-folder", "models", "--dynamic-axis", "x:1"], "--dynamic-axis is about one"),
    ],
)
def test_a_folder_excludes_what_is_about_one_model(
    run: Run, arguments: list[str], words: str
) -> None:
    ended = run("convert", *arguments)
    assert ended.code == 2
    assert words in ended.err


def test_a_folder_without_models_says_what_to_write(run: Run, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        ended = run("convert", "--from-folder", folder)
        assert ended.code == 1
        assert "model_config.yaml" in ended.err
        assert os.fspath(folder) in ended.err


def test_ctrl_c_ends_the_conversion_under_way_and_leaves_a_whole_repository(tmp_path: Path) -> None:
    lookup(tmp_path / "models/lookup")
    source = f"open({str(tmp_path / 'under way')!r}, 'w')\nimport time\ntime.sleep(600)\n"
    (tmp_path / "models/lookup/predictor.py").write_text(source)
    program = start("convert", "--from-folder", "models", "--trusted", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "under way").exists():
        assert program.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # As a terminal does it: to the program and the process that converts.
    processes = [program.pid, *(child.pid for child in psutil.Process(program.pid).children())]
    for pid in processes:
        os.kill(pid, signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "interrupted; nothing was left half-written" in err
    assert "Traceback" not in err
    while any(lives(pid) for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "model_repository").exists()


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
