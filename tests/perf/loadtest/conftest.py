"""Load in this process, and run the command as a person does."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from perf.loadtest.arrivals import Stage
from perf.loadtest.generator import generate
from perf.loadtest.plan import Plan
from perf.loadtest.recorder import Recorder
from perf.loadtest.request import build_requests, parse_url
from perf.loadtest.results import Collector, Result
from tests.perf.loadtest.server import Server
from toolkit import screen
from toolkit.loadtest_command import loadtest_command

Load = Callable[..., Result]


def planned(server: Server, *, rate: float = 0.0, seconds: float = 0.25, **changes: Any) -> Plan:
    """Plan a load on a server of a test: open loop with ``rate``."""
    target = parse_url(server.url)
    options: dict[str, Any] = {"warmup_seconds": 0.0, "timeout_seconds": 5.0, **changes}
    requests = options.pop("requests", build_requests(target, None, (), ()))
    stages = (Stage(seconds, rate, rate),) if rate else ()
    return Plan(target, "127.0.0.1", requests, stages, duration_seconds=seconds, **options)


@pytest.fixture
def load() -> Load:
    """Load a server from this process, without the trial, and return what was measured."""

    def load(server: Server, **changes: Any) -> Result:
        plan = planned(server, **changes)
        collector = Collector(1)

        async def main() -> None:
            start = time.monotonic() + 0.02 + plan.warmup_seconds
            end = start + plan.seconds
            recorder = Recorder(start, end, collector.take, closed=plan.closed)
            await generate(plan, 0, start, recorder, asyncio.Event())

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        return collector.result(plan.seconds, interrupted=False, closed=plan.closed)

    return load


@dataclass(frozen=True)
class Ended:
    """How the command ended and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``toolkit loadtest ARGUMENTS`` in this process."""

    def command(*arguments: object) -> Ended:
        code = 0
        try:
            loadtest_command().main([str(one) for one in arguments], standalone_mode=False)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except Exception as problem:  # noqa: BLE001 - as the command line does
            code = screen.failure(problem)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return command
