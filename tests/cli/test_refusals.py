"""Bad input: one clear line, exit code 1, and the repository as it was."""

import os
import pickle
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression

from tests.cli.program import Ended, Run, start

Prepare = Callable[[Path], list[object]]


def no_file(folder: Path) -> list[object]:
    return [folder / "nowhere.joblib"]


def empty_file(folder: Path) -> list[object]:
    (folder / "empty.onnx").touch()
    return [folder / "empty.onnx"]


def a_folder(folder: Path) -> list[object]:
    (folder / "models").mkdir()
    return [folder / "models"]


def untrusted(folder: Path) -> list[object]:
    joblib.dump(LogisticRegression(), folder / "m.joblib")
    return [folder / "m.joblib"]


def renamed_pickle(folder: Path) -> list[object]:
    (folder / "m.onnx").write_bytes(pickle.dumps(LogisticRegression()))
    return [folder / "m.onnx"]


def missing_module(folder: Path) -> list[object]:
    # As written where a package is installed that is not here.
    (folder / "m.pkl").write_bytes(b"cno_such_package.models\nChurn\n.")
    return [folder / "m.pkl", "--trusted"]


def unknown_framework(folder: Path) -> list[object]:
    joblib.dump(LogisticRegression(), folder / "m.joblib")
    return [folder / "m.joblib", "--trusted", "--framework", "mxnet"]


def no_predict(folder: Path) -> list[object]:
    joblib.dump(AgglomerativeClustering().fit([[0.0], [1.0]]), folder / "m.joblib")
    return [folder / "m.joblib", "--trusted"]


def not_fitted(folder: Path) -> list[object]:
    joblib.dump(LogisticRegression(), folder / "m.joblib")
    return [folder / "m.joblib", "--trusted"]


def fitted(folder: Path) -> Path:
    joblib.dump(LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1]), folder / "m.joblib")
    return folder / "m.joblib"


def wrong_width(folder: Path) -> list[object]:
    np.save(folder / "wide.npy", np.ones((3, 5)))
    return [fitted(folder), "--trusted", "--sample", folder / "wide.npy"]


def no_sample_file(folder: Path) -> list[object]:
    return [fitted(folder), "--trusted", "--sample", folder / "nowhere.csv"]


def ragged_sample(folder: Path) -> list[object]:
    (folder / "rows.csv").write_text("a,b\n1,2\n3\n")
    return [fitted(folder), "--trusted", "--sample", folder / "rows.csv"]


def bad_name(folder: Path) -> list[object]:
    return [fitted(folder), "--trusted", "--name", "churn/2024"]


def corrupt_onnx(folder: Path) -> list[object]:
    (folder / "m.onnx").write_bytes(b"\x08\x07" + os.urandom(500))
    return [folder / "m.onnx"]


def bad_option(folder: Path) -> list[object]:
    return [fitted(folder), "--trusted", "--preferred-batch-size", "1024"]


def unknown_release(folder: Path) -> list[object]:
    return [fitted(folder), "--trusted", "--release", "19.01"]


def bad_options_file(folder: Path) -> list[object]:
    (folder / "options.yaml").write_text("max_batch: 5\n")
    return [fitted(folder), "--trusted", "--options", folder / "options.yaml"]


def half_a_number(folder: Path) -> list[object]:
    (folder / "options.yaml").write_text("max_batch_size: 3.7\n")
    return [fitted(folder), "--trusted", "--options", folder / "options.yaml"]


def trusting_options_file(folder: Path) -> list[object]:
    (folder / "options.yaml").write_text("trusted: true\n")
    return [fitted(folder), "--options", folder / "options.yaml"]


@pytest.mark.parametrize(
    ("prepare", "words", "hint"),
    [
        (no_file, "nowhere.joblib", ""),
        (empty_file, "empty", ""),
        (a_folder, "models", ""),
        (untrusted, "runs the code inside it", "--trusted"),
        (renamed_pickle, "runs the code inside it", "--trusted"),
        (missing_module, "no_such_package", "pip install"),
        (unknown_framework, "mxnet", "sklearn"),
        (no_predict, "AgglomerativeClustering", ""),
        (not_fitted, "not fitted", ""),
        (wrong_width, "5", ""),
        (no_sample_file, "nowhere.csv", ""),
        (ragged_sample, "line 3", ""),
        (bad_name, "'churn/2024' cannot name a model", "letters"),
        (corrupt_onnx, "m.onnx", ""),
        (bad_option, "above max_batch_size", "raise max_batch_size"),
        (unknown_release, "19.01", "25.11"),
        (bad_options_file, "unknown key 'max_batch'", "max_batch_size"),
        (half_a_number, "max_batch_size must be a whole number, not 3.7", ""),
        (trusting_options_file, "unknown key 'trusted'", "--trusted"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_conversion_is_one_clear_line_and_leaves_the_repository_as_it_was(
    run: Run, tmp_path: Path, prepare: Prepare, words: str, hint: str
) -> None:
    repo = tmp_path / "repo"
    ended = run("convert", *prepare(tmp_path), "--repository", repo)
    assert_one_line(ended, words, hint)
    assert not repo.exists()


def assert_one_line(ended: Ended, words: str, hint: str = "") -> None:
    lines = ended.err.splitlines()
    assert ended.code == 1, ended.err
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert all(line.startswith("  try: ") for line in lines[1:])
    assert hint in "\n".join(lines[1:])
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["deploy"], "holds no models"),
        (["deploy", "churn"], "no model 'churn'"),
        (["predict", "churn", "--input", "[[1, 2]]"], "no embedded server is running"),
        (["status"], "no embedded server is running"),
        (["unload", "churn"], "no embedded server is running"),
        (["logs"], "no embedded server is running"),
        (["verify", "churn"], "no model 'churn'"),
        (["predict", "churn", "--input", "[[1, 2]]", "--url", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["predict", "churn", "--input", "[[1, 2"], "the input"),
        (["predict", "churn", "--input", "rows.xls"], "rows.xls"),
        (["runtime", "install", "--from", "nowhere"], "nowhere"),
    ],
)
def test_a_command_that_lacks_what_it_needs_says_what(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "runtime":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert_one_line(run(*arguments), words)


def test_a_port_in_use_is_named(run: Run, tmp_path: Path, iris: Path) -> None:
    repo = tmp_path / "repo"
    assert run("convert", iris / "iris.joblib", "--trusted", "--repository", repo).code == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("deploy", "--http-port", port, "--repository", repo)
    assert ended.code == 1
    assert f"port {port} (" in ended.err
    assert "--http-port 9000" in ended.err


def test_the_compose_target_without_docker_says_so(
    run: Run, tmp_path: Path, iris: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "repo"
    assert run("convert", iris / "iris.joblib", "--trusted", "--repository", repo).code == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = run("deploy", "--target", "compose", "--repository", repo)
    assert_one_line(ended, "no docker command", "--target embedded")


def test_usage_errors_exit_2(run: Run) -> None:
    assert run("convert").code == 2
    assert run("convert", "m.onnx", "--no-such-flag").code == 2
    assert run("convert", "m.onnx", "--max-batch-size", "many").code == 2


def test_an_error_of_ours_shows_its_traceback_only_with_debug(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.onnx"
    assert "Traceback" not in run("convert", path).err
    assert "Traceback" in run("--debug", "convert", path).err


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.2, 1.6, 2.0, 2.5])
def test_ctrl_c_at_any_time_of_a_conversion_leaves_a_whole_repository(
    tmp_path: Path, iris: Path, seconds: float
) -> None:
    repo = tmp_path / "repo"
    command = ["convert", iris / "iris.joblib", "--trusted", "--repository", repo]
    program = start(*command, cwd=tmp_path)
    try:
        program.wait(seconds)
    except subprocess.TimeoutExpired:
        program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    # Once Python itself shuts down, all is written, and it dies of the signal.
    assert program.returncode in {0, 130, -signal.SIGINT}, err
    assert "Traceback" not in err
    written = sorted(path.name for path in repo.glob("iris/*")) if repo.exists() else []
    assert written in ([], ["1", "config.pbtxt", "warmup"])
    assert not list(tmp_path.glob(".repo*"))
    if program.returncode == 130:
        assert "interrupted" in err
