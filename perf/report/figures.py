"""The charts of a study as Vega-Lite, for the page and as PNG pictures."""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from perf.report.selection import (
    FRONT,
    KINDS,
    OTHER,
    WINNER,
    bars,
    by_load,
    named,
    row,
    single_runs,
)
from perf.report.studies import Study
from perf.report.wording import load_text, sentence
from toolkit.errors import MissingDependencyError

Chart = dict[str, Any]

_PARTS = {
    "client_send_us": ("client send", "#9aa0a6"),
    "client_receive_us": ("client receive", "#6d737a"),
    "network_us": ("network", "#b07cc6"),
    "queue_us": ("queue", "#f0a03c"),
    "compute_input_us": ("compute input", "#7cc4e8"),
    "compute_infer_us": ("compute infer", "#2a7de1"),
    "compute_output_us": ("compute output", "#17936f"),
    "overhead_us": ("overhead", "#d1495b"),
}
_LOG_FROM = 30.0
"""A latency axis is logarithmic when its ends differ by this factor."""


def figures(study: Study, ink: str = "currentColor") -> dict[str, Chart]:
    """Return the charts that a study has points for, of front, p99, p50 and time.

    ``ink`` is the colour of what is no data; ``currentColor`` follows the page.
    Raises ``MissingDependencyError`` without altair.
    """
    charts = {
        "front": _front(study),
        "p99": _curves(study, "p99"),
        "p50": _curves(study, "p50"),
        "time": _time(study),
    }
    drawn: dict[str, Chart] = {
        name: chart.properties(width="container", autosize={"type": "fit-x", "contains": "padding"})
        .configure(**_looks(ink))
        .to_dict()
        for name, chart in charts.items()
        if chart is not None
    }
    for chart in drawn.values():
        # Vega-Lite warns where it is newer than the schema; what is used here is in both.
        del chart["$schema"]
    return drawn


def pictures(studies: Sequence[Study]) -> Iterator[tuple[str, bytes]]:
    """Yield a file name and a PNG for each chart; no browser is needed.

    Raises ``MissingDependencyError`` without altair and vl-convert-python.
    """
    with needed():
        import vl_convert

    taken: set[str] = set()
    for study in studies:
        stem = plain = re.sub(r"[^\w.-]+", "_", study.model).strip("._")[:80] or "model"
        again = 1
        while stem in taken:
            again += 1
            stem = f"{plain}-{again}"
        taken.add(stem)
        for name, chart in figures(study, "#24292f").items():
            title = {
                "text": f"{study.model}: {chart['description']}",
                "subtitle": _wrapped(sentence(study)),
                "anchor": "start",
                "offset": 14,
            }
            alone = {**chart, "width": 960, "background": "#ffffff", "padding": 16, "title": title}
            png = vl_convert.vegalite_to_png(alone, scale=2, allowed_base_urls=[])
            yield f"{stem}-{name}.png", png


@contextmanager
def needed() -> Iterator[None]:
    """Turn missing altair or vl-convert-python into ``MissingDependencyError``."""
    try:
        yield
    except ModuleNotFoundError as error:
        names = {"altair": "altair", "vl_convert": "vl-convert-python"}
        if error.name not in names:
            raise
        raise MissingDependencyError(
            f"{names[error.name]} is not installed", hint="pip install 'triton-companion[report]'"
        ) from error


def _front(study: Study) -> Any:
    """Return every result as a point, and the steps of the Pareto front."""
    alt = _altair()
    rows = [*single_runs(study), *(row(study, one) for one in study.results)]
    rows = [one for one in rows if one["p99"] is not None]
    if not rows:
        return None
    kinds = [kind for kind in KINDS if any(one["kind"] == kind for one in rows)]
    position = {
        "x": alt.X("rate:Q").title("inferences/s").axis(format="~s").scale(zero=True),
        "y": alt.Y("p99:Q").title("p99 latency, ms").scale(**_scale(one["p99"] for one in rows)),
    }
    colours = alt.Scale(domain=kinds[::-1], range=[KINDS[kind][0] for kind in kinds[::-1]])
    shapes = alt.Scale(domain=kinds[::-1], range=[KINDS[kind][1] for kind in kinds[::-1]])
    points = [
        _chart(one for one in rows if one["kind"] == kind)
        .mark_point(filled=True, size=KINDS[kind][2], opacity=0.6 if KINDS[kind][0] == OTHER else 1)
        .encode(
            **position,
            color=alt.Color("kind:N").scale(colours).title(None),
            shape=alt.Shape("kind:N").scale(shapes).title(None),
            tooltip=_tooltips(),
        )
        for kind in kinds
    ]
    front = sorted((one for one in rows if one["front"]), key=lambda one: float(one["rate"]))
    steps = (
        _chart(front)
        .mark_line(interpolate="step-before", color=FRONT, strokeDash=[3, 3], opacity=0.8)
        .encode(**position)
    )
    described = "throughput and p99 latency of every configuration measured"
    return alt.layer(*_limits(study), steps, *points).properties(height=400, description=described)


def _curves(study: Study, percentile: str) -> Any:
    """Return a line for each candidate over its loads; None where there is one load."""
    alt = _altair()
    ordered = [(one, row(study, one)) for one in sorted(study.results, key=by_load)]
    lines = [drawn["line"] for _, drawn in ordered if drawn[percentile] is not None]
    colours = named(study)
    bold: list[dict[str, Any]] = []
    faint: list[dict[str, Any]] = []
    for one, drawn in ordered:
        if drawn[percentile] is not None and lines.count(drawn["line"]) > 1:
            series = one.variant.short
            (bold if one.variant in colours else faint).append({**drawn, "series": series})
    if not bold and not faint:
        return None
    scale = _scale(one[percentile] for one in bold + faint)
    common: dict[str, Any] = {
        "x": alt.X("rate:Q").title("inferences/s").axis(format="~s").scale(zero=True),
        "y": alt.Y(f"{percentile}:Q").title(f"{percentile} latency, ms").scale(**scale),
        "order": alt.Order("step:Q"),
        "detail": "line:N",
        "tooltip": _tooltips(),
    }
    names = {variant.short: colour for variant, colour in colours.items()}
    shown = [name for name in names if any(one["series"] == name for one in bold)]
    range_ = alt.Scale(domain=shown, range=[names[name] for name in shown])
    layers = []
    if faint:
        thin = {"size": 12, "color": OTHER, "opacity": 0.4}
        lines = _chart(faint).mark_line(color=OTHER, opacity=0.3, strokeWidth=1, point=thin)
        layers.append(lines.encode(**common))
    if bold:
        lines = _chart(bold).mark_line(strokeWidth=2, point={"size": 45})
        colour = alt.Color("series:N").scale(range_).title(None)
        layers.append(lines.encode(**common, color=colour))
    rules = _limits(study) if percentile == "p99" else []
    described = f"{percentile} latency against throughput, a line for each configuration"
    return alt.layer(*rules, *layers).properties(height=340, description=described)


def _time(study: Study) -> Any:
    """Return the parts of the mean request as stacked bars."""
    alt = _altair()
    rows, order = _shares(study)
    if not rows:
        return None
    parts = [look for look in _PARTS.values() if any(one["part"] == look[0] for one in rows)]
    colours = alt.Scale(domain=[n for n, _ in parts], range=[colour for _, colour in parts])
    axis = alt.Axis(labelExpr="split(datum.value, '\\n')", labelLineHeight=14, labelOffset=-7)
    chart = _chart(rows).mark_bar()
    return chart.encode(
        x=alt.X("ms:Q").title("mean time of a request, ms").stack("zero").axis(tickCount=10),
        y=alt.Y("bar:N").sort(order).title(None).axis(axis),
        color=alt.Color("part:N").scale(colours).title(None),
        order=alt.Order("place:Q"),
        tooltip=[
            alt.Tooltip("name:N").title("configuration"),
            alt.Tooltip("load:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("ms:Q").format(",.3f"),
            alt.Tooltip("share:Q").format(".0%"),
        ],
    ).properties(height=40 * len(order) + 20, description="where the time of the mean request goes")


def _shares(study: Study) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each part of each bar, and the bars in their order."""
    rows = []
    order = []
    for one in bars(study):
        load = load_text(study, one.load)
        values = {part: getattr(one.measured, part) for part in _PARTS}
        total = sum(value for value in values.values() if value > 0)
        if not (total > 0 and math.isfinite(total)):
            continue
        bar = f"{one.variant.short}\n{load}"
        order.append(bar)
        rows += [
            {
                "bar": bar,
                "part": _PARTS[part][0],
                "place": place,
                "ms": value / 1e3,
                "share": value / total,
                "name": str(one.variant),
                "load": load,
            }
            for place, (part, value) in enumerate(values.items())
            if value > 0
        ]
    return rows, order


def _limits(study: Study) -> list[Any]:
    """Return the limits of the study as lines across the chart."""
    alt = _altair()
    layers = []
    goal = study.goal
    if goal.max_p99_ms is not None:
        base = _chart([{"limit": goal.max_p99_ms, "says": f"p99 limit {goal.max_p99_ms:g} ms"}])
        layers += [
            base.mark_rule(color=WINNER, strokeDash=[6, 4]).encode(y=alt.Y("limit:Q")),
            base.mark_text(align="left", dx=4, dy=-7, color=WINNER, fontSize=12).encode(
                y=alt.Y("limit:Q"), x=alt.value(0), text="says:N"
            ),
        ]
    if goal.min_throughput is not None:
        base = _chart(
            [{"limit": goal.min_throughput, "says": f"at least {goal.min_throughput:,g}"}]
        )
        layers += [
            base.mark_rule(color=WINNER, strokeDash=[6, 4]).encode(x=alt.X("limit:Q")),
            base.mark_text(align="left", dx=4, dy=7, color=WINNER, fontSize=12).encode(
                x=alt.X("limit:Q"), y=alt.value(0), text="says:N"
            ),
        ]
    return layers


def _scale(values: Iterable[float]) -> Mapping[str, Any]:
    found = [value for value in values if value > 0]
    if found and max(found) / min(found) > _LOG_FROM:
        return {"type": "log"}
    return {"zero": True}


def _tooltips() -> list[Any]:
    alt = _altair()
    return [
        alt.Tooltip("name:N").title("configuration"),
        alt.Tooltip("load:N"),
        alt.Tooltip("rate:Q").title("inferences/s").format(",.0f"),
        alt.Tooltip("p50:Q").title("p50 ms").format(",.2f"),
        alt.Tooltip("p99:Q").title("p99 ms").format(",.2f"),
        alt.Tooltip("queue:Q").title("queue ms").format(",.2f"),
        alt.Tooltip("batch:Q").title("rows an execution").format(",.1f"),
        alt.Tooltip("stable:N"),
        alt.Tooltip("runs:Q"),
    ]


def _looks(ink: str) -> dict[str, Any]:
    text = {"labelColor": ink, "titleColor": ink}
    return {
        "font": "system-ui, 'Liberation Sans', Arial, sans-serif",
        "background": "transparent",
        "view": {"stroke": None},
        "axis": text | {"gridColor": ink, "gridOpacity": 0.12, "domainColor": ink,
                        "tickColor": ink, "labelFontSize": 12, "titleFontSize": 12,
                        "titleFontWeight": 500, "labelLimit": 360},
        "legend": text | {"orient": "top", "labelFontSize": 12, "labelLimit": 420, "columns": 4,
                          "symbolOpacity": 1},
        "title": {"color": ink, "subtitleColor": ink, "fontSize": 16, "subtitleFontSize": 13},
    }  # fmt: skip


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 150, break_long_words=True)


def _chart(rows: Iterable[Mapping[str, Any]]) -> Any:
    alt = _altair()
    return alt.Chart(alt.InlineData(values=list(rows)))


def _altair() -> Any:
    with needed():
        import altair as alt

    return alt
