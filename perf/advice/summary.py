"""What was seen, in numbers: a table, and a sentence where nothing is wrong."""

import math
from typing import Any

from perf.advice.evidence import Evidence
from perf.advice.found import micros, percent
from perf.advice.setting import Machine, Setting
from perf.statistics import Snapshot


def observed(counted: Snapshot, setting: Setting, machine: Machine) -> dict[str, Any]:
    """Return the numbers under names with units, None for what is not known."""
    seen = Evidence(counted, setting, machine)
    lookups = counted.cache_hits + counted.cache_misses
    numbers: dict[str, Any] = {
        "seconds": counted.seconds,
        "requests": counted.requests,
        "failures": counted.failures,
        "requests_per_second": counted.requests_per_second,
        "requests_under_way": counted.mean_in_flight,
        "rows_per_request": counted.rows_per_request,
        "executions": counted.executions,
        "mean_batch_size": counted.mean_batch_size,
        "max_batch_size": setting.max_batch_size,
        "request_us": counted.mean_request_us,
        "queue_us": counted.mean_queue_us,
        "compute_input_us": counted.mean_compute_input_us,
        "compute_infer_us": counted.mean_compute_infer_us,
        "compute_output_us": counted.mean_compute_output_us,
        "queue_delay_us": setting.queue_delay_us if setting.dynamic_batching else None,
        "instances": seen.instances,
        "busy_share": seen.busy,
        "cores": machine.cores,
        "idle_cores": machine.idle_cores,
        "cache_hit_share": counted.cache_hits / lookups if lookups else None,
        "reloaded": counted.reloaded,
    }
    known = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in numbers.items()
    }
    known["batch_sizes"] = {str(rows): n for rows, n in counted.batch_sizes.items()}
    known["row_us_by_batch_size"] = {str(rows): us for rows, us in seen.row_us().items()}
    return known


def sentence(counted: Snapshot, setting: Setting, machine: Machine) -> str:
    """Say why there is nothing to change."""
    seen = Evidence(counted, setting, machine)
    if not counted.executions:
        return (
            f"nothing to change: the response cache answered all {counted.requests:,} requests, in"
            f" {micros(counted.mean_request_us)} each"
        )
    busy = (
        "" if math.isnan(seen.busy)
        else f"; the {seen.instances} instance(s) execute {percent(seen.busy)} of the time"
    )  # fmt: skip
    return (
        f"nothing to change: of the {micros(counted.mean_request_us)} of a request"
        f" {micros(counted.mean_queue_us)} are spent in the queue, no request failed, and"
        f" {seen.requests_per_execution:.1f} request(s) are joined in an execution of"
        f" {micros(counted.mean_execution_us)}{busy}"
    )
