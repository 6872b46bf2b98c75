"""What was measured as CSV, in the columns of NVIDIA Model Analyzer's inference table.

The names are those of ``metrics-model-inference.csv``: ``headers`` in
``model_analyzer/result/result_table_manager.py`` and each record's ``header()`` in
``model_analyzer/record/types/`` of triton-inference-server/model_analyzer; its default
fields come first and in its order. Units are its too (milliseconds, MB of 10^6 bytes);
times keep three decimals instead of its one, for models that answer in less than one.
The last columns are ours.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from perf import settings
from perf.journal import Header, Point
from perf.measurement import Measurement
from perf.report.studies import goal_of, kept, variants_of
from perf.report.variants import Variant
from perf.writing import write

COLUMNS = (
    "Model",
    "Batch",
    "Concurrency",
    "Model Config Path",
    "Instance Group",
    "Max Batch Size",
    "Satisfies Constraints",
    "Throughput (infer/sec)",
    "p99 Latency (ms)",
    "Request Rate",
    "Avg Latency (ms)",
    "p90 Latency (ms)",
    "p95 Latency (ms)",
    "Response Wait Time (ms)",
    "Client Send/Recv (ms)",
    "Server Queue time (ms)",
    "Server Compute Input time (ms)",
    "Server Compute Infer time (ms)",
    "Server Compute Output time (ms)",
    "RAM Usage (MB)",
    "p50 Latency (ms)",
    "Configuration",
    "Failure",
)

_Cell = str | int | float


def csv_text(journals: Sequence[tuple[Header, Sequence[Point]]]) -> str:
    """Return a line for each point of ``journals``, failed ones too, below the names.

    Model Analyzer names each configuration it tries: so do we, ``MODEL_config_default`` as
    served and ``MODEL_config_0``, ``_1`` and so on in the order of the points;
    ``Configuration`` says what it changes.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    tried: dict[str, list[Variant]] = {}
    for header, points in journals:
        names = tried.setdefault(header.model, [])
        goal = goal_of(header.plan)
        for variant, point in zip(variants_of(header, points), points, strict=True):
            row = {**_asked(header, point, _named(variant, names)), "Configuration": str(variant)}
            if point.measurement is None:
                row |= {"Satisfies Constraints": "No", "Failure": point.failure or "unknown"}
            else:
                row |= _figures(point.measurement)
                row["Satisfies Constraints"] = "Yes" if kept(goal, point.measurement) else "No"
            table.writerow(row)
    return text.getvalue()


def write_csv(path: Path, journals: Sequence[tuple[Header, Sequence[Point]]]) -> None:
    """Write ``csv_text`` to ``path``; an existing file is replaced in one go."""
    write(path, csv_text(journals).encode())


def _asked(header: Header, point: Point, name: str) -> dict[str, _Cell]:
    after = settings.with_changes(header.configuration, point.candidate)
    return {
        "Model": header.model,
        "Batch": point.load.batch_size,
        "Concurrency": _or_empty(point.load.concurrency),
        "Request Rate": _or_empty(point.load.request_rate),
        "Model Config Path": f"{header.model}_config_{name}",
        "Instance Group": settings.instance_group(header.configuration, point.candidate),
        "Max Batch Size": _or_empty(after["max_batch_size"]),
    }


def _figures(measured: Measurement) -> dict[str, _Cell]:
    exchanged = measured.client_send_us + measured.client_receive_us
    microseconds = {
        "p99 Latency (ms)": measured.p99_us,
        "Avg Latency (ms)": measured.mean_us,
        "p90 Latency (ms)": measured.p90_us,
        "p95 Latency (ms)": measured.p95_us,
        "p50 Latency (ms)": measured.p50_us,
        "Response Wait Time (ms)": measured.mean_us - exchanged,
        "Client Send/Recv (ms)": exchanged,
        "Server Queue time (ms)": measured.queue_us,
        "Server Compute Input time (ms)": measured.compute_input_us,
        "Server Compute Infer time (ms)": measured.compute_infer_us,
        "Server Compute Output time (ms)": measured.compute_output_us,
    }
    memory = measured.memory_bytes
    return {
        "Throughput (infer/sec)": round(measured.inferences_per_second, 1),
        # Of the model's own processes; Model Analyzer's is of the whole machine.
        "RAM Usage (MB)": "" if memory is None else round(memory / 1e6, 1),
        **{name: _milliseconds(value) for name, value in microseconds.items()},
    }


def _named(variant: Variant, tried: list[Variant]) -> str:
    if variant.as_served:
        return "default"
    if variant not in tried:
        tried.append(variant)
    return str(tried.index(variant))


def _milliseconds(microseconds: float) -> _Cell:
    return round(microseconds / 1e3, 3) if math.isfinite(microseconds) else ""


def _or_empty(value: _Cell | None) -> _Cell:
    return "" if value is None else value
