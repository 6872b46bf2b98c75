"""What perf_analyzer wrote: its figures, or why there are none."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perf.bounded import Cause, Ended
from perf.measurement import Load
from toolkit.errors import ToolkitError

_UNSTABLE = 2  # Its exit code when the windows do not agree.
_MOST_LINES = 8
_STALE = "No valid requests recorded"


class MeasurementError(ToolkitError):
    """A measurement gave no figures."""


class UnstableError(MeasurementError):
    """The windows did not agree; there are figures, asked for with ``ANY_WINDOWS``."""


class ShortWindowsError(MeasurementError):
    """No request ended inside a window: the windows are too short."""


class OverloadedError(MeasurementError):
    """The server does not keep up with the rate; ``answered_per_second`` it did at first."""

    def __init__(
        self, message: str, *, hint: str | None = None, answered_per_second: float = math.nan
    ) -> None:
        super().__init__(message, hint=hint)
        self.answered_per_second = answered_per_second


@dataclass(frozen=True, slots=True)
class Window:
    """One window: inferences a second, and the latency that stability is judged by."""

    inferences_per_second: float
    latency_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One row of perf_analyzer's report, and what it says beside it. NaN is not said."""

    requests: int
    inferences_per_second: float
    mean_us: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    client_send_us: float
    client_receive_us: float
    network_us: float
    queue_us: float
    compute_input_us: float
    compute_infer_us: float
    compute_output_us: float
    overhead_us: float
    windows: tuple[Window, ...]

    def agree(self, percentage: float) -> bool:
        """Whether the last three windows differ by at most ``percentage``.

        The rule is perf_analyzer's: the largest over the smallest, in throughput and in
        latency.
        """
        last = self.windows[-3:]
        if len(last) < 3:  # noqa: PLR2004
            return False
        allowed = 1 + percentage / 100
        return all(
            min(values) > 0 and max(values) / min(values) <= allowed
            for values in (
                [window.inferences_per_second for window in last],
                [window.latency_us for window in last],
            )
        )


_PASS = re.compile(r"Pass \[\d+\] throughput: ([\d.e+]+) infer/sec\. \w+ latency: ([\d.e+]+) usec")


def windows(out: str) -> tuple[Window, ...]:
    """Return the windows that ``-v`` printed."""
    return tuple(Window(float(a), float(b)) for a, b in _PASS.findall(out))


def figures(report: str, out: str, load: Load) -> Figures:
    """Return what a report in CSV and the printed text say."""
    rows = list(csv.DictReader(io.StringIO(report)))
    if not rows:
        raise MeasurementError(f"perf_analyzer left an empty report at {load}")
    row = rows[-1]
    throughput = _number(row, "Inferences/Second", math.nan)
    if math.isnan(throughput):
        raise MeasurementError(f"perf_analyzer's report at {load} has no column Inferences/Second")
    parts = {name: _number(row, column, 0.0) for name, column in _PARTS.items()}
    mean = _number(row, "Avg latency", math.nan)
    if math.isnan(mean):
        # With --percentile the column is not there; the parts add up to it.
        mean = sum(parts.values())
    overhead = _said(out, r"overhead ([\d.]+) usec")
    requests = _said(out, r"Request count: (\d+)")
    network = max(parts.pop("network_us") - overhead, 0.0)  # Which holds the overhead.
    return Figures(
        requests=int(requests),
        inferences_per_second=throughput,
        mean_us=mean,
        **{f"p{p}_us": _number(row, f"p{p} latency", math.nan) for p in (50, 90, 95, 99)},
        **parts,
        network_us=network,
        overhead_us=overhead,
        windows=windows(out),
    )


_PARTS: Mapping[str, str] = {
    "client_send_us": "Client Send",
    "client_receive_us": "Client Recv",
    "network_us": "Network+Server Send/Recv",
    "queue_us": "Server Queue",
    "compute_input_us": "Server Compute Input",
    "compute_infer_us": "Server Compute Infer",
    "compute_output_us": "Server Compute Output",
}


def _number(row: Mapping[str, str | None], column: str, missing: float) -> float:
    try:
        return float(row.get(column) or missing)
    except ValueError:
        return missing


def _said(out: str, pattern: str) -> float:
    found = re.search(pattern, out)
    return float(found[1]) if found else 0.0


def failure(model: str, load: Load, ended: Ended) -> MeasurementError:
    """Return what became of a run without figures: what was asked, and why it failed."""
    asked = f"model {model!r} at {load}"
    said = lines(ended)
    everything = ended.out + ended.err
    if ended.stopped is None and _FAILED in everything:
        return MeasurementError(_told(f"{asked}: a request failed", said), hint=_hint(model, said))
    bounded = ended.stopped is not Cause.POINTLESS
    if load.request_rate is not None and bounded and _piled_up(load, ended):
        return _overloaded(asked, load, windows(ended.out))
    if ended.stopped is not None:
        what, hint = _STOPPED[ended.stopped]
        told = f"{asked}: perf_analyzer {what} after {ended.seconds:.0f} s"
        return MeasurementError(_told(told, said), hint=hint)
    if _STALE in everything:
        return ShortWindowsError(
            f"{asked}: no request began and ended inside a window",
            hint="--measurement-interval with more milliseconds than ten requests take",
        )
    if ended.code == _UNSTABLE and "stable measurement" in everything:
        return UnstableError(f"{asked}: the windows did not agree")
    if not said:
        said = [f"it ended with code {ended.code} and said nothing"]
    return MeasurementError(_told(f"{asked}: perf_analyzer failed", said), hint=_hint(model, said))


_STOPPED: Mapping[Cause, tuple[str, str]] = {
    Cause.TIME: (
        "had not ended",
        "--time-limit for longer, --measurement-interval for shorter windows",
    ),
    Cause.POINTLESS: ("was ended, as the server had,", "toolkit status; toolkit logs"),
    Cause.MEMORY: ("grew over its memory limit", "a lower concurrency or a smaller batch"),
}


def _overloaded(asked: str, load: Load, seen: tuple[Window, ...]) -> OverloadedError:
    first = seen[0].inferences_per_second / load.batch_size if seen else math.nan
    answered = f"{first:,.0f} a second were answered at first" if seen else "none was answered"
    return OverloadedError(
        f"{asked}: the server did not keep up; {answered}, and the others piled up",
        hint="ask for less; --concurrency-range 1:32:8 shows how much it can do",
        answered_per_second=first,
    )


def _told(what: str, said: Sequence[str]) -> str:
    """Return one line, and the others that the tool said below it."""
    return "\n  ".join([": ".join([what, *said[:1]]), *said[1:]])


def _piled_up(load: Load, ended: Ended) -> bool:
    if ended.stopped is not None:
        return True
    seen = windows(ended.out)
    rate = load.request_rate or 0.0
    stale = _STALE in ended.out + ended.err
    return stale and any(w.inferences_per_second < 0.9 * rate * load.batch_size for w in seen)


def lines(ended: Ended) -> list[str]:
    """Return the last lines that tell something: no settings, no usage text, none twice."""
    text = ended.err.split("Usage:")[0]
    said = [_THREAD.sub("", line).strip().removeprefix("error: ") for line in text.splitlines()]
    told = [line for line in said if line and not line.startswith(_USELESS)]
    return list(dict.fromkeys(told))[-_MOST_LINES:]


_FAILED = "had error:"
_THREAD = re.compile(r"^Thread \[\d+\] had error: ")
_USELESS = (
    "Failed to retrieve results from inference request",
    "Failed to obtain",
    "Unable to unregister all shared memory regions",
    "No valid requests recorded",
)

_CAUSES: tuple[tuple[str, str], ...] = (
    ("unknown model", "toolkit deploy {model}    (toolkit status shows what is served)"),
    ("is not found", "toolkit deploy {model}    (toolkit status shows what is served)"),
    ("is not ready", "toolkit status shows why; toolkit deploy {model}"),
    ("connect to", "toolkit status; or name the server with --url"),
    ("Connection refused", "toolkit status; or name the server with --url"),
    ("API is restricted", "--token with the token that opens the API, and --protocol http"),
    ("does not support batching", "--batch-size 1: the model has no batch axis"),
    ("batch-size must be <=", "a smaller --batch-size, or a larger max_batch_size"),
    ("dynamic shape", "--input-data FILE with rows for the model"),
    ("shared memory", "--shared-memory none; else the server must be on this machine"),
    ("missing tensor", "--input-data FILE with rows that fit the model"),
    ("shape", "--input-data FILE with rows that fit the model"),
    ("data type", "--input-data FILE with rows that fit the model"),
    ("byte size", "--input-data FILE with rows that fit the model"),
    ("Socket closed", "toolkit status; toolkit logs"),
    ("receiving data", "toolkit status; toolkit logs"),
    ("Empty reply", "toolkit status; toolkit logs"),
)


def _hint(model: str, said: Sequence[str]) -> str:
    reason = "\n".join(said)
    for sign, hint in _CAUSES:
        if sign in reason:
            return hint.format(model=model)
    return f"toolkit predict {model} --input ROWS asks the same model once; toolkit logs"
