"""Rules about what arrives: whether it overlaps, how many rows it has, whether it fails."""

from perf.advice.batching import MOSTLY
from perf.advice.evidence import Evidence
from perf.advice.found import Advice, micros, percent
from perf.candidates import Candidate

FEW_REQUESTS = 30
"""Fewer requests have no mean to advise by."""

ONE_AT_A_TIME = 1.05
"""Requests in the mean execution below which they hardly ever overlap."""

WAITS_FOR_ANSWERS = 0.4
LONE = 1.2
"""Requests under way of a caller who asks again as soon as there is an answer: about half of
one over HTTP, where the wire takes the other half, and no more than one."""

CHEAPER = 2.0
"""How many times cheaper a row must be in another batch before rows are worth regrouping: on
a machine that is at work the means of one size differ by half."""

HALF = 0.5

LARGEST_REQUEST = 64
"""Rows a request to try where no larger batch was seen yet."""

HALF_A_MINUTE_US = 30_000_000
"""A longer limit is not what requests fail of."""

FULL_QUEUE = 0.5
"""A queue that is half full in the mean is full now and then: 32 callers kept one of 16 at 11."""

ROOMIER = 8


def no_traffic(seen: Evidence) -> Advice | None:
    """Say that there is nothing to advise by."""
    asked = seen.counted.requests + seen.counted.failures
    if asked >= FEW_REQUESTS:
        return None
    model = seen.setting.model
    some = f"only {asked} request(s)" if asked else "no request"
    return Advice(
        kind="too_little_traffic" if asked else "no_traffic",
        title="Too little traffic to advise by" if asked else "There is no traffic",
        why=f"{some} came for {model!r} in the time that was looked at; {FEW_REQUESTS} are the"
        " least that say something",
        change=(
            f"while your callers are at work: toolkit perf advise {model} --seconds 60",
            f"what came since the server started: toolkit perf advise {model} --since-start",
            f"or make a load: toolkit perf run {model} --concurrency-range 32",
        ),
    )


def failures(seen: Evidence) -> Advice | None:
    """Say how many requests fail, and what the queue's time limit has to do with it.

    Triton 2.51 counts what was too late or failed in the model, and not what a full queue
    refused.
    """
    counted, setting = seen.counted, seen.setting
    if not counted.failures:
        return None
    asked = counted.requests + counted.failures
    why = (
        f"{counted.failures:,} of {asked:,} requests failed"
        f" ({100 * counted.failures / asked:.1f} %)"
    )
    change = [f"see what the server says: toolkit logs, toolkit verify {setting.model}"]
    if 0 < setting.timeout_us <= HALF_A_MINUTE_US:
        why += (
            f"; a request may wait {micros(setting.timeout_us)} (default_timeout_microseconds), and"
            f" the mean one waits {micros(counted.mean_queue_us)}"
        )
        change.append("if they wait too long: raise default_timeout_microseconds, or serve faster")
    return Advice(
        kind="failures", title="Requests fail", why=why, change=tuple(change), urgent=True
    )


def queue_is_full(seen: Evidence) -> Advice | None:
    """Say that the queue's limit is reached, which Triton does not count."""
    setting, waiting, limit = seen.setting, seen.waiting, seen.setting.max_queue_size
    if not limit or not waiting >= FULL_QUEUE * limit:
        return None
    larger = max(ROOMIER * limit, setting.max_batch_size)
    size = f"max_queue_size: {larger}"
    return Advice(
        kind="queue_is_full",
        title="The queue is full: requests are refused, and Triton does not count them",
        why=f"{waiting:.1f} requests wait on average and max_queue_size lets {limit} wait; what"
        f" comes then is answered with 503. {seen.counted.requests:,} were answered, after"
        f" {micros(seen.counted.mean_queue_us)} in the queue. With this limit the batcher of"
        " Triton 2.51 can miss requests besides, and sleep on for up to 500 ms",
        change=(
            f"in config.pbtxt: dynamic_batching {{ default_queue_policy {{ {size} }} }}",
            f"or convert again with: --max-queue-size {larger} (0: no limit)",
            f"then: toolkit deploy {setting.model}",
            "callers that were refused should wait before they ask again, as Client does",
        ),
        urgent=True,
    )


def one_at_a_time(seen: Evidence) -> Advice | None:
    """Say that the callers never overlap, so that no setting of the batcher can help."""
    counted = seen.counted
    lone = WAITS_FOR_ANSWERS <= seen.in_flight <= LONE
    if not (lone and seen.requests_per_execution < ONE_AT_A_TIME):
        return None
    return Advice(
        kind="no_concurrency",
        title="Requests come one at a time: the server cannot join them",
        why=f"{seen.in_flight:.1f} are under way on average and {counted.executions:,} executions"
        f" served {counted.requests:,} requests, so {counted.requests_per_second:,.0f} a second is"
        f" what one caller gets who waits for each answer"
        f" ({micros(counted.mean_request_us)} of it in the server)",
        change=(
            (
                "for more, ask for several at a time: Client.predict_many(…, max_in_flight=8), or"
                " toolkit predict --concurrency 8"
            ),
            f"or send more rows a request ({counted.rows_per_request:.0f} now)",
        ),
    )


def larger_requests(seen: Evidence) -> Advice | None:
    """Advise more rows a request where a row is cheaper in larger executions."""
    counted, setting = seen.counted, seen.setting
    if not setting.max_batch_size or counted.rows_per_request * 2 > setting.max_batch_size:
        return None
    best, cheaper = seen.cheapest()
    # Where the batcher joins enough already, regrouping in the client gains nothing more.
    if best > counted.mean_batch_size and cheaper >= CHEAPER:
        now = counted.mean_execution_us / counted.mean_batch_size
        why = (
            f"a row costs {micros(now)} in the mean execution of {counted.mean_batch_size:.1f}"
            f" rows, and {micros(now / cheaper)} in one of {best} or more"
        )
        return _send(seen, best, why, cheaper)
    if counted.hand_over_share > HALF:
        why = (
            f"{percent(counted.hand_over_share)} of an execution of"
            f" {micros(counted.mean_execution_us)} goes into handing tensors over,"
            f" request by request, and a request has {counted.rows_per_request:.0f} row(s)"
        )
        return _send(seen, min(LARGEST_REQUEST, setting.max_batch_size), why, None)
    return None


def _send(seen: Evidence, rows: int, why: str, gain: float | None) -> Advice:
    sent = f"Client.predict(model, rows), toolkit predict --batch-size {rows}"
    change = [f"send about {rows} rows a request: {sent}"]
    if seen.setting.python_based and seen.setting.backend != "python":
        change.append(
            f"or serve it by the C++ backend of {seen.setting.backend}, which needs no hand-over"
            " between processes: toolkit deploy --target compose"
        )
    return Advice(
        kind="larger_requests",
        title="Send more rows a request",
        why=why,
        change=tuple(change),
        gain=gain,
    )


def smaller_batches(seen: Evidence) -> Advice | None:
    """Advise a smaller ``max_batch_size`` where large executions cost more a row."""
    counted, setting = seen.counted, seen.setting
    best, dearer = seen.cheapest()
    least = 2 * best - 1
    if not setting.dynamic_batching or dearer < CHEAPER or least >= setting.max_batch_size:
        return None
    if not counted.rows_per_request <= best <= MOSTLY * counted.mean_batch_size:
        return None
    return Advice(
        kind="smaller_batches",
        title=f"Let no more than {least} rows go in one execution",
        why=f"a row costs {dearer:.1f} times as much in the mean execution of"
        f" {counted.mean_batch_size:.1f} rows as in those of {best} to {least}",
        candidate=Candidate(max_batch_size=least),
        gain=dearer,
    )


def ensemble(seen: Evidence) -> Advice | None:
    """Say that an ensemble's work is done by its steps."""
    steps = seen.setting.ensemble
    if not steps:
        return None
    return Advice(
        kind="ensemble",
        title="This is an ensemble: look at its steps",
        why=f"it computes nothing itself; a request takes {micros(seen.counted.mean_request_us)}"
        f" through {len(steps)} model(s)",
        change=tuple(f"toolkit perf advise {step}" for step in steps),
    )
