"""The page in a real browser: it draws, sorts and tells without a network."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from perf import report, writing
from perf.candidates import AS_SERVED, Candidate
from perf.journal import Header, Point
from tests.perf.report import journals
from tests.perf.report.conftest import Open
from tests.perf.report.journals import CALLERS, failed, grid, header, point

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def page_of(folder: Path, *written: tuple[Header, list[Point]]) -> Path:
    paths = [
        journals.write(folder / f"{number}.jsonl", about, points)
        for number, (about, points) in enumerate(written)
    ]
    path = folder / "report.html"
    writing.write(path, report.html(report.group(paths)).encode())
    return path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep of 60 configurations under 5 loads, of which 2 failed."""
    reasons = [
        failed(Candidate(instance_count=9), "the server ended by itself"),
        failed(Candidate(max_batch_size=0), "no room for it"),
    ]
    plan = {"max_p99_ms": 4.0, "objective": "throughput"}
    return page_of(tmp_path_factory.mktemp("sweep"), (header(plan=plan), [*grid(), *reasons]))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two configurations under two loads."""
    faster = Candidate(instance_count=2)
    points = [
        point(candidate, rate * callers, callers / 2, callers)
        for candidate, rate in ((AS_SERVED, 100), (faster, 150))
        for callers in (4, 8)
    ]
    return page_of(tmp_path_factory.mktemp("small"), (header(), points))


@pytest.fixture(scope="module")
def shown(sweep: Path, opened: Open) -> Iterator[Page]:
    with opened(sweep) as seen:
        yield seen.page


def marks(page: Page, chart: str, kind: str) -> int:
    return page.locator(f"#{chart} .mark-{kind}.role-mark > path").count()


def test_a_page_needs_no_network_and_nothing_of_it_is_refused(sweep: Path, opened: Open) -> None:
    with opened(sweep) as seen:
        seen.page.mouse.wheel(0, 5000)
        assert seen.console == []
        assert seen.requests == [sweep.as_uri()]


def test_a_page_is_small_and_holds_its_scripts_once(sweep: Path) -> None:
    text = sweep.read_text()
    assert len(text) < 3_000_000
    assert text.count("<script") == 2
    assert "http-equiv" in text
    assert "unsafe" not in text.partition("</head>")[0]


def test_the_first_sentence_says_what_is_won(shown: Page) -> None:
    lead = shown.locator(".lead").inner_text()
    assert lead.startswith("churn with batch ≤ ")
    assert "inferences/s at p99 " in lead
    assert lead.endswith(" times the configuration as served.")


def test_every_result_is_a_point_and_the_front_is_a_line(shown: Page) -> None:
    assert marks(shown, "front-1", "symbol") == 60 * len(CALLERS)
    assert shown.locator("#front-1 .mark-line.role-mark > path").count() == 1
    assert "p99 limit 4 ms" in shown.locator("#front-1").inner_text()


@pytest.mark.parametrize("chart", ["p99-1", "p50-1"])
def test_every_configuration_is_a_line_over_its_loads(shown: Page, chart: str) -> None:
    assert marks(shown, chart, "line") == 60
    assert marks(shown, chart, "symbol") == 60 * len(CALLERS)


def test_few_of_hundreds_are_named(shown: Page) -> None:
    names = shown.locator("#p99-1 .role-legend-label text").all_text_contents()
    assert names[0] == "as served"
    assert 2 <= len(names) <= 8


def test_bars_show_each_part_of_the_time(shown: Page) -> None:
    bars = shown.locator("#time-1 .mark-rect.role-mark > path").count()
    labels = shown.locator("#time-1 .role-axis-label text").all_text_contents()
    of = [label for label in labels if "concurrency" in label]
    assert 2 <= len(of) <= 16
    assert bars <= 8 * len(of)
    assert bars > 6 * len(of)


def test_pointing_at_a_point_names_its_configuration(shown: Page) -> None:
    winner = shown.locator("#front-1 .mark-symbol.role-mark > path").last
    winner.scroll_into_view_if_needed()
    winner.hover()
    tooltip = shown.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    text = tooltip.inner_text()
    assert "max_batch_size=" in text
    assert "concurrency 64" in text
    assert "p99 ms" in text


def test_a_click_on_a_column_sorts_by_it(shown: Page) -> None:
    table = shown.locator("table.sortable")
    names = table.locator("thead th").all_inner_texts()
    place = next(i for i, name in enumerate(names) if name.startswith("p99"))

    def values() -> list[float]:
        cells = table.locator(f"tbody tr > :nth-child({place + 1})")
        return [float(cell) for cell in cells.evaluate_all("all => all.map(c => c.dataset.value)")]

    button = table.locator("thead th").nth(place).locator("button")
    before = values()
    button.click()
    assert values() == sorted(before, reverse=True)
    button.click()
    assert values() == sorted(before)
    header_cell = table.locator("thead th").nth(place)
    assert header_cell.get_attribute("aria-sort") == "ascending"


def test_what_failed_is_told_with_its_reason(shown: Page) -> None:
    text = shown.locator("main").inner_text()
    assert "What failed: 2" in text
    assert "the server ended by itself" in text


def test_settings_that_differ_stand_beside_each_other(shown: Page) -> None:
    rows = shown.locator("table", has_text="The settings that differ").locator("tbody tr")
    told = {row.split("\t")[0]: row.split("\t")[1:] for row in rows.all_inner_texts()}
    assert told["instance_group.count"][0] == "1"
    assert told["instance_group.count"][1] in {"2", "4"}


def test_the_machine_the_server_and_the_plan_are_there(shown: Page) -> None:
    text = shown.locator("main").inner_text()
    for told in ("Made-up 9000", "2.51.0", "2026-11-21 19:50 UTC", "objective"):
        assert told in text


def brightness(page: Page) -> tuple[int, int]:
    """Of the page's ground, and of a chart's title, from 0 to 255."""
    ground = Image.open(io.BytesIO(page.screenshot())).convert("RGB").tobytes()[:3]
    title = page.locator("#front-1 .role-axis-title text").first
    text = title.evaluate("one => getComputedStyle(one).fill")
    numbers = [int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(ground) // 3, sum(numbers) // 3


def test_dark_mode_is_dark_in_the_charts_too_and_print_is_not(
    shown: Page, small: Path, opened: Open
) -> None:
    ground, text = brightness(shown)
    assert ground > 240
    assert text < 60
    with opened(small, dark=True) as seen:
        ground, text = brightness(seen.page)
        assert ground < 30
        assert text > 200
        seen.page.emulate_media(media="print")
        ground, text = brightness(seen.page)
        assert ground > 240
        assert text < 10
        assert seen.page.pdf().startswith(b"%PDF")


def test_a_narrow_screen_scrolls_no_page_sideways(small: Path, opened: Open) -> None:
    with opened(small, width=390) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_are_only_text(tmp_path: Path, opened: Open) -> None:
    about = header(
        model=EVIL,
        command="compare",
        plan={
            EVIL: [EVIL],
            "max_p99_ms": 9,
            "nested": {EVIL: EVIL},
            "metric": "throughput",
            "sides": {"A": "as served", "B": EVIL + "!"},
            "order": "AABBB",
            "looks": [2],
        },
        machine={EVIL: EVIL},
        server={"name": EVIL},
        started=EVIL,
        configuration={"name": EVIL, "max_batch_size": [EVIL], "instance_group": EVIL},
    )
    points = [
        *(point(AS_SERVED, 1000 * n, n, n) for n in (1, 2)),
        *(point(AS_SERVED, 2000 * n, n, n) for n in (1, 2)),
        failed(AS_SERVED, EVIL),
    ]
    with opened(page_of(tmp_path, (about, points))) as seen:
        assert seen.dialogs == []
        assert seen.console == []
        assert len(seen.requests) == 1
        assert seen.page.locator("img").count() == 0
        assert seen.page.locator("script").count() == 2
        assert EVIL in seen.page.locator("h1").inner_text()
        legend = seen.page.locator("#p99-1 .role-legend-label text").all_text_contents()
        assert any("<script>alert(1)</script>" in name for name in legend)
        seen.page.locator("#front-1 .mark-symbol.role-mark > path").last.hover()
        seen.page.locator("#vg-tooltip-element.visible").wait_for()
        assert EVIL in seen.page.locator("#vg-tooltip-element").inner_text()
        assert seen.dialogs == []


def test_figures_that_are_not_known_are_left_out(tmp_path: Path, opened: Open) -> None:
    nan = float("nan")
    points = [point(AS_SERVED, 500, 2, p99_us=nan, batch_sizes={}), point(AS_SERVED, 900, 3, 64)]
    with opened(page_of(tmp_path, (header(), points))) as seen:
        assert seen.console == []
        assert marks(seen.page, "front-1", "symbol") == 1


def test_one_measurement_is_a_report_too(tmp_path: Path, opened: Open) -> None:
    with opened(page_of(tmp_path, (header(command="run"), [point(AS_SERVED, 500, 2)]))) as seen:
        lead = seen.page.locator(".lead").inner_text()
        assert lead == "churn, as served, serves 500 inferences/s at p99 2.00 ms."
        assert seen.page.locator(".chart svg").count() == 2


def test_a_journal_of_failures_has_a_page_without_charts(tmp_path: Path, opened: Open) -> None:
    only = [failed(AS_SERVED, "the server ended by itself")]
    with opened(page_of(tmp_path, (header(), only))) as seen:
        assert "every point failed" in seen.page.locator(".lead").inner_text()
        assert seen.page.locator(".chart").count() == 0


def test_two_models_have_a_section_each(tmp_path: Path, opened: Open) -> None:
    written = [(header(name), [point(AS_SERVED, 900, 3)]) for name in ("churn", "fraud")]
    with opened(page_of(tmp_path, *written)) as seen:
        assert seen.page.locator("h2").all_inner_texts() == ["churn", "fraud"]
        assert seen.page.locator(".chart svg").count() == 4
        assert seen.page.locator("table", has_text="The models of this report").count() == 1


def test_the_data_in_the_page_is_what_was_measured(tmp_path: Path) -> None:
    text = page_of(tmp_path, (header(), [point(AS_SERVED, 500, 2)])).read_text()
    data = text.split('id="charts">')[1].split("</script>")[0]
    [rows] = [one for one in json.loads(data)["front-1"]["datasets"].values() if "p99" in one[0]]
    assert [(row["rate"], row["p99"]) for row in rows] == [(500, 2)]
