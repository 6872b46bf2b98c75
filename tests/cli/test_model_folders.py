"""What the YAML of a model folder may say, and what is said of one that does not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from toolkit import model_folders
from toolkit.errors import ConfigError
from toolkit.model_folders import Reading
from toolkit.model_yaml import Declared, FolderModel
from toolkit.spec import DType, InstanceKind

MODEL = {
    "name": "net",
    "version": 2,
    "description": "A net\n",
    "backend": "onnx",
    "caching": True,
    "model_args": {"model_file": "net.onnx", "device": "cuda"},
    "input": {"type": "array", "shape": [-1, 3, 4], "dtype": "float"},
    "output": {"type": "array", "shape": [-1, 2], "dtype": "integer"},
    "preferred_batch_size": [16, 32],
    "max_batch_delay_ms": 10,
    "rush_batch_size": 256,
}


def write(folder: Path, model: object, name: str = "model_config.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.onnx").touch()
    (folder / name).write_text(yaml.safe_dump({"model": model}))
    return folder / name


def changed(path: str, value: object) -> dict[str, Any]:
    """Return ``MODEL`` with one key changed, or without it if the value is ``...``."""
    model: dict[str, Any] = yaml.safe_load(yaml.safe_dump(MODEL))
    *above, last = path.split(".")
    inner = model
    for key in above:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return model


def only(reading: Reading) -> FolderModel:
    (model,) = reading.models
    assert not reading.refused
    return model


def refusal(folder: Path) -> ConfigError:
    reading = model_folders.read(folder)
    assert not reading.models
    ((_, error),) = reading.refused
    return error


def test_a_whole_file_is_read_as_it_is_meant(tmp_path: Path) -> None:
    write(tmp_path / "net", MODEL)
    model = only(model_folders.read(tmp_path))
    assert model.name == "net"
    assert (model.version, model.description, model.notes) == ("2", "A net", ())
    assert model.model_file == tmp_path / "net/net.onnx"
    assert model.input == Declared(DType.FP64, (-1, 3, 4))
    assert model.output == Declared(DType.INT64, (-1, 2))
    assert model.serving == {
        "max_batch_size": 256,
        "preferred_batch_size": (16, 32, 256),
        "max_queue_delay_microseconds": 10_000,
        "response_cache": True,
        "instance_kind": InstanceKind.KIND_GPU,
    }


@pytest.mark.parametrize("rush", [1, 16, 32])
def test_a_rush_that_is_no_larger_batch_changes_nothing(tmp_path: Path, rush: int) -> None:
    write(tmp_path, changed("rush_batch_size", rush))
    model = only(model_folders.read(tmp_path))
    assert model.serving["preferred_batch_size"] == (16, 32)
    assert model.serving["max_batch_size"] == 32
    assert len(model.notes) == (rush < 32)
    assert all(f"rush_batch_size {rush} is below" in note for note in model.notes)


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "backend",
        "model_args",
        "model_args.model_file",
        "model_args.device",
        "input",
        "input.type",
        "input.shape",
        "output.dtype",
        "preferred_batch_size",
        "max_batch_delay_ms",
        "rush_batch_size",
    ],
)
def test_a_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    write(tmp_path, changed(key, ...))
    error = refusal(tmp_path)
    assert error.message == f"Missing required key in model_signature: {key}"
    assert error.hint


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("preferred_batch_size", 16, "Invalid preferred_batch_size format"),
        ("preferred_batch_size", [], "Invalid preferred_batch_size format"),
        ("preferred_batch_size", [16, "32"], "Invalid preferred_batch_size format"),
        ("preferred_batch_size", [16, True], "Invalid preferred_batch_size format"),
        ("preferred_batch_size", [32, 16], "sizes rise"),
        ("max_batch_delay_ms", 1.5, "Invalid max_batch_delay_ms format"),
        ("max_batch_delay_ms", -1, "Invalid max_batch_delay_ms format"),
        ("max_batch_delay_ms", 10**9, "at most"),
        ("rush_batch_size", "256", "Invalid rush_batch_size format"),
        ("rush_batch_size", 0, "Invalid rush_batch_size format"),
        ("backend", "mxnet", "Unsupported backend type: mxnet"),
        ("backend", "jax", "Backend jax is not implemented yet."),
        ("backend", "sklearn", "Invalid model_file extension, expected .pkl"),
        ("backend", "torch", "Invalid model_file extension, expected .pt or .pth"),
        ("model_args.device", "tpu", "Invalid device: tpu"),
        ("model_args.device", ["cpu"], "Invalid device: ['cpu']"),
        ("model_args.model_file", "other.onnx", "model_file other.onnx is not there"),
        ("model_args.model_file", "../../net.onnx", "is outside"),
        ("model_args.model_file", 3, "is not the name of a file"),
        ("input.dtype", "complex64", "Invalid input.dtype: complex64"),
        ("output.shape", "[-1, 2]", "Invalid output.shape format"),
        ("output.shape", [-1, 0], "Invalid output.shape format"),
        ("name", 7, "Invalid name format"),
        ("name", "../up", "cannot name a model"),
        ("caching", "often", "Invalid caching format"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    (tmp_path / "net.onnx").touch()
    write(tmp_path / "models/net", changed(key, value))
    error = refusal(tmp_path / "models")
    assert words in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, "Missing required key in model_signature: model_args.class"),
        ("predictor", "expected module:Class"),
        ("predictor:Lookup()", "expected module:Class"),
        (7, "expected module:Class"),
        ("package.module:Class", "package is a folder"),
    ],
)
def test_a_class_is_module_and_class(tmp_path: Path, target: object, words: str) -> None:
    (tmp_path / "package").mkdir()
    write(tmp_path, {**MODEL, "backend": "python", "model_args": {"class": target}})
    assert words in refusal(tmp_path).message


def test_a_class_named_from_further_up_is_found_beside_the_yaml(tmp_path: Path) -> None:
    folder = tmp_path / "models/net"
    write(folder, {**MODEL, "backend": "python", "model_args": {"class": "models.net.own:Net"}})
    (folder / "own.py").touch()
    assert only(model_folders.read(tmp_path / "models")).target == "own:Net"


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16", "int32", "str", "string"])
def test_every_name_of_a_data_type_is_known(tmp_path: Path, dtype: str) -> None:
    write(tmp_path, changed("input.dtype", dtype))
    expected = "object" if dtype.startswith("str") else dtype
    assert only(model_folders.read(tmp_path)).input.dtype.numpy_name == expected


def test_other_yaml_files_and_hidden_ones_are_no_models(tmp_path: Path) -> None:
    write(tmp_path / "net", MODEL, "any-name.yml")
    write(tmp_path / ".hidden", changed("name", "hidden"))
    write(tmp_path, changed("name", "hidden"), ".hidden.yaml")
    (tmp_path / "compose.yaml").write_text("services: {}")
    (tmp_path / "empty.yaml").touch()
    reading = model_folders.read(tmp_path)
    assert only(reading).name == "net"
    assert [path.name for path in reading.skipped] == ["compose.yaml", "empty.yaml"]


@pytest.mark.parametrize(
    "text", ["model: {name: [", "model: 3", "\x00", "[" * 1200, "mdoel: {}", "a: !!python/none"]
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_config.yaml").write_text(text)
    message = refusal(tmp_path).message
    assert message
    assert "\n" not in message


def test_two_models_of_one_name_are_both_refused_and_a_third_is_not(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", MODEL), write(tmp_path / "b", MODEL)
    write(tmp_path / "c", changed("name", "other"))
    reading = model_folders.read(tmp_path)
    assert [model.name for model in reading.models] == ["other"]
    assert [path for path, _ in reading.refused] == [first, second]
    assert str(second) in reading.refused[0][1].message


def test_links_that_leave_the_folder_are_refused_and_others_are_not(tmp_path: Path) -> None:
    outside, models = tmp_path / "outside", tmp_path / "models"
    write(outside / "net", changed("name", "outside"))
    write(models / "net", MODEL)
    (models / "whole").symlink_to(outside)
    (models / "again").symlink_to(models / "net")
    (models / "config.yaml").symlink_to(outside / "net/model_config.yaml")
    (models / "lost.yaml").symlink_to(models / "nowhere.yaml")
    (models / "circle.yaml").symlink_to("circle.yaml")
    reading = model_folders.read(models)
    assert [model.name for model in reading.models] == ["net"]
    names = [path.name for path, _ in reading.refused]
    assert names == ["circle.yaml", "config.yaml", "lost.yaml", "whole"]
    assert all("the link leads nowhere or out of" in error.message for _, error in reading.refused)


def test_a_model_file_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "models", MODEL)
    (tmp_path / "models/net.onnx").unlink()
    (tmp_path / "net.onnx").touch()
    (tmp_path / "models/net.onnx").symlink_to(tmp_path / "net.onnx")
    assert "model_file net.onnx is outside" in refusal(tmp_path / "models").message


def test_keys_that_nobody_knows_are_noted_and_one_sample_is_enough(tmp_path: Path) -> None:
    write(tmp_path, {**MODEL, "tags": ["a"]})
    (tmp_path / "sample.npy").touch()
    model = only(model_folders.read(tmp_path))
    assert model.notes == ("the key 'tags' is unknown and ignored",)
    assert model.sample == tmp_path / "sample.npy"
    (tmp_path / "sample.csv").touch()
    assert "several samples: sample.csv, sample.npy" in refusal(tmp_path).message


def test_the_example_of_the_documentation_is_read_without_a_remark(tmp_path: Path) -> None:
    page = Path(__file__).parents[2].joinpath("docs/convert.md").read_text()
    (tmp_path / "plant.pkl").touch()
    text = page.partition("```yaml\nmodel:")[2].partition("```")[0]
    (tmp_path / "model_config.yaml").write_text(f"model:{text}")
    model = only(model_folders.read(tmp_path))
    assert not model.notes
    assert model.serving["preferred_batch_size"] == (16, 32, 64, 256)
    assert model.serving["max_queue_delay_microseconds"] == 10_000
