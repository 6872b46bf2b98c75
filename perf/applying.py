"""A winner written into its entry's ``config.pbtxt``."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from perf import configuration
from perf.candidates import Candidate
from toolkit import pbtxt
from toolkit.errors import ConfigError, RepositoryError
from toolkit.locking import locked
from toolkit.repository import CONFIG
from toolkit.spec import RepositoryEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What a candidate changes in a ``config.pbtxt``: the file before and after.

    ``comments`` says that the file holds comments, which protobuf's writer does not keep.
    """

    path: Path
    before: str
    after: str
    comments: bool

    def diff(self) -> str:
        """Return the change as a unified diff; empty when there is none."""
        lines = difflib.unified_diff(
            _written_anew(self.before).splitlines(),
            self.after.splitlines(),
            f"{self.path} (now)",
            f"{self.path} (tuned)",
            lineterm="",
        )
        return "\n".join(lines)


def edit(entry: RepositoryEntry, candidate: Candidate) -> Edit:
    """Return what ``candidate`` changes in the entry's file.

    Raises ``RepositoryError`` when there is no file, ``ConfigError`` when the file leaves to
    Triton what the candidate changes.
    """
    from google.protobuf import text_format

    path = entry.path / CONFIG
    try:
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RepositoryError(
            f"cannot read {path}: {error.strerror}", hint="write one with toolkit convert"
        ) from error
    message = pbtxt.parse_message(before)
    try:
        configuration.change(message, candidate)
    except ConfigError as error:
        raise ConfigError(
            f"{path} leaves to Triton what is to be changed: {error.message}",
            hint=f"write into it by hand: {candidate}",
        ) from error
    after = str(text_format.MessageToString(message))
    return Edit(path=path, before=before, after=after, comments="#" in _outside_quotes(before))


def apply(change: Edit) -> Path | None:
    """Write the change, in one step; return where a file with comments was kept, or None.

    Raises ``RepositoryError`` when the file has changed since it was read or cannot be
    written; it is then as it was.
    """
    path = change.path
    kept = path.with_name(f"{CONFIG}.before-tuning") if change.comments else None
    try:
        with locked(path.parent.parent):
            if path.read_text(encoding="utf-8") != change.before:
                raise RepositoryError(f"{path} was changed meanwhile", hint="tune again")
            if kept:
                kept.write_text(change.before, encoding="utf-8")
            temporary = path.with_name(f".{CONFIG}.new")
            temporary.write_text(change.after, encoding="utf-8")
            temporary.chmod(path.stat().st_mode)
            temporary.replace(path)
    except OSError as error:
        raise RepositoryError(f"cannot write {path}: {error.strerror}") from error
    return kept


def _written_anew(text: str) -> str:
    """Return the same configuration as protobuf writes it, so that a diff shows values only."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(pbtxt.parse_message(text)))


def _outside_quotes(text: str) -> str:
    pieces = text.replace('\\\\"', "").split('"')
    return "".join(pieces[::2])
