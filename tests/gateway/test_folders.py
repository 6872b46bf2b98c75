"""A caller names a file: only plain files inside the folder are ever found."""

import os
import socket
from pathlib import Path

import pytest

from toolkit.gateway.exchange import Refused
from toolkit.gateway.folders import inside


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "deep").mkdir(parents=True)
    (folder / "churn.onnx").write_bytes(b"model")
    (folder / "deep" / "fraud.pkl").write_bytes(b"model")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "models-beside").mkdir()
    (tmp_path / "models-beside" / "churn.onnx").write_bytes(b"other")
    return folder


def test_files_inside_are_found_by_relative_and_absolute_names(models: Path) -> None:
    assert inside(models, "churn.onnx") == models / "churn.onnx"
    assert inside(models, "deep/fraud.pkl") == models / "deep" / "fraud.pkl"
    assert inside(models, "deep/../churn.onnx") == models / "churn.onnx"
    assert inside(models, str(models / "churn.onnx")) == models / "churn.onnx"


def test_links_that_stay_inside_are_followed_to_their_end(models: Path, tmp_path: Path) -> None:
    (models / "latest").symlink_to("deep/fraud.pkl")
    (tmp_path / "elsewhere").symlink_to(models)
    assert inside(models, "latest") == models / "deep" / "fraud.pkl"
    assert inside(tmp_path / "elsewhere", "churn.onnx") == models / "churn.onnx"


def refused(models: Path, name: str) -> None:
    with pytest.raises(Refused) as found:
        inside(models, name)
    assert (found.value.status, found.value.detail) == (404, f"Model file not found: {name}")


@pytest.mark.parametrize(
    "name",
    [
        "missing.onnx",
        "../secret",
        "deep/../../secret",
        "../models-beside/churn.onnx",
        "/etc/passwd",
        "/dev/null",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "missing/../../secret",
        "churn.onnx\0",
        "\0",
        "\ud800",
        "",
        ".",
        "..",
        "deep",
        "/",
        "~/churn.onnx",
        "a" * 250,
        "deep/" * 40 + "fraud.pkl",
    ],
)
def test_all_else_is_not_found_in_the_same_words(models: Path, name: str) -> None:
    refused(models, name)


def test_links_that_lead_outside_are_not_found(models: Path, tmp_path: Path) -> None:
    (models / "file").symlink_to(tmp_path / "secret")
    (models / "folder").symlink_to(tmp_path)
    (models / "chain").symlink_to("file")
    (models / "circle").symlink_to("circle")
    for name in ("file", "folder/secret", "chain", "circle", "folder/models-beside/churn.onnx"):
        refused(models, name)


def test_pipes_and_sockets_are_not_found_and_nobody_waits_for_them(models: Path) -> None:
    os.mkfifo(models / "pipe.onnx")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(models / "s"))
        refused(models, "s")
    refused(models, "pipe.onnx")


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    refused(tmp_path / "none", "churn.onnx")


def test_the_log_tells_the_operator_what_the_caller_is_not_told(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused(models, "../secret")
    assert "'../secret': it is outside MODEL_DIR" in caplog.text


def test_a_very_long_name_is_not_repeated_as_a_whole(models: Path) -> None:
    with pytest.raises(Refused) as found:
        inside(models, "x" * 100_000)
    assert len(found.value.detail) < 300
