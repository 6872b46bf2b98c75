"""The whole load test: try once, load, put together."""

import resource
from collections.abc import Callable
from dataclasses import replace

from perf.loadtest.first_request import first_request
from perf.loadtest.libraries import require
from perf.loadtest.plan import Plan
from perf.loadtest.recorder import Second
from perf.loadtest.results import Collector, Result
from toolkit.errors import ConfigError

_OTHER_FILES = 64


def run(plan: Plan, watch: Callable[[Second], None] | None = None) -> Result:
    """Load as planned and return what was measured, after Ctrl-C what was so far.

    ``plan.address`` may be empty: it is found by a first request, which must be answered
    as expected. ``watch`` gets each second once it is over.
    """
    from perf.loadtest import workers

    require()
    _allow_files(plan.connections)
    address = first_request(plan.target, plan.requests[0], plan.expected, plan.timeout_seconds)
    collector = Collector(plan.workers, watch)
    elapsed, interrupted = workers.run(replace(plan, address=address), collector.take)
    return collector.result(elapsed, interrupted=interrupted, closed=plan.closed)


def _allow_files(connections: int) -> None:
    """Raise the limit of open files as far as the system lets us; workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"{connections} connections need more open files than the {hard} allowed here",
            hint=f"--connections-max {hard - _OTHER_FILES}, or a higher `ulimit -n`",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
