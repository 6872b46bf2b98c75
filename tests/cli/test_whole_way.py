"""From a model file to the answer of a real Triton, by the commands a person types."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from tests.cli.program import Run, start
from toolkit.client import Client
from toolkit.deploy import embedded

Ports = Callable[[], tuple[int, int, int]]


def sklearn_pipeline(folder: Path) -> np.ndarray:
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    joblib.dump(model, folder / "model.joblib")
    np.save(folder / "rows.npy", x[:100])
    return np.asarray(model.predict_proba(x[:100]))


def forest(folder: Path) -> np.ndarray:
    x, y = load_diabetes(return_X_y=True)
    model = RandomForestRegressor(20, random_state=0).fit(x, y)
    joblib.dump(model, folder / "model.joblib")
    np.save(folder / "rows.npy", x[:100])
    return np.asarray(model.predict(x[:100])[:, None])


def xgboost_file(folder: Path) -> np.ndarray:
    x, y = load_wine(return_X_y=True)
    model = xgboost.XGBClassifier(n_estimators=20, n_jobs=1).fit(x, y)
    model.get_booster().save_model(folder / "model.ubj")
    np.save(folder / "rows.npy", x[:100])
    return np.asarray(model.predict_proba(x[:100]))


def lightgbm_file(folder: Path) -> np.ndarray:
    x, y = load_iris(return_X_y=True)
    model = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbosity=-1).fit(x, y)
    model.booster_.save_model(folder / "model.txt")
    np.save(folder / "rows.npy", x[:100])
    return np.asarray(model.predict_proba(x[:100]))


def text_columns(folder: Path) -> np.ndarray:
    frame = pd.DataFrame(
        {"age": [20, 40, 60, 30] * 10, "city": ["Köln", "Rome", "Rome", "東京"] * 10}
    )
    columns = [("n", StandardScaler(), ["age"]), ("c", OneHotEncoder(), ["city"])]
    model = make_pipeline(ColumnTransformer(columns), LogisticRegression())
    model.fit(frame, ["stays", "leaves", "leaves", "stays"] * 10)
    joblib.dump(model, folder / "model.joblib")
    frame.to_json(folder / "rows.jsonl", orient="records", lines=True, force_ascii=False)
    return np.asarray(model.predict_proba(frame))


def function_in_a_pipeline(folder: Path) -> np.ndarray:
    x, y = load_iris(return_X_y=True)
    model = make_pipeline(FunctionTransformer(np.arcsinh), LogisticRegression()).fit(x, y)
    joblib.dump(model, folder / "model.joblib")
    np.save(folder / "rows.npy", x[:100])
    return np.asarray(model.predict_proba(x[:100]))


def torchscript(folder: Path) -> np.ndarray:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    rows = torch.randn(50, 4)
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        torch.jit.script(model.eval()).save(folder / "model.pt")
    np.save(folder / "rows.npy", rows.numpy())
    return np.asarray(model(rows).detach().numpy())


CASES = {
    "sklearn-pipeline": (sklearn_pipeline, "onnx", "probabilities"),
    "forest": (forest, "onnx", "prediction"),
    "xgboost.1": (xgboost_file, "onnx", "probabilities"),
    "lightgbm": (lightgbm_file, "onnx", "probabilities"),
    "text_columns": (text_columns, "onnx", "probabilities"),
    "function": (function_in_a_pipeline, "python", "probabilities"),
    "torchscript": (torchscript, "torchscript", None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("whole-way")
    yield folder
    embedded.stop(folder / "repo")


def finish(*arguments: object, cwd: Path) -> str:
    program = start(*arguments, cwd=cwd)
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def truth(folder: Path, free_ports: Ports) -> dict[str, np.ndarray]:
    """Convert and deploy every case by command; return what the originals answer."""
    truth = {}
    for name, (train, road, _) in CASES.items():
        home = folder / name
        home.mkdir()
        truth[name] = train(home)
        model = next(home.glob("model.*"))
        rows = next(home.glob("rows.*"))
        trusted = ["--trusted"] if model.suffix == ".joblib" else []
        out = finish(
            "convert", model, "--name", name, "--sample", rows, *trusted,
            "--repository", "repo", "--max-batch-size", "64", cwd=folder,
        )  # fmt: skip
        assert f"road        {road} " in out, out
        assert f"✔ {name} version 1: new entry" in out
    http, grpc, metrics = free_ports()
    ports = ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
    out = finish("deploy", *ports, "--repository", "repo", cwd=folder)
    for name in CASES:
        assert f"✔ {name} version 1, 4 rows answered as proved" in out
    return truth


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", list(CASES))
def test_predict_gives_what_the_original_gives(
    run: Run, folder: Path, truth: dict[str, np.ndarray], name: str, protocol: str
) -> None:
    rows = next((folder / name).glob("rows.*"))
    ended = run(
        "predict", name, "--input", rows, "--protocol", protocol, "--repository", folder / "repo"
    )
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out)
    output = CASES[name][2] or next(iter(answer))
    np.testing.assert_allclose(answer[output], truth[name], rtol=1e-4, atol=1e-4)


def test_labels_come_back_as_the_texts_they_are(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    rows = '{"age": [20, 40], "city": ["Köln", "Rome"]}'
    ended = run("predict", "text_columns", "--input", rows, "--repository", folder / "repo")
    assert json.loads(ended.out)["label"] == ["stays", "leaves"]


def test_verify_replays_every_model_and_finds_no_difference(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    ended = run("verify", "--rounds", "1", "--repository", folder / "repo")
    assert ended.code == 0, ended.out
    for name in CASES:
        assert f"✔ {name}: every answer is the offline one" in ended.out


def test_status_shows_every_model_and_never_the_token(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    shown = json.loads(run("status", "--json", "--repository", folder / "repo").out)
    assert {model["name"]: model["state"] for model in shown["models"]} == dict.fromkeys(
        CASES, "READY"
    )
    server = embedded.require_running(folder / "repo")
    assert server.token not in json.dumps(shown)
    assert server.token not in run("status", "--repository", folder / "repo").out


def test_a_changed_model_is_reloaded_while_the_server_runs(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    x, y = load_iris(return_X_y=True)
    path = folder / "changing.joblib"
    answers = []
    for number, labels in enumerate((y, 2 - y), start=1):
        joblib.dump(LogisticRegression(max_iter=500).fit(x, labels), path)
        assert run("convert", path, "--trusted", "--repository", folder / "repo").code == 0
        ended = run("deploy", "changing", "--repository", folder / "repo")
        assert f"✔ changing version {number}" in ended.out
        rows = json.dumps(x[:1].tolist())
        out = run("predict", "changing", "--input", rows, "--repository", folder / "repo").out
        answers.append(json.loads(out)["label"])
    assert answers == [[0], [2]]
    assert run("unload", "changing", "--repository", folder / "repo").code == 0


def test_columns_find_their_places_by_name_and_strangers_are_refused(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(x, y)
    joblib.dump(model, folder / "named.joblib")
    repo = ["--repository", folder / "repo"]
    assert run("convert", folder / "named.joblib", "--trusted", *repo).code == 0
    assert run("deploy", "named", *repo).code == 0
    columns = {str(name): x[name].tolist() for name in reversed(x.columns)}
    ended = run("predict", "named", "--input", json.dumps(columns), *repo)
    answer = json.loads(ended.out)["probabilities"]
    np.testing.assert_allclose(answer, model.predict_proba(x), rtol=1e-4, atol=1e-4)
    columns["petal weight"] = columns.pop("petal width (cm)")
    ended = run("predict", "named", "--input", json.dumps(columns), *repo)
    assert ended.code == 1
    assert "missing: 'petal width (cm)'; unknown: 'petal weight'" in ended.err
    assert run("unload", "named", *repo).code == 0


def test_converting_the_same_file_again_writes_nothing(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    home = folder / "forest"
    ended = run(
        "convert", home / "model.joblib", "--name", "forest", "--sample", home / "rows.npy",
        "--trusted", "--repository", folder / "repo", "--max-batch-size", "64",
    )  # fmt: skip
    assert "forest version 1: nothing: the same model and configuration" in ended.out


def test_a_served_python_model_is_still_the_same_model(
    run: Run, folder: Path, truth: dict[str, np.ndarray]
) -> None:
    # The server leaves its compiled Python in the entry.
    assert list((folder / "repo/function/1").glob("__pycache__"))
    home = folder / "function"
    ended = run(
        "convert", home / "model.joblib", "--name", "function", "--sample", home / "rows.npy",
        "--trusted", "--repository", folder / "repo", "--max-batch-size", "64",
    )  # fmt: skip
    assert "function version 1: nothing: the same model" in ended.out


def test_logs_follow_the_server(folder: Path, truth: dict[str, np.ndarray]) -> None:
    program = start("logs", "-f", "-n", "5", "--repository", "repo", cwd=folder)
    assert program.stdout is not None
    assert all(program.stdout.readline() for _ in range(5))
    server = embedded.require_running(folder / "repo")
    with embedded.client(server) as client:
        client.unload("forest")
        client.load("forest")
    line = ""
    while "forest" not in line:
        line = program.stdout.readline()
        assert line, "the log ended"
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=10)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.0, 1.6, 2.4])
def test_ctrl_c_at_any_time_of_a_deployment_leaves_a_server_that_can_be_used_or_none(
    run: Run, iris: Path, tmp_path: Path, free_ports: Ports, seconds: float
) -> None:
    repo = tmp_path / "repo"
    assert run("convert", iris / "iris.joblib", "--trusted", "--repository", repo).code == 0
    http, grpc, metrics = free_ports()
    ports = ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
    program = start("deploy", *ports, "--repository", repo, cwd=tmp_path)
    try:
        program.wait(seconds)
    except subprocess.TimeoutExpired:
        program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    try:
        assert program.returncode in {0, 130, -signal.SIGINT}, err
        assert "Traceback" not in err
        assert run("deploy", *ports, "--repository", repo).code == 0
        with Client(f"http://127.0.0.1:{http}") as client:
            assert client.predict("iris", [[5.1, 3.5, 1.4, 0.2]])["label"].tolist() == [0]
    finally:
        assert embedded.stop(repo)
    deadline = time.monotonic() + 10
    while list(embedded._stubs(repo)):
        assert time.monotonic() < deadline


def test_an_options_file_and_flags_reach_the_configuration(
    run: Run, iris: Path, tmp_path: Path
) -> None:
    options = tmp_path / "serving.yaml"
    options.write_text(
        "max_batch_size: 32\npreferred_batch_size: [8, 16]\nmax_queue_delay_microseconds: 100\n"
        "version_policy: latest:2\ninstance_count: 2\nname: from_file\n"
    )
    repo = tmp_path / "repo"
    ended = run(
        "convert", iris / "iris.joblib", "--trusted", "--options", options,
        "--instance-count", "3", "--max-queue-size", "7", "--repository", repo,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    text = (repo / "from_file/config.pbtxt").read_text()
    for line in ("max_batch_size: 32", "preferred_batch_size: 16", "count: 3", "num_versions: 2"):
        assert line in text
    assert "max_queue_size: 7" in text
    assert "max_queue_delay_microseconds: 100" in text
