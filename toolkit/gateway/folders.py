"""Files that callers name: only those inside one folder, whatever the name looks like."""

import logging
import os
import stat
from pathlib import Path

from toolkit.gateway.exchange import Refused

_log = logging.getLogger(__name__)

_SHOWN = 255


def inside(folder: Path, name: str) -> Path:
    """Return the real path of the plain file ``name``, relative to ``folder`` or absolute.

    Links are followed and their end counts; the path returned has none. ``Refused`` with 404
    for what does not exist, and with the same words for what is outside or no plain file, so
    that nobody can find out what else is there; the log says which it was.

    The path can still be exchanged before it is opened, but only by someone who may write in
    ``folder``, and who can put any file there without such a race. An open descriptor would
    close the gap; the loaders of the libraries take paths and go by their endings.
    """
    refusal = Refused(404, f"Model file not found: {name[:_SHOWN]}")
    try:
        # realpath, because Path.resolve has another error for a circle of links (3.11, 3.12).
        path = Path(os.path.realpath(folder / name, strict=True))
        mode = path.stat(follow_symlinks=False).st_mode
    except (OSError, ValueError) as error:  # ValueError: NUL, or no file name's characters
        raise refusal from error
    if not path.is_relative_to(os.path.realpath(folder)):
        _log.warning("refused the model file %r: it is outside MODEL_DIR", name[:_SHOWN])
        raise refusal
    if not stat.S_ISREG(mode):
        _log.warning("refused the model file %r: it is no plain file", name[:_SHOWN])
        raise refusal
    return path
