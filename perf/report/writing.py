"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

from toolkit.errors import ConfigError


def write(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, then move it there, over what was there.

    Raises ``ConfigError`` for a folder that is not there, and for a path that is a folder.
    """
    check(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # mkstemp gives it to its owner alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check(path: Path) -> None:
    """Refuse a path that no file can be written to, before hours of work are put into it."""
    if not path.parent.is_dir():
        raise ConfigError(
            f"there is no folder {path.parent} to write {path.name} to",
            hint=f"mkdir -p {path.parent}",
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", hint=f"name a file, {path / 'report.html'}")
