"""The report as one HTML file that needs no network."""

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from perf.report import tables
from perf.report.figures import Chart, figures, needed
from perf.report.studies import Study
from perf.report.wording import default_name, notes, sentence, when

_HERE = Path(__file__).parent
_ABOUT = {
    "front": (
        "Throughput and latency",
        (
            "Each point is a configuration under a load. Those on the dotted line, the Pareto"
            " front, are beaten by no other in both figures at once."
        ),
    ),
    "p99": (
        "Latency under load: p99",
        (
            "Each line is a configuration under rising load. Named are the default, the winner"
            " and those on the front; the others are faint."
        ),
    ),
    "p50": ("Latency under load: p50", "The same for the middle request."),
    "time": (
        "Where the time goes",
        (
            "The mean request of the winner, of the default and of those on the front, from the"
            " client's first byte to its last."
        ),
    ),
}
_NOUNS = {
    "sweep": "sweep",
    "tune": "tuning",
    "compare": "comparison",
    "gate": "comparison with a baseline",
    "run": "measurement",
}


def html(studies: Sequence[Study]) -> str:
    """Return the page for some studies.

    Only the two scripts and the style in the page itself may run, by their hashes, and
    nothing may be fetched. Raises ``MissingDependencyError`` without altair and
    vl-convert-python.
    """
    charts: dict[str, Chart] = {}
    parts = [_study(study, number, charts, studies) for number, study in enumerate(studies, 1)]
    models = ", ".join(dict.fromkeys(study.model for study in studies))
    title = f"Performance of {models}"
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = _script()
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    overview = tables.overview(studies) if len(studies) > 1 else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<main>
{overview}
{"".join(parts)}
</main>
<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>
<script type="application/json" id="charts">{_data(charts)}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _study(study: Study, number: int, charts: dict[str, Chart], studies: Sequence[Study]) -> str:
    several = len(studies) > 1
    title = f"<h2>{escape(study.model)}</h2>" if several else ""
    told = "".join(f"<p class='note'>{escape(note)}</p>" for note in notes(study))
    body = "\n".join(_parts(study, number, charts))
    # Headings below a model are one level lower.
    if several:
        body = body.replace("<h2>", "<h3>").replace("</h2>", "</h3>")
    return (
        f'<section id="study-{number}">{title}<p class="lead">{escape(sentence(study))}</p>'
        f'<p class="when">{escape(_when(study))}</p>{told}\n{body}\n</section>'
    )


def _parts(study: Study, number: int, charts: dict[str, Chart]) -> Iterator[str]:
    drawn = figures(study)
    rival, baseline = study.rival, study.baseline
    if rival and baseline and rival.variant != baseline.variant:
        name = rival.variant.side or "The winner"
        yield f"<h2>{escape(name)} against {escape(default_name(study))}</h2>"
        yield '<div class="beside">'
        yield tables.comparison(study, baseline, rival)
        yield tables.changes(study, rival)
        yield "</div>"
    for name, chart in drawn.items():
        identity = f"{name}-{number}"
        charts[identity] = chart
        heading, text = _ABOUT[name]
        yield (
            f"<h2>{heading}</h2><figure><figcaption>{text}</figcaption>"
            f'<div class="chart" id="{identity}"></div></figure>'
        )
    if drawn and "p99" not in drawn:
        yield (
            '<p class="note">Each configuration was measured under one load, so there is no'
            " curve over loads.</p>"
        )
    if study.failed:
        yield f"<h2>What failed: {len(study.failed)}</h2>"
        yield tables.failures(study)
    if study.results:
        yield "<h2>All results</h2>"
        yield tables.results(study)
    yield "<h2>How it was measured</h2>"
    yield '<div class="beside">'
    header = study.headers[0]
    for name, about in zip(study.sources, study.headers, strict=True):
        yield tables.mapping(f"Asked for: {about.command} ({name})", about.plan)
    yield tables.mapping("The machine", header.machine)
    yield tables.mapping("The server", header.server)
    yield "</div>"


def _when(study: Study) -> str:
    measured = len(study.results)
    points = sum(one.runs for one in study.results)
    began = ", ".join(
        f"{_NOUNS.get(about.command, about.command)} of {when(about.started)} ({name})"
        for name, about in zip(study.sources, study.headers, strict=True)
    )
    runs = f" in {points} runs" if points > measured else ""
    failed = f", {len(study.failed)} failed" if study.failed else ""
    return f"{began[:1].upper()}{began[1:]}: {measured} results{runs}{failed}."


def _data(charts: dict[str, Chart]) -> str:
    r"""Return JSON that cannot end its element: < > & are written as \u escapes."""
    text = json.dumps(charts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def _script() -> str:
    """Return Vega, Vega-Lite, Vega-Embed and our few lines as one script."""
    with needed():
        import vl_convert

    own = (_HERE / "page.js").read_text(encoding="utf-8")
    bundle = str(vl_convert.javascript_bundle(own))
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
