import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit import pbtxt, repository
from toolkit.artifact import Artifact, ParityReport, WarmupInput
from toolkit.errors import ConfigError, RepositoryError
from toolkit.repository import Change
from toolkit.spec import DType, ModelSpec, Road, ServingConfig, TensorSpec

PARITY = ParityReport("nothing", 0, 0, 0.0, 0.0, 0, 0.0, 0.0, 0.0, passed=True)


def artifact(folder: Path, content: str, name: str = "churn") -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    model, report = folder / "model.onnx", folder / "parity.json"
    model.write_text(content)
    report.write_text("{}")
    spec = ModelSpec(
        name,
        "onnxruntime",
        (TensorSpec("input", DType.FP32, (2,)),),
        (TensorSpec("label", DType.INT64, ()),),
    )
    files = {"model.onnx": model, "parity.json": report}
    warmup = {"input": WarmupInput((2,), bytes(8))}
    return Artifact(spec, Road.ONNX, "onnx", files, PARITY, warmup)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_first_write_makes_version_1_with_config_and_warmup(tmp_path: Path) -> None:
    written = repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    assert written.change is Change.NEW_ENTRY
    assert sorted(contents(tmp_path / "repo")) == [
        "churn/1/model.onnx",
        "churn/1/parity.json",
        "churn/config.pbtxt",
        "churn/warmup/input",
    ]


def test_another_model_becomes_the_next_version_and_the_first_stays(tmp_path: Path) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    written = repository.write(tmp_path / "repo", artifact(tmp_path / "b", "two"), ServingConfig())
    assert (written.change, written.entry.versions) == (Change.NEW_VERSION, (1, 2))
    assert (written.entry.path / "1/model.onnx").read_text() == "one"
    assert (written.entry.latest / "model.onnx").read_text() == "two"


def test_the_same_model_again_writes_nothing_and_says_so(tmp_path: Path) -> None:
    first = repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    stamp = first.entry.path.stat().st_mtime_ns
    again = repository.write(tmp_path / "repo", artifact(tmp_path / "b", "one"), ServingConfig())
    assert (again.change, again.entry.versions) == (Change.NOTHING, (1,))
    assert again.entry.path.stat().st_mtime_ns == stamp


def test_the_same_model_under_other_options_changes_the_configuration_alone(
    tmp_path: Path,
) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    other = ServingConfig(max_batch_size=8)
    written = repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), other)
    assert (written.change, written.entry.versions) == (Change.NEW_CONFIG, (1,))
    text = (written.entry.path / repository.CONFIG).read_text()
    assert pbtxt.parse(text)[1] == other


def test_versions_only_grow_even_after_an_old_one_was_deleted(tmp_path: Path) -> None:
    for content in ("one", "two"):
        repository.write(tmp_path / "repo", artifact(tmp_path / "a", content), ServingConfig())
    first = tmp_path / "repo/churn/1"
    for path in first.iterdir():
        path.unlink()
    first.rmdir()
    written = repository.write(tmp_path / "repo", artifact(tmp_path / "a", "x"), ServingConfig())
    assert written.entry.versions == (2, 3)


def test_what_the_user_keeps_in_an_entry_stays(tmp_path: Path) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    (tmp_path / "repo/churn/labels.txt").write_text("no\nyes\n")
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "two"), ServingConfig())
    assert (tmp_path / "repo/churn/labels.txt").read_text() == "no\nyes\n"


def test_nothing_but_entries_stands_in_the_repository_afterwards(tmp_path: Path) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    assert [path.name for path in (tmp_path / "repo").iterdir()] == ["churn"]
    assert not list(tmp_path.glob(".*"))


def test_a_repository_on_a_mount_of_its_own_is_written_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place = repository._put_in_place

    def across_mounts(built: Path, target: Path) -> None:
        # What renaming into a bind mount from beside it gives.
        if not built.is_relative_to(tmp_path / "repo"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        put_in_place(built, target)

    monkeypatch.setattr(repository, "_put_in_place", across_mounts)
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    assert [path.name for path in (tmp_path / "repo").iterdir()] == ["churn"]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/churn").write_text("mine")
    with pytest.raises(RepositoryError, match="in the way"):
        repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    assert (tmp_path / "repo/churn").read_text() == "mine"


def test_options_that_do_not_fit_the_model_write_nothing(tmp_path: Path) -> None:
    made = artifact(tmp_path / "a", "one")
    made = replace(made, spec=replace(made.spec, batched=False))
    with pytest.raises(ConfigError):
        repository.write(tmp_path / "repo", made, ServingConfig())
    assert not (tmp_path / "repo").exists()


def test_an_unknown_model_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    with pytest.raises(RepositoryError, match=r"no model 'chrun' \(it holds: churn\)"):
        repository.find(tmp_path / "repo", "chrun")


def test_a_missing_repository_is_an_empty_one(tmp_path: Path) -> None:
    assert repository.entries(tmp_path / "nowhere") == ()


# A writer that ends without a word at the N-th time it touches the file system (Python
# reports each time through its audit hooks), for every N there is.
KILLED_WRITERS = """
import os, shutil, sys
from pathlib import Path
from tests_repository import artifact, assert_servable
from toolkit import repository
from toolkit.spec import ServingConfig

repo, two = Path("repo"), artifact(Path("b"), "two" * 7)
serving = ServingConfig(max_batch_size=21)
if sys.argv[1] == "no":
    def not_here(first, second):
        raise OSError(22, "Invalid argument")
    repository._exchange = not_here
repository.pbtxt.to_text(two.spec, serving, two.warmup)  # imports what it needs
TOUCHES = {"os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "shutil.rmtree",
           "shutil.copyfile", "open", "ctypes.dlopen", "os.listdir", "os.scandir"}

def die_at(number):
    seen = 0
    def count(event, args):
        nonlocal seen
        seen += event in TOUCHES
        if seen == number:
            os._exit(9)
    sys.addaudithook(count)
    repository.write(repo, two, serving)
    os._exit(0)

number, status = 0, 9
while status == 9:
    number += 1
    shutil.rmtree(repo, ignore_errors=True)
    shutil.copytree("template", repo)
    child = os.fork()
    if child == 0:
        die_at(number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if sys.argv[1] == "no" and not (repo / "churn").exists():
        # Where the disk cannot swap two folders there is one moment without the entry;
        # the next writer puts it back before it does anything else.
        with repository.locked(repo), repository._staging(repo):
            pass
    assert_servable(repo)
print(number, status, [path.name for path in Path().glob(".repo*")])
"""


@pytest.mark.parametrize("swaps_folders", ["yes", "no"])
def test_a_writer_killed_at_any_point_leaves_a_repository_that_serves(
    tmp_path: Path, swaps_folders: str
) -> None:
    (tmp_path / "tests_repository.py").write_text(Path(__file__).read_text())
    first = artifact(tmp_path / "a", "x" * 10)
    repository.write(tmp_path / "template", first, ServingConfig(max_batch_size=10))
    result = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, swaps_folders],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    deaths, status, left = result.stdout.split(maxsplit=2)
    assert int(deaths) > 10
    assert (status, left.strip()) == ("0", "[]")


def assert_servable(repo: Path) -> None:
    (entry,) = repository.entries(repo)
    _, serving = pbtxt.parse((entry.path / repository.CONFIG).read_text())
    models = [(entry.path / str(version) / "model.onnx") for version in entry.versions]
    sizes = [len(model.read_text()) for model in models]
    # Each version is whole, and the configuration belongs to the newest of them.
    assert all(sizes), sizes
    assert serving.max_batch_size == sizes[-1]
    assert [path.name for path in repo.iterdir()] == ["churn"]


def run_limited(tmp_path: Path, before: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "tests_repository.py").write_text(Path(__file__).read_text())
    script = f"""
import os, resource, sys
from pathlib import Path
from tests_repository import artifact
from toolkit import repository
from toolkit.errors import RepositoryError
from toolkit.spec import ServingConfig
import tritonclient.grpc
made = artifact(Path("big"), "y" * 100_000)
{before}
try:
    repository.write(Path("repo"), made, ServingConfig())
except RepositoryError as error:
    print(error.message, "|", error.hint)
"""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )


def test_a_disk_that_takes_no_more_is_one_clear_line_and_changes_nothing(
    tmp_path: Path,
) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    before = contents(tmp_path / "repo")
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    result = run_limited(tmp_path, limit)
    assert "cannot write to repo: File too large; it is unchanged" in result.stdout
    assert contents(tmp_path / "repo") == before
    assert not list(tmp_path.glob(".repo*"))


def test_a_read_only_repository_is_one_clear_line_and_changes_nothing(tmp_path: Path) -> None:
    repository.write(tmp_path / "repo", artifact(tmp_path / "a", "one"), ServingConfig())
    before = contents(tmp_path / "repo")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    (tmp_path / "repo").chmod(0o555)
    # Root may write anywhere, so it steps down first.
    step_down = "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)"
    result = run_limited(tmp_path, f"os.chmod('.', 0o555)\n{step_down}")
    tmp_path.chmod(0o755)
    (tmp_path / "repo").chmod(0o755)
    assert "cannot write to repo: Permission denied; it is unchanged" in result.stdout
    assert "chmod u+w repo" in result.stdout
    assert contents(tmp_path / "repo") == before
