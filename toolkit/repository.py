"""The model repository on disk: what Triton serves.

An entry is a folder: ``config.pbtxt``, ``warmup/`` and one numbered folder a version.
A new state of an entry is built aside and put in its place in one step, so whoever
reads the repository, at any moment and after any crash, finds the old or the new one.
"""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import file_digest
from pathlib import Path

from toolkit import pbtxt
from toolkit.artifact import Artifact
from toolkit.errors import RepositoryError
from toolkit.locking import locked
from toolkit.spec import RepositoryEntry, ServingConfig, check_model_name

CONFIG = "config.pbtxt"
WARMUP = "warmup"


class Change(StrEnum):
    """What writing an artifact did to the repository."""

    NEW_ENTRY = "new entry"
    NEW_VERSION = "new version"
    NEW_CONFIG = "new configuration"
    NOTHING = "nothing: the same model and configuration are there already"


@dataclass(frozen=True, slots=True)
class Written:
    """The entry as it stands after a write, and what the write changed."""

    entry: RepositoryEntry
    change: Change


def entries(repository: Path) -> tuple[RepositoryEntry, ...]:
    """Return every entry with at least one version, sorted by name.

    A folder that is missing is an empty repository.
    """
    if not repository.is_dir():
        return ()
    found = (_read_entry(path) for path in sorted(repository.iterdir()))
    return tuple(entry for entry in found if entry is not None)


def find(repository: Path, name: str) -> RepositoryEntry:
    """Return the entry called ``name``; raise ``RepositoryError`` when there is none."""
    check_model_name(name)
    entry = _read_entry(repository / name)
    if entry is None:
        known = ", ".join(entry.name for entry in entries(repository)) or "none"
        msg = f"{repository} holds no model {name!r} (it holds: {known})"
        raise RepositoryError(msg, hint="toolkit convert MODEL_FILE --name " + name)
    return entry


def write(repository: Path, artifact: Artifact, serving: ServingConfig) -> Written:
    """Write ``artifact`` as the next version of its entry, in one step.

    The same files under the same configuration write nothing; the same files under
    another configuration change ``config.pbtxt`` alone. Versions only grow.

    Raises:
        RepositoryError: the repository cannot be written (read-only, full, a file is
            in the way); it is left as it was.
        ConfigError: the serving options do not fit the model.
    """
    config = pbtxt.to_text(artifact.spec, serving, artifact.warmup)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with locked(repository):
            try:
                with _staging(repository) as staging:
                    return _write(repository, staging, artifact, config)
            except OSError as error:
                # A bind mount looks like the disk beside it until something is moved.
                if error.errno != errno.EXDEV:
                    raise
                with _staging(repository, inside=True) as staging:
                    return _write(repository, staging, artifact, config)
    except OSError as error:
        raise _write_failed(repository, error) from error


def _write(repository: Path, staging: Path, artifact: Artifact, config: str) -> Written:
    target = repository / artifact.spec.name
    current = _read_entry(target)
    if current is None and target.exists():
        raise RepositoryError(
            f"{target} is in the way: it is not a model entry",
            hint="move it elsewhere or choose another --name",
        )
    same_model = current is not None and _same_files(current.latest, artifact)
    if same_model and _same_config(target, config, artifact):
        assert current is not None
        return Written(current, Change.NOTHING)
    version = 1 if current is None else current.versions[-1] + (not same_model)
    built = staging / artifact.spec.name
    _build(built, current, artifact, config, version)
    _put_in_place(built, target)
    change = Change.NEW_CONFIG if same_model else Change.NEW_VERSION
    written = _read_entry(target)
    assert written is not None
    return Written(written, change if current else Change.NEW_ENTRY)


def _build(
    built: Path,
    current: RepositoryEntry | None,
    artifact: Artifact,
    config: str,
    version: int,
) -> None:
    """Build the whole next state of an entry in ``built``."""
    built.mkdir()
    for child in current.path.iterdir() if current else ():
        # Versions never change once written, so the next state shares their files, and
        # whatever else the user keeps in the entry.
        if child.is_dir() and child.name != WARMUP:
            shutil.copytree(child, built / child.name, copy_function=_link_or_copy)
        elif child.is_file() and child.name != CONFIG:
            _link_or_copy(str(child), str(built / child.name))
    folder = built / str(version)
    if not folder.exists():
        folder.mkdir()
        for name, source in artifact.files.items():
            shutil.copyfile(source, folder / name)
    if artifact.warmup:
        (built / WARMUP).mkdir()
        for name, row in artifact.warmup.items():
            (built / WARMUP / pbtxt.warmup_file(name)).write_bytes(row.data)
    (built / CONFIG).write_text(config, encoding="utf-8")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _read_entry(path: Path) -> RepositoryEntry | None:
    if path.name.startswith(".") or not path.is_dir():
        return None
    versions = sorted(
        int(child.name)
        for child in path.iterdir()
        # Triton reads a folder as a version when its name is a number above 0.
        if child.name.isdecimal() and int(child.name) > 0 and child.is_dir()
    )
    return RepositoryEntry(path.name, path, tuple(versions)) if versions else None


def _same_files(folder: Path, artifact: Artifact) -> bool:
    # A server that may write here leaves its compiled Python beside model.py.
    if {path.name for path in folder.iterdir() if path.is_file()} != set(artifact.files):
        return False
    return all(_hash(folder / name) == _hash(source) for name, source in artifact.files.items())


def _same_config(entry: Path, config: str, artifact: Artifact) -> bool:
    path = entry / CONFIG
    if not path.is_file() or path.read_text(encoding="utf-8") != config:
        return False
    rows = {entry / WARMUP / pbtxt.warmup_file(n): r.data for n, r in artifact.warmup.items()}
    return all(file.is_file() and file.read_bytes() == data for file, data in rows.items())


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return file_digest(file, "sha256").digest()


@contextmanager
def _staging(repository: Path, *, inside: bool = False) -> Iterator[Path]:
    """Give a folder on the repository's file system to build the next state in.

    It stands beside the repository where that is possible, because Triton takes every
    folder inside, hidden ones too, for a model (seen in 2.51.0).
    """
    repository = repository.resolve()
    beside = repository.parent
    same_disk = beside.stat().st_dev == repository.stat().st_dev and not inside
    home = beside if same_disk and os.access(beside, os.W_OK) else repository
    staging = home / f".{repository.name}.staging"
    _restore(staging, repository)
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _restore(staging: Path, repository: Path) -> None:
    """Clear what a killed writer left; put back an entry it had just moved away."""
    for moved in staging.glob("*.old"):
        target = repository / moved.name.removesuffix(".old")
        if not target.exists():
            moved.rename(target)
    shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(built: Path, target: Path) -> None:
    """Make ``built`` the entry at ``target``, in one step where the disk can do that."""
    if not target.exists():
        built.rename(target)
        return
    try:
        _exchange(built, target)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
            raise
        old = built.with_name(built.name + ".old")
        target.rename(old)
        try:
            built.rename(target)
        except OSError:
            old.rename(target)
            raise


_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def _exchange(first: Path, second: Path) -> None:
    """Swap two folders atomically: renameat2(2) with RENAME_EXCHANGE."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(first), os.fsencode(second)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(first))


def _write_failed(repository: Path, error: OSError) -> RepositoryError:
    reason = error.strerror or str(error)
    hints = {
        errno.EACCES: f"give yourself write access: chmod u+w {repository}",
        errno.EROFS: "the file system is mounted read-only; choose another --repository",
        errno.ENOSPC: "free some space, or choose another --repository",
        errno.EFBIG: "the limit on the size of files is too low: ulimit -f unlimited",
        errno.EDQUOT: "your disk quota is used up; free some space",
    }
    hint = hints.get(error.errno or 0)
    return RepositoryError(f"cannot write to {repository}: {reason}; it is unchanged", hint=hint)
