"""The engine: one model at a time, what state it is in, and how it comes and goes."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any

from toolkit import repository as repositories
from toolkit.errors import ConfigError, RequestError, ToolkitError, VerificationError
from toolkit.gateway.engine import live_config, loading
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.loading import Wanted
from toolkit.gateway.engine.model import Kept, Model, made, stamp
from toolkit.gateway.engine.surroundings import Surroundings
from toolkit.gateway.exchange import Refused

_log = logging.getLogger(__name__)
_WINDOW = 100
_LOOK_SECONDS = 1.0
_LEAVE_SECONDS = 10.0


class State(StrEnum):
    """What the engine is doing; RUNNING while at least one request is under way."""

    INITIALIZING = "INITIALIZING"
    READY = "READY"
    RUNNING = "RUNNING"
    LOADING = "LOADING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


SERVING = frozenset({State.READY, State.RUNNING})


class Engine:
    """The engine. Made anywhere; ``start`` and all else belong to one event loop."""

    def __init__(self, around: Surroundings, config: Config) -> None:
        self.around = around
        self.config = config
        self.current: Model | None = None
        self.active = 0
        self.generation = 0
        self._changing = False
        self.began = monotonic()
        self._stage = State.INITIALIZING
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._turn = asyncio.Lock()
        self._healing: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._kept = Kept(around.folder)
        self._looked = monotonic()

    def ready(self) -> bool:
        """Whether predictions are taken, if there is a model."""
        return self.state in SERVING

    def mean_seconds(self) -> float | None:
        """Return how long Triton took, of late; None before the first answer."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

    def took(self, seconds: float) -> None:
        """Count an answer of Triton's, also one to a job."""
        self._seconds.append(seconds)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count a request as under way."""
        self.active += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.active -= 1
            if not self.active:
                self._idle.set()

    @property
    def state(self) -> State:
        """What the engine is doing."""
        return State.RUNNING if self._stage is State.READY and self.active else self._stage

    @property
    def throttled(self) -> bool:
        """Whether one more request is too many now."""
        if not (self.config.enable_throttling or self.around.pressed()):
            return False
        return self.active >= self.config.max_concurrent_requests

    async def changed_since(self, generation: int) -> bool:
        """Return whether the model is served otherwise than then; wait out a change under way."""
        if self._changing:
            async with self._turn:
                pass
        return self.generation != generation

    def lost(self, model: Model) -> None:
        """Serve ``model`` again, of which Triton knows nothing, as one that was started anew."""
        if model is self.current and (self._healing is None or self._healing.done()):
            self._healing = asyncio.create_task(self._heal(model))

    async def _heal(self, model: Model) -> None:
        async with self._turn:
            if model is not self.current:
                return
            try:
                await asyncio.to_thread(self._serve, model.name)
                _log.info("%s is served again", model.name)
            except (ToolkitError, OSError) as error:
                _log.error("%s is not served again: %s", model.name, error)

    def require_model(self) -> Model:
        """Return the loaded model; ``Refused`` with 503 or 400 where no prediction can be made."""
        model = self.loaded()
        if not self.ready():
            raise Refused(
                503, f"Engine not ready. Current state: {self.state}", ((b"retry-after", b"1"),)
            )
        if model is None:
            raise Refused(400, "No model loaded")
        return model

    def loaded(self) -> Model | None:
        """Return the loaded model, which may be one that another gateway has loaded."""
        self._look()
        return self.current

    # Its life.

    async def start(
        self,
        default_path: str | None = None,
        default_type: str | None = None,
        *,
        compiled: bool | None = None,
    ) -> None:
        """Take up the model that was loaded last, or load that of the settings.

        Nothing that goes wrong here is raised: it is logged, and the state is ERROR.
        """
        self.around.changed(self.config)
        kept = await asyncio.to_thread(self._kept.read)
        default = _resolved(default_path) if default_path else None
        if kept is not None and _still_wanted(kept, default):
            self.current = kept
            try:
                await self._take_up(kept)
            except (ToolkitError, OSError) as error:
                _log.error("the model %s is not served again: %s", kept.path, error)
                # A Triton that does not answer now will, and says so itself until then.
                if not (isinstance(error, ToolkitError) and error.retryable):
                    self.current, self._stage = None, State.ERROR
        if self.current is None and self._stage is not State.ERROR and default is not None:
            await self._load_default(default, default_type, compiled)
        if self._stage is State.INITIALIZING:
            self._stage = State.READY
        if self._stage is State.READY and kept is not None and not self._serves(kept):
            await self._drop(kept)

    def _serves(self, model: Model) -> bool:
        return self.current is not None and self.current.name == model.name

    async def _load_default(
        self, path: Path, default_type: str | None, compiled: bool | None
    ) -> None:
        if not path.is_file():  # noqa: ASYNC240  once, before anything is served
            _log.warning("DEFAULT_MODEL_PATH names %s, which is no file", path)
            return
        model_type = (default_type or "").strip().lower() or None
        if model_type is not None and model_type not in loading.MODEL_TYPES:
            _log.warning("DEFAULT_MODEL_TYPE %s is none that is known; it is found out", model_type)
            model_type = None
        # Whoever starts the gateway has named this very file.
        wanted = Wanted(
            path=path, root=path.parent, model_type=model_type, compiled=compiled, trusted=True
        )
        try:
            await self.load(wanted, default=True)
        except (ToolkitError, Refused, OSError) as error:
            _log.error("the model %s is not loaded: %s", path, error)

    async def load(self, wanted: Wanted, *, default: bool = False) -> Model:
        """Serve another model; the former one answers until then, and on if this one fails.

        Raises ``ToolkitError``s and ``Refused``.
        """
        async with self._turn:
            former, serves = self.current, self.current is not None and self.ready()
            self._stage = State.READY if serves else State.LOADING
            began = monotonic()
            try:
                told = await loading.publish(
                    wanted,
                    self._repository(),
                    self.config,
                    self.around.control,
                    self.around.load_seconds,
                )
            except BaseException:
                self._stage = State.READY if serves else State.ERROR
                raise
            self.current = model = made(wanted, told, monotonic() - began, default=default)
            self.generation += 1
            self._stage = State.READY
            self._seconds.clear()
            self.around.forget(model.name)
            try:
                await asyncio.to_thread(self._kept.write, model)
            except OSError as error:
                _log.error("%s will not be served again after a restart: %s", model.path, error)
            if former is not None and former.name != model.name:
                await self._drop(former)
            return model

    async def unload(self) -> Model | None:
        """Serve the model no more; return which one it was."""
        async with self._turn:
            await asyncio.to_thread(self._kept.write, None)
            former, self.current = self.current, None
            self.generation += 1
            self._stage = State.READY
            if former is not None:
                await self._drop(former)
            return former

    async def restart(self) -> None:
        """Serve the model from a new instance, once running requests are done; forget answers.

        Raises ``ToolkitError``s; the state is then ERROR.
        """
        async with self._turn:
            self._stage = State.STOPPING
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _LEAVE_SECONDS)
            self._stage = State.STOPPED
            try:
                if self.current is not None:
                    await asyncio.to_thread(self._unload, self.current.name)
                    self._stage = State.INITIALIZING
                    await asyncio.to_thread(self._serve, self.current.name)
            except BaseException:
                self._stage = State.ERROR
                raise
            self._seconds.clear()
            self.began = monotonic()
            self._stage = State.READY
            if self.current is not None:
                self.around.forget(self.current.name)

    async def update(self, wanted: Mapping[str, Any]) -> tuple[str, ...]:
        """Change the configuration; return a note for each part that has to wait.

        Raises ``ToolkitError``s; the configuration is then as before.
        """
        async with self._turn:
            config = self.config.changed(wanted)
            notes: tuple[str, ...] = ()
            if self.current is not None and _concerns_triton(wanted):
                found = await self._apply(self.current, config)
                notes = tuple(note for note in found if _names(note, wanted))
            if self.current is not None and "enable_quantization" in wanted:
                notes = (*notes, _QUANTIZATION)
            self.config = config
            self.around.changed(config)
            return notes

    async def _apply(self, model: Model, config: Config) -> tuple[str, ...]:
        entry = await asyncio.to_thread(repositories.find, self._repository(), model.name)
        self._changing = True
        try:
            return await asyncio.to_thread(live_config.apply, entry, config, self.around.control)
        finally:
            self._changing = False
            self.generation += 1
            self.around.forget(model.name)

    async def validate(self) -> Mapping[str, Any]:
        """Ask the model for its first proof rows; return what is true of it."""
        model = self.require_loaded()
        results: dict[str, Any] = {
            "valid": True,
            "input_features": model.input_features,
            "output_shape": list(model.output_shape),
            "version": model.version,
        }
        try:
            results["rows_checked"] = await asyncio.to_thread(self._check, model.name)
        except RequestError as error:
            if error.retryable:
                raise
            results |= {"valid": False, "error": str(error)}
        except (VerificationError, ConfigError) as error:
            results |= {"valid": False, "error": error.message}
        return results

    def require_loaded(self) -> Model:
        """Return the loaded model whatever the state; ``Refused`` with 400 without one."""
        model = self.loaded()
        if model is None:
            raise Refused(400, "No model loaded")
        return model

    async def close(self) -> None:
        """End what is under way; the model stays served."""
        if self._healing is not None:
            self._healing.cancel()
            with suppress(asyncio.CancelledError):
                await self._healing

    # How it does that.

    def _repository(self) -> Path:
        if self.around.repository is None:
            raise ConfigError(
                "the gateway knows no model repository to write to",
                hint="set MODEL_REPOSITORY to the folder that Triton serves",
            )
        return self.around.repository

    async def _drop(self, former: Model) -> None:
        self.around.forget(former.name)
        try:
            await loading.remove(former.name, self.around.repository, self.around.control)
        except ToolkitError as error:
            _log.warning("%s is not unloaded: %s", former.name, error.message)

    async def _take_up(self, kept: Model) -> None:
        entry = await asyncio.to_thread(repositories.find, self._repository(), kept.name)
        await asyncio.to_thread(live_config.serve, entry, self.around.control)
        await asyncio.to_thread(live_config.apply, entry, self.config, self.around.control)

    def _serve(self, name: str) -> None:
        entry = repositories.find(self._repository(), name)
        live_config.serve(entry, self.around.control)

    def _unload(self, name: str) -> None:
        with self.around.control() as client:
            client.unload(name)

    def _check(self, name: str) -> int:
        from toolkit.verify import canary

        with self.around.control() as client:
            return canary(client, repositories.find(self._repository(), name))

    def _look(self) -> None:
        """See, now and then, whether another gateway has loaded another model."""
        now = monotonic()
        if now - self._looked < _LOOK_SECONDS or self._turn.locked():
            return
        self._looked = now
        if self._kept.changed():
            self.current = self._kept.read()
            if self._stage is State.ERROR and self.current is not None:
                self._stage = State.READY


_ON_TRITON = frozenset({"enable_batching", "max_batch_size", "batch_timeout", "num_threads"})
_QUANTIZATION = "enable_quantization: takes effect with the next POST /models/load"


def _concerns_triton(wanted: Mapping[str, Any]) -> bool:
    return bool(_ON_TRITON & wanted.keys())


def _names(note: str, wanted: Mapping[str, Any]) -> bool:
    return any(name in note for name in wanted)


def _resolved(path: str) -> Path:
    return Path(path).resolve()


def _still_wanted(kept: Model, default: Path | None) -> bool:
    """Whether the model of the last time counts, or what the settings name by now."""
    if not kept.default:
        return True
    return default is not None and kept.path == str(default) and kept.stamp == stamp(default)
