"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

from toolkit.errors import ConfigError


def write(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, then move it there, over what was there.

    Raises ``ConfigError`` for what ``check`` refuses.
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
    """Refuse a path that no file can be written to, before hours of work are put into it.

    Raises ``ConfigError`` for a folder that is not there, or is not ours to write to, and for
    a path that is a folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(
            f"{path} cannot be written: there is no folder {folder}", hint=f"mkdir -p {folder}"
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", hint="name a file in it, or another")
    if not os.access(folder, os.W_OK):
        raise ConfigError(
            f"{path} cannot be written: the folder {folder} is not yours to write to",
            hint="name a file in a folder that is",
        )
