import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import runtime
from toolkit.errors import RuntimeNotReadyError
from toolkit.runtime import machine
from toolkit.runtime import wheels as pinned
from toolkit.runtime.numpy2 import stub_for_numpy


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels, as one carries to a machine without a network."""
    folder = tmp_path_factory.mktemp("wheels")
    pinned._download(folder)
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_installs_from_a_folder_of_wheels_without_a_network_and_runs(
    wheels: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    there = runtime.install(wheels)
    assert there.root.is_relative_to(empty_cache)
    assert runtime.installed() == there
    assert runtime.check_runtime(there) == ()
    ended = subprocess.run(
        [str(there.server), "--help"],
        env=machine.environment(there),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--model-repository" in ended.stdout + ended.stderr


def test_the_perf_analyzer_that_comes_with_it_is_the_real_one(
    wheels: Path, empty_cache: Path
) -> None:
    there = runtime.install(wheels)
    ended = subprocess.run(
        [str(there.perf_analyzer), "--version"],
        env={"LD_LIBRARY_PATH": str(there.perf_libraries)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Perf Analyzer Version" in ended.stdout + ended.stderr


def test_installing_twice_does_nothing_the_second_time(wheels: Path, empty_cache: Path) -> None:
    stamp = runtime.install(wheels).root.stat().st_mtime_ns
    assert runtime.install(Path("nowhere")).root.stat().st_mtime_ns == stamp


def test_removing_it_removes_it(wheels: Path, empty_cache: Path) -> None:
    runtime.install(wheels)
    assert runtime.remove()
    assert runtime.installed() is None
    assert not runtime.remove()
    with pytest.raises(RuntimeNotReadyError, match="not installed") as caught:
        runtime.require()
    assert caught.value.hint == "toolkit runtime install"


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_nothing_is_installed(
    wheels: Path, empty_cache: Path, tmp_path: Path
) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(wheels, forged)
    with (forged / pinned.WHEELS[0].filename).open("ab") as file:
        file.write(b"more")
    with pytest.raises(RuntimeNotReadyError, match="not the wheel that was pinned"):
        runtime.install(forged)
    assert runtime.installed() is None
    assert list((empty_cache / "triton-companion/runtime").iterdir()) == []


def test_a_folder_without_the_wheels_says_how_to_get_them(
    empty_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeNotReadyError, match="does not hold nvidia_pytriton") as caught:
        runtime.install(tmp_path)
    assert "pip download --no-deps" in str(caught.value.hint)


def test_an_index_that_cannot_be_reached_is_told_in_one_line(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(RuntimeNotReadyError, match="pip could not fetch the runtime") as caught:
        runtime.install()
    assert "\n" not in caught.value.message
    assert "--from" in str(caught.value.hint)


def test_half_an_installation_counts_as_none(wheels: Path, empty_cache: Path) -> None:
    there = runtime.install(wheels)
    (there.root / "manifest.json").write_text("{")
    assert runtime.installed() is None
    assert runtime.installed() is None
    assert runtime.install(wheels).server.is_file()


def test_this_machine_can_run_it() -> None:
    assert runtime.check_machine() == ()


def test_a_missing_libpython_is_named_with_the_command_that_installs_it(
    wheels: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = runtime.install(wheels)
    library = f"libpython3.{sys.version_info.minor}.so.1.0"
    monkeypatch.setattr(machine, "_libpython_folder", lambda: None)
    # The program's own message, whether or not this system has a copy of its own.
    monkeypatch.setattr(subprocess, "run", refuses_to_start(library))
    problems = runtime.check_runtime(there)
    assert library in problems[0].what
    assert f"apt-get install libpython3.{sys.version_info.minor}" in problems[0].mend


def refuses_to_start(library: str) -> object:
    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        message = f"stub: error while loading shared libraries: {library}: cannot open"
        return subprocess.CompletedProcess([], 127, "", message)

    return run


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("platform.system", "Darwin", "runs on Linux x86_64"),
        ("platform.machine", "aarch64", "runs on Linux x86_64"),
        ("platform.libc_ver", ("glibc", "2.31"), "glibc 2.35 or newer"),
        ("platform.libc_ver", ("", ""), "glibc 2.35 or newer"),
        ("sys.version_info", (3, 14, 0), "Python 3.11 to 3.13"),
        ("shutil.disk_usage", 2**20, "has 1 MiB free"),
    ],
)
def test_a_machine_that_cannot_run_it_is_told_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, words: str
) -> None:
    free = type("Usage", (), {"free": value})
    answers = {"shutil.disk_usage": lambda _: free, "sys.version_info": value}
    monkeypatch.setattr(name, answers.get(name, lambda: value))
    (problem,) = runtime.check_machine()
    assert words in problem.what
    assert problem.mend


def test_too_little_disk_is_reported_before_anything_is_fetched(
    wheels: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Usage", (), {"free": 100 * 2**20})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(RuntimeNotReadyError, match="has 100 MiB free; the runtime needs 400"):
        runtime.install(wheels)


def test_a_stub_nobody_examined_is_not_used_with_numpy_2() -> None:
    assert stub_for_numpy(b"any stub", "1.26.4") == b"any stub"
    with pytest.raises(RuntimeNotReadyError, match="numpy 2"):
        stub_for_numpy(b"any stub", "2.4.6")
