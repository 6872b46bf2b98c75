"""The gateway itself: all that its routes share, opened and closed as one."""

import asyncio
import json
import logging
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import platformdirs

from toolkit.client.transport import IndexedModel, InferRequest
from toolkit.deploy import state
from toolkit.errors import (
    ConfigError,
    InvalidInputError,
    RequestError,
    ToolkitError,
    UnknownModelError,
)
from toolkit.gateway import features, passing, predicting
from toolkit.gateway.access_log import AccessLog
from toolkit.gateway.breaker import Breaker, counts
from toolkit.gateway.caches import Cache
from toolkit.gateway.calling import Calls
from toolkit.gateway.engine.live_config import Config
from toolkit.gateway.engine.state import Engine
from toolkit.gateway.engine.surroundings import Surroundings, Told
from toolkit.gateway.exchange import Asked
from toolkit.gateway.features import Tensors
from toolkit.gateway.flights import Flights
from toolkit.gateway.jobs.schema import Job, triton_priority
from toolkit.gateway.jobs.store import JobStore
from toolkit.gateway.jobs.worker import Worker
from toolkit.gateway.joining import Group, Joiner
from toolkit.gateway.keys import Keys
from toolkit.gateway.metrics import Metrics
from toolkit.gateway.models import Models
from toolkit.gateway.predicting import Answer
from toolkit.gateway.pressure import Pressure
from toolkit.gateway.rates import Rate, Rates
from toolkit.gateway.settings import Settings
from toolkit.gateway.throttle import Throttle
from toolkit.gateway.ui.live import Live
from toolkit.gateway.ui.state import JOBS, Jobs
from toolkit.gateway.upstream import Upstream
from toolkit.gateway.v2_grpc import V2Grpc
from toolkit.gateway.v2_http import V2Http

_log = logging.getLogger(__name__)

_MOST_CONVERTED = 1000
_LIST_SECONDS = 5.0
_OF_THE_ENGINE = frozenset(
    {"/models/load", "/models", "/config", "/restart", "/cache/clear", "/predict/async"}
)
"""What a key for some models may only do while the engine's model is one of them."""

_GRACE_SECONDS = 5.0
_LEAST_SECONDS = 0.001
_OK = 200
STATE = "/ui/state"
LIMITED = frozenset({"predict_batched"})
"""Endpoints that each address may ask only so often; the rate of a key is for them all."""


class Gateway:
    """Everything behind the routes.

    ``results`` are answers that are kept, ``converted`` features as arrays; both are None
    while nothing is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.upstream = Upstream(settings)
        self.keys = Keys.of(settings)
        self.rates = Rates()
        self.rate = Rate(settings.max_requests, settings.requests_period_seconds)
        self.pressure = Pressure(
            settings.max_concurrent_requests,
            strategy=settings.back_pressure,
            queue_size=settings.back_pressure_queue_size,
            timeout_seconds=settings.back_pressure_timeout_seconds,
        )
        self.breaker = (
            Breaker(
                threshold=settings.circuit_breaker_failure_threshold,
                recovery_seconds=settings.circuit_breaker_recovery_timeout,
            )
            if settings.circuit_breaker
            else None
        )
        self.results: Cache | None = None
        self.converted: Cache | None = None
        if settings.engine_enable_cache:
            self.keep(settings.engine_max_cache_entries, settings.engine_cache_ttl_seconds)
        self.flights: Flights[Answer] = Flights()
        self.joiner = Joiner(self.infer)
        self.models = Models(lambda: self.upstream.client, self.index, self.changed)
        self.throttle = Throttle(settings.engine_max_concurrent_requests, relieve=self.clear)
        self.loaded: tuple[str, ...] = ()
        home = _home(settings)
        self.engine = Engine(
            Surroundings(
                repository=self.upstream.repository,
                folder=home,
                model_dir=settings.model_dir,
                ask=self._ask,
                control=self.upstream.blocking_control,
                allow_pickle=settings.allow_pickle,
                forget=self.models.forget,
                changed=lambda config: self.keep(
                    config.max_cache_entries if config.enable_cache else 0,
                    config.cache_ttl_seconds,
                ),
                pressed=lambda: self.throttle.active,
            ),
            Config.of(settings),
        )
        url = settings.job_store_url
        self.jobs = JobStore(url.get_secret_value() if url else f"sqlite:///{home / 'jobs.db'}")
        self.worker = Worker(
            self.jobs,
            self._run,
            concurrency=settings.max_workers,
            ttl_seconds=settings.job_ttl_seconds,
            available=lambda: self.upstream.client.is_ready(timeout=2.0),
        )
        self.v2: V2Http
        self.calls: Calls
        self._grpc: V2Grpc | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics(self.models.knows)
        self.live = Live(
            lambda: self.pressure.queue_length + self.joiner.waiting,
            lambda: self.pressure.current_load,
        )
        self.log = AccessLog(settings.log_directory)
        self._watch()

    def caches(self) -> dict[str, Cache | None]:
        """Return the caches by their names."""
        return {"result": self.results, "feature": self.converted}

    def keep(self, entries: int, ttl_seconds: float) -> None:
        """Keep so many answers for so long from now on; 0 keeps none."""
        if not entries:
            self.results = self.converted = None
            return
        if self.results is None or self.converted is None:
            self.results = Cache(entries, ttl_seconds)
            self.converted = Cache(min(entries, _MOST_CONVERTED), ttl_seconds)
            return
        self.results.resize(entries)
        self.converted.resize(min(entries, _MOST_CONVERTED))
        for cache in (self.results, self.converted):
            cache.set_ttl(ttl_seconds)

    async def open(self) -> None:
        """Find or start the Triton. Raises ``ToolkitError``s."""
        await self.upstream.open()
        try:
            await self._open_roads()
        except BaseException:
            await self.upstream.close()
            raise
        settings = self.settings
        asked = "default_compile_model" in settings.model_fields_set
        starting = self.engine.start(
            settings.default_model_path,
            settings.default_model_type,
            compiled=settings.default_compile_model if asked else None,
        )
        self._tasks = [
            asyncio.create_task(starting),
            asyncio.create_task(self._list_models()),
            asyncio.create_task(self.throttle.watch()),
        ]
        if self.settings.enable_async:
            self.worker.start()

    async def close(self) -> None:
        """Let go of everything."""
        self.pressure.shutdown()
        await self.worker.stop()
        await self.jobs.close()
        await self.engine.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.models.close()
        if self._grpc is not None:
            await self._grpc.stop(_GRACE_SECONDS)
        await self.v2.close()
        await self.calls.close()
        await self.upstream.close()
        self.log.close()

    def authorise(self, asked: Asked) -> None:
        """Look at the caller's key, and hold the key to its own rate. Raises ``Refused``."""
        key = asked.key = self.keys.identify(asked.headers)
        if key is None:
            return
        if key.rate is not None:
            self.rates.check(key.id, key.rate)
        if key.models and (asked.path in _OF_THE_ENGINE or asked.path.startswith("/jobs")):
            model = self.engine.current
            key.check_model(model.name if model is not None else "")

    def admit(self, asked: Asked) -> None:
        """Hold the caller to the models of its key and to its rate. Raises ``Refused``."""
        if asked.key is not None:
            asked.key.check_model(asked.model)
        if asked.endpoint in LIMITED:
            self.rates.check(asked.client, self.rate)

    async def infer(self, group: Group, tensors: Tensors, seconds: float) -> tuple[Tensors, str]:
        """Ask Triton within ``seconds``; return the outputs and the version that answered."""
        breaker = self.breaker
        if breaker is not None:
            breaker.before(group.model)
        models = self.models
        known = models.seen(group.model, group.version)
        if known is None:
            known = await models.get(group.model, group.version)
        call = InferRequest(group.model, tensors, group.version, (), None, group.priority)
        try:
            found = await self.calls.infer(call, known.signature, max(seconds, _LEAST_SECONDS))
        except RequestError as error:
            if isinstance(error, UnknownModelError):
                models.forget(group.model)
            elif isinstance(error, InvalidInputError):
                known.asked = 0.0  # somebody may have loaded it in another form
            if breaker is not None and counts(error):
                breaker.failure(group.model)
            raise
        if breaker is not None:
            breaker.success(group.model)
        return found

    def changed(self, model: str) -> None:
        """Forget what was kept of a model that is served in another form, or no more."""
        for cache in self.caches().values():
            if cache is not None:
                cache.forget(model)
        if self.breaker is not None:
            self.breaker.forget(model)
        _log.info("model %s is served in another form", model)

    async def _open_roads(self) -> None:
        """Open what passes the V2 protocol through. Raises ``ToolkitError``s."""
        settings, url = self.settings, self.upstream.grpc_url
        self.calls = Calls(self.upstream.http_url)
        self.v2 = V2Http(
            self.upstream.http_url,
            token=self.upstream.token,
            connections=512,
            max_depth=settings.max_json_depth,
            largest_bytes=settings.max_body_bytes,
        )
        if settings.grpc_port is None:
            return
        if url is None:
            raise ConfigError(
                "GATEWAY_GRPC_PORT needs the gRPC port of Triton", hint="set TRITON_GRPC_URL"
            )
        self._grpc = V2Grpc(
            url,
            partial(passing.check_call, self),
            token=self.upstream.token,
            largest_bytes=settings.max_body_bytes,
        )
        certificate = None
        if settings.ssl_certfile and settings.ssl_keyfile:
            files = (settings.ssl_certfile, settings.ssl_keyfile)
            certificate = files[0].read_bytes(), files[1].read_bytes()
        await self._grpc.serve(
            settings.api_host, settings.grpc_port, certificate=certificate, shared=True
        )

    def clear(self) -> None:
        """Forget all answers that are kept."""
        for cache in self.caches().values():
            if cache is not None:
                cache.clear()

    async def shown_jobs(self) -> Jobs:
        """Return how many jobs there are in each status, and the newest."""
        return Jobs(await self.jobs.counts(), await self.jobs.page(JOBS))

    def health(self) -> dict[str, Any]:
        """Return what ``GET /health`` tells beside the engine's state."""
        return {
            "loaded_models": list(self.loaded),
            "max_workers": self.settings.max_workers,
            "debug_mode": self.settings.api_debug,
            "log_directory": str(self.settings.log_directory or ""),
            "Semaphore_case": self.pressure.free,
        }

    def check(self, model: str, given: list[Any]) -> None:
        """Raise ``InvalidInputError`` where features do not fit a model that is known."""
        known = self.models.seen(model)
        if known is not None:
            features.tensors(given, known.signature)

    async def _ask(
        self, model: str, given: list[Any], /, *, request_id: str | None, cached: bool
    ) -> Told:
        """Ask the engine's model; Triton is told no id, for requests may go together."""
        del request_id
        known = await self.models.get(model)
        tensors = features.tensors(given, known.signature)
        answer = await predicting.predict(
            self,
            known,
            tensors,
            timeout=self.settings.predict_timeout_seconds,
            cached=cached,
        )
        return Told(
            features.predictions(answer.outputs),
            answer.outputs,
            answer.inference_seconds,
            answer.cached,
        )

    async def _run(self, job: Job) -> dict[str, Any]:
        """Answer a job within the time it has left."""
        known = await self.models.get(job.model, job.version)
        batching = known.signature.config.get("dynamic_batching") or {}
        priority = triton_priority(job.priority, int(batching.get("priority_levels", 0)))
        limit = self.settings.predict_timeout_seconds
        left = job.left_seconds
        answer = await predicting.predict(
            self,
            known,
            features.tensors(json.loads(job.features), known.signature),
            timeout=limit if left is None else max(min(limit, left), 0.001),
            version=job.version,
            priority=priority or None,
        )
        self.engine.took(answer.inference_seconds)
        return {
            "predictions": features.predictions(answer.outputs),
            "metadata": {"inference_time_ms": round(answer.inference_seconds * 1e3, 3)},
        }

    async def _list_models(self) -> None:
        """Look every few seconds which models are served."""
        while True:
            try:
                self.loaded = tuple(dict.fromkeys(one.name for one in await self.models.index()))
            except ToolkitError:
                self.loaded = ()
            await asyncio.sleep(_LIST_SECONDS)

    def _watch(self) -> None:
        """Tell Prometheus of what fills up."""
        watch = self.metrics.watch
        pressure = self.pressure
        watch(
            "gauge",
            "gateway_active_requests",
            "Predictions under way.",
            lambda: pressure.current_load,
        )
        watch(
            "gauge",
            "gateway_waiting_requests",
            "Predictions that wait for room.",
            lambda: pressure.queue_length,
        )
        watch(
            "gauge",
            "gateway_waiting_to_be_joined",
            "Predictions that wait for a call.",
            lambda: self.joiner.waiting,
        )
        watch(
            "counter",
            "gateway_log_lines_lost",
            "Lines that the log had no room for.",
            lambda: self.log.dropped,
        )
        self.metrics.watch_caches(self.caches)

    async def index(self) -> tuple[IndexedModel, ...]:
        """Return what Triton's repository holds, served or not."""
        async with self.upstream.control() as control:
            return await control.repository_index(timeout=5.0)

    def seen(self, asked: Asked, status: int, length: int) -> None:
        """Count and log a request that was answered."""
        if asked.endpoint:
            self.metrics.count(asked, status, asked.inference_seconds)
        self.live.count(asked, status)
        if asked.path != STATE or status != _OK:  # a page that is open asks every second
            self.log.write(asked, status, length, asked.error)


def _home(settings: Settings) -> Path:
    """Return the folder of what outlives the process: jobs, and which model is loaded."""
    if settings.triton_url is None:
        folder = state.folder(settings.model_repository) / "gateway"
    else:
        key = sha256(settings.triton_url.encode()).hexdigest()[:12]
        folder = platformdirs.user_state_path("triton-companion") / "gateways" / key
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
