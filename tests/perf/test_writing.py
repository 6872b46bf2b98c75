"""A file is there whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import writing
from toolkit.errors import ConfigError


@pytest.fixture
def shared_with_the_group() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("shared_with_the_group")
def test_a_file_takes_the_place_of_the_older_one_as_the_umask_says(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_bytes(b"older")
    path.chmod(0o600)

    writing.write(path, b"newer")

    assert path.read_bytes() == b"newer"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_older_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "figures.json"
    path.write_bytes(b"older")
    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(OSError, match="No space left"):
        writing.write(path, b"newer")

    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "message", "hint"),
    [
        ("gone/figures.json", "cannot be written: there is no folder gone", "mkdir -p gone"),
        (".", ". is a folder", "name a file"),
        ("theirs/figures.json", "the folder theirs is not yours", "name a file in"),
    ],
)
def test_a_path_that_takes_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str, hint: str
) -> None:
    def may(path: Path, _: int) -> bool:  # Root, as whom tests may run, may write everywhere.
        return path != Path("theirs")

    monkeypatch.setattr(os, "access", may)
    monkeypatch.chdir(tmp_path)
    Path("theirs").mkdir()

    with pytest.raises(ConfigError, match=message) as refused:
        writing.check(Path(place))

    assert str(refused.value.hint).startswith(hint)
    assert list(tmp_path.rglob("*")) == [tmp_path / "theirs"]
