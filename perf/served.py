"""A served model under changing configurations, left as it was found."""

import fcntl
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Self

import platformdirs

from perf import configuration
from perf.candidates import Candidate
from perf.target import Target
from toolkit.errors import DeployError, ModelNotServedError, ServerError, ToolkitError
from toolkit.repository import CONFIG

_LOAD_SECONDS = 120.0
_LIVE_SECONDS = 5.0


class ServedModel:
    """A model whose configuration is changed on the running server; a context manager.

    What was served is put back at the end, whatever ended the block. If the process is
    killed, a note on the disk remembers what was served, and the next ``ServedModel`` of the
    same server and model finds it.

    Raises ``DeployError`` when another process is changing the same model, and what
    ``Client.config`` raises.
    """

    def __init__(self, target: Target, model: str) -> None:
        self.model = model
        self._note = _Note(target, model)
        self._client = target.client(timeout=_LOAD_SECONDS)
        try:
            now = dict(self._client.config(model))
        except BaseException:
            self._close()
            raise
        self.original = self._note.original(now)
        self.changed = not configuration.same(now, self.original)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.restore()
        except ToolkitError:
            # What ended the block is worth more: a server that died, most often, and that
            # forgets what it was told.
            if kind is None:
                raise
        finally:
            self._close()

    def load(self, candidate: Candidate) -> None:
        """Serve ``candidate``; return when the model is ready.

        Raises ``ConfigError`` where the model has no room for it, ``ModelNotServedError``
        when Triton refuses it; the model then goes on as it was.
        """
        self.load_config(configuration.changed(self.original, candidate))

    def load_config(self, config: Mapping[str, Any]) -> None:
        """Serve a whole configuration, in Triton's JSON; see ``load``."""
        if not self.changed:
            self._note.write(self.original)
            self.changed = True
        self._load(config)

    def server_lives(self) -> bool:
        """Whether the server answers, within a few seconds."""
        return self._client.is_live(timeout=_LIVE_SECONDS)

    def restore(self) -> None:
        """Serve what was served at the beginning, without a gap.

        Raises ``RequestError`` when the server cannot be reached; the note stays, and the
        next ``ServedModel`` makes up for it.
        """
        if self.changed:
            self._load(self.original)
            self.changed = False
        self._note.remove()

    def _close(self) -> None:
        self._client.close()
        self._note.close()

    def _load(self, config: Mapping[str, Any]) -> None:
        try:
            self._client.load(self.model, config=config)
        except ServerError as error:
            raise ModelNotServedError(
                f"Triton does not serve {self.model!r} so: {' '.join(error.message.split())}",
                hint=error.hint,
            ) from error


class _Note:
    """What was served before the first change, on the disk; its lock is held by who changes."""

    def __init__(self, target: Target, model: str) -> None:
        key = sha256(f"{target.http_url or target.grpc_url}\n{model}".encode()).hexdigest()[:16]
        folder = platformdirs.user_state_path("triton-companion") / "tuning"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{key}.json"
        self._file = None if target.entry is None else target.entry.path / CONFIG
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise DeployError(
                f"another toolkit perf is changing the configuration of {model!r} just now",
                hint="wait until it has ended",
            ) from None

    def close(self) -> None:
        os.close(self._lock)

    def original(self, now: dict[str, Any]) -> dict[str, Any]:
        """Return what was served before a process that was killed changed it, else ``now``."""
        try:
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            original = dict(noted["original"])
            # What the owner of the model has written and loaded since is theirs to keep.
            theirs = noted["file"] != self._digest() or not configuration.same_but_for_candidates(
                original, now
            )
        except (OSError, ValueError, KeyError, TypeError):
            return now
        return now if theirs else original

    def write(self, original: Mapping[str, Any]) -> None:
        temporary = self._path.with_suffix(".new")
        noted = {"original": original, "file": self._digest()}
        temporary.write_text(json.dumps(noted), encoding="utf-8")
        temporary.replace(self._path)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _digest(self) -> str | None:
        if self._file is None or not self._file.is_file():
            return None
        return sha256(self._file.read_bytes()).hexdigest()
