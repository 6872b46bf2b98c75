"""A result as files: JSON, and a histogram log that other tools read."""

from dataclasses import asdict
from io import StringIO
from typing import Any

from perf.loadtest.buckets import histogram, unpack
from perf.loadtest.plan import Plan
from perf.loadtest.results import Latency, Result, behind

_MICROSECONDS_A_MILLISECOND = 1000.0


def as_json(plan: Plan, result: Result) -> dict[str, Any]:
    """Return the result as what ``json`` can write."""
    total = result.total
    return {
        "load": _load(plan),
        "elapsed_seconds": result.elapsed_seconds,
        "interrupted": result.interrupted,
        "asked_per_second": None if plan.closed else result.asked_per_second,
        "reached_per_second": result.reached_per_second,
        "success_percent": result.success_percent,
        "requests": {
            "due": total.due,
            "succeeded": total.succeeded,
            "failed": sum(total.failures.values()),
            "not_sent": total.not_sent,
            "unfinished": total.unfinished,
            "sent_again": total.sent_again,
        },
        "statuses": {str(status): total.statuses[status] for status in sorted(total.statuses)},
        "failures": total.failures,
        "examples": total.examples,
        "latency_ms": {
            "from_schedule": _latency(result.from_schedule),
            "from_send": _latency(result.from_send),
        },
        "received_bytes_per_second": result.received_bytes_per_second,
        "sent_bytes_per_second": result.sent_bytes_per_second,
        "generator": {
            "late_ms": _latency(result.late),
            "cpu_percent_a_worker": result.cpu_percent,
            "behind": behind(result),
        },
        "series": [_without_counts(asdict(row)) for row in result.series],
    }


def _load(plan: Plan) -> dict[str, Any]:
    request_line = plan.requests[0].partition(b"\r\n")[0].decode("latin-1")
    loop = (
        {"kind": "closed loop", "concurrency": plan.concurrency}
        if plan.closed
        else {
            "kind": "open loop",
            "arrivals": "constant" if plan.seed is None else "poisson",
            "seed": plan.seed,
            "stages": [asdict(stage) for stage in plan.stages],
            "connections_max": plan.connections_max,
            "waiting_max": plan.waiting_max,
        }
    )
    return {
        "url": plan.target.url,
        "method": request_line.partition(" ")[0],
        "bodies": len(plan.requests),
        **loop,
        "duration_seconds": plan.seconds,
        "warmup_seconds": plan.warmup_seconds,
        "timeout_seconds": plan.timeout_seconds,
        "workers": plan.workers,
    }


def _latency(latency: Latency | None) -> dict[str, float] | None:
    if latency is None:
        return None
    return {**latency.percentiles_ms, "max": latency.max_ms, "mean": latency.mean_ms}


def _without_counts(row: dict[str, Any]) -> dict[str, Any]:
    del row["packed"]
    return row


def histogram_log(result: Result, started: float) -> str:
    """Return an HdrHistogram log (version 1.2): one histogram a second, in microseconds.

    Times count from when a request was due. ``started`` is the time of the clock at the
    end of the warm-up; the largest value of a line is in milliseconds.
    """
    from hdrh.log import HistogramLogWriter

    text = StringIO()
    log = HistogramLogWriter(text)
    log.output_comment("[Times in microseconds from when a request was due]")
    log.output_log_format_version()
    # The writer's own output_start_time calls a method that does not exist (0.10.8).
    log.output_comment(f"[StartTime: {started:.3f} (seconds since epoch)]")
    log.output_legend()
    for row in result.series:
        made = histogram(unpack(row.packed))
        made.set_start_time_stamp(row.begin_seconds * 1000)
        made.set_end_time_stamp((row.begin_seconds + row.seconds) * 1000)
        log.output_interval_histogram(made, max_value_unit_ratio=_MICROSECONDS_A_MILLISECOND)
    return text.getvalue()
