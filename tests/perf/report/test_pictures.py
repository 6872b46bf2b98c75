"""Charts as PNG pictures, made without a browser."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from perf import report
from perf.candidates import AS_SERVED, Candidate
from tests.perf.report import journals
from tests.perf.report.journals import header, point
from toolkit.errors import MissingDependencyError


def studies(folder: Path, model: str = "churn") -> tuple[report.Study, ...]:
    points = [
        point(candidate, rate * callers, callers, callers)
        for candidate, rate in ((AS_SERVED, 100), (Candidate(instance_count=2), 150))
        for callers in (4, 8)
    ]
    plan = {"max_p99_ms": 6}
    return report.group([journals.write(folder / "one.jsonl", header(model, plan=plan), points)])


def test_each_chart_is_a_picture_under_a_harmless_name(tmp_path: Path) -> None:
    drawn = dict(report.pictures(studies(tmp_path, "../../etc/<b>&")))
    assert list(drawn) == [f"etc_b-{chart}.png" for chart in ("front", "p99", "p50", "time")]
    for png in drawn.values():
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        assert png.startswith(b"\x89PNG")
        assert picture.width > 1500
        assert picture.height > 300
        assert picture.getpixel((2, 2)) == (255, 255, 255)
        colours = {colour for _, colour in picture.getcolors(picture.width * picture.height) or ()}
        assert (0x2A, 0x7D, 0xE1) in colours


@pytest.mark.parametrize(("module", "name"), [("altair", "altair"), ("vl_convert", "vl-convert-p")])
def test_a_missing_library_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=name) as error:
        next(report.pictures(studies(tmp_path)))
    assert error.value.hint == "pip install 'triton-companion[report]'"
