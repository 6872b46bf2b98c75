"""The page in a real browser, before a real gateway and a real Triton."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.gateway.conftest import Opened
from tests.perf.report.conftest import Opened as Seen
from toolkit.gateway import keys, ui

EVIL = "<img src=x onerror=alert(1)>"
REFUSED = "Failed to load resource"
"""What Chromium itself writes about an answer that is an error."""

Show = Callable[..., AbstractContextManager[Seen]]


@pytest.fixture(scope="module")
def show(browser: Browser) -> Show:
    """Show the page of a gateway in a fresh context."""

    @contextmanager
    def show(gateway: httpx.Client, *, width: int = 1280, path: str = "/ui") -> Iterator[Seen]:
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.set_default_timeout(30_000)
        seen = Seen(context.new_page())
        seen.watch()
        seen.page.goto(str(gateway.base_url.join(path)))
        yield seen
        context.close()

    return show


@pytest.fixture(scope="module")
def shown(gateway: httpx.Client, show: Show) -> Iterator[Page]:
    """The page of a gateway as it is by itself, once it shows something."""
    with show(gateway) as seen:
        expect(seen.page.locator("#main")).to_be_visible()
        yield seen.page


def choose(page: Page, model: str) -> None:
    """Choose a model in the form and wait for its example."""
    with page.expect_response(lambda one: "/ui/example" in one.url):
        page.select_option("#model", model)
    expect(page.locator("#body")).not_to_have_value("")


def send(page: Page, features: Any = None) -> tuple[int, Any]:
    """Send the form; return the status and the answer that are shown."""
    if features is not None:
        page.fill("#body", json.dumps({"features": features}))
    page.click("#send")
    outcome = page.locator("#outcome")
    expect(outcome).to_have_text(re.compile(r"^\d{3} .* in .* m?s"))
    return int(outcome.inner_text()[:3]), json.loads(page.locator("#answer").inner_text())


def values(page: Page, line: str) -> list[float]:
    """Return the heights of a plotted line over its lowest point, in pixels."""
    path = page.locator(f'path[data-line="{line}"]').get_attribute("d") or ""
    heights = [float(height) for height in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    return [150 - height for height in heights]


def test_the_page_needs_nobody_else_and_writes_nothing_into_the_console(
    gateway: httpx.Client, show: Show
) -> None:
    with show(gateway) as seen:
        page = seen.page
        expect(page.locator("#main")).to_be_visible()
        choose(page, "echo")
        assert send(page)[0] == 200
        with page.expect_response(lambda one: "/ui/state" in one.url):
            page.hover("svg.chart >> nth=0")
        assert seen.console == []
        assert {httpx.URL(one).netloc for one in seen.requests} == {gateway.base_url.netloc}


def test_every_model_is_told_with_what_it_takes(shown: Page) -> None:
    row = shown.locator("#models tbody tr", has=shown.get_by_text("people", exact=True))
    text = row.inner_text()
    assert "ready" in text
    assert "age INT64 [any,\xa01]" in text
    assert "city BYTES [any,\xa01]" in text
    assert "python" in text


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("echo", [[1.0, 3.0, 5.0, 7.0]]),
        ("people", [["some text:1"]]),
        ("text", [["some text"]]),
        ("unbatched", [[2.0]]),
    ],
)
def test_the_example_that_is_filled_in_is_answered(shown: Page, model: str, expected: Any) -> None:
    choose(shown, model)
    status, answer = send(shown)
    assert status == 200
    assert answer["model"] == model
    assert answer["predictions"] == expected


def test_numbers_are_shown_as_the_gateway_wrote_them(shown: Page) -> None:
    choose(shown, "echo")
    send(shown, [[1, 2, 3, 4]])
    assert "[2.0, 4.0, 6.0, 8.0]" in shown.locator("#answer").inner_text()


def test_the_curl_line_asks_the_same(shown: Page) -> None:
    choose(shown, "people")
    asked = [{"age": 7, "city": "O'Hara $HOME `id` \\ @x"}]
    status, answer = send(shown, asked)
    line = shown.locator("#curl").text_content() or ""
    told = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert status == 200
    assert json.loads(told) == answer
    assert "O'Hara $HOME `id` \\ @x:7" in json.dumps(answer).replace("\\\\", "\\")


@pytest.mark.parametrize(
    ("model", "features"), [("echo", [[1, 2]]), ("echo", [["a"] * 4]), ("raises", [[1.0]])]
)
def test_an_error_is_shown_as_the_gateway_told_it(
    shown: Page, gateway: httpx.Client, model: str, features: Any
) -> None:
    choose(shown, model)
    told = gateway.post(f"/predict/{model}", json={"features": features})
    assert send(shown, features) == (told.status_code, told.json())
    expect(shown.locator("#outcome")).to_have_class("bad")


def test_what_is_no_json_is_for_the_gateway_to_refuse(shown: Page) -> None:
    choose(shown, "echo")
    shown.fill("#body", "no json")
    shown.press("#body", "Control+Enter")
    expect(shown.locator("#outcome")).to_contain_text("422")
    expect(shown.locator("#answer")).to_contain_text("not JSON")


def test_an_error_stands_in_the_list_with_its_request(shown: Page, gateway: httpx.Client) -> None:
    gateway.post("/predict/echo", headers={"x-request-id": "told-on-the-page"}, content=b"{}")
    row = shown.locator("#errors tbody tr", has_text="told-on-the-page")
    expect(row).to_be_visible()
    assert "echo" in row.inner_text()
    assert "422" in row.inner_text()
    assert "one list of values a row" in row.inner_text()


def test_the_plots_move_with_the_requests(shown: Page, gateway: httpx.Client) -> None:
    for _ in range(20):
        gateway.post("/predict/echo", json={"features": [1, 2, 3, 4]})
    line = shown.locator('path[data-line="requests"]')
    drawn = line.get_attribute("d") or ""
    expect(line).not_to_have_attribute("d", drawn)
    assert max(values(shown, "requests")) > 10
    assert max(values(shown, "p99_ms")) > 0
    assert len(values(shown, "requests")) >= 300


def test_the_plots_are_those_of_one_model_where_that_is_asked(
    gateway: httpx.Client, show: Show
) -> None:
    gateway.post("/predict/text", json={"features": [["a"]]})
    with show(gateway) as seen:
        page = seen.page
        expect(page.locator('path[data-line="p50_ms"]')).not_to_have_attribute("d", "")
        with page.expect_response(lambda one: "model=slow" in one.url):
            page.select_option("#of", "slow")
        expect(page.locator('path[data-line="p50_ms"]')).to_have_attribute("d", "")
        assert max(values(page, "requests")) == 0


def test_the_arrow_keys_tell_of_a_second(shown: Page) -> None:
    chart = shown.locator("svg.chart >> nth=0")
    chart.focus()
    shown.keyboard.press("ArrowLeft")
    shown.keyboard.press("PageUp")
    expect(shown.locator(".legend >> nth=0")).to_contain_text("32 s ago")
    assert "Throughput" in (chart.get_attribute("aria-label") or "")
    shown.keyboard.press("Escape")
    expect(shown.locator(".legend >> nth=0")).not_to_contain_text("ago")


def test_names_and_texts_of_others_never_become_markup(
    gateway: httpx.Client, show: Show, models_folder: Path
) -> None:
    gateway.post(f"/predict/{quote(EVIL)}", json={"features": [1]})
    entry = models_folder / EVIL
    shutil.copytree(models_folder / "text", entry)
    try:
        with show(gateway) as seen:
            page = seen.page
            expect(page.locator("#models td.name", has_text=EVIL)).to_be_visible()
            expect(page.locator("#errors td", has_text=EVIL).first).to_be_visible()
            choose(page, "text")
            assert send(page, [[EVIL]]) == (200, {"model": "text", "predictions": [[EVIL]]})
            assert EVIL in page.locator("#curl").inner_text()
            assert page.locator("img").count() == 0
            assert seen.dialogs == []
            assert [one for one in seen.console if not one.startswith(REFUSED)] == []
    finally:
        shutil.rmtree(entry)


def test_jobs_and_what_models_say_of_themselves_are_texts_too(
    gateway: httpx.Client, show: Show
) -> None:
    """No Triton serves a model of such a name today, and no job fails with such words."""
    state = gateway.get("/ui/state").json()
    model = next(one for one in state["models"] if one["name"] == "echo")
    told = {"features": [EVIL], "classes": [EVIL], "backend": EVIL, "reason": EVIL}
    state["models"].append({**model, "name": EVIL, **told})
    job: dict[str, Any] = {
        "id": "1f",
        "model": EVIL,
        "status": "failed",
        "priority": "high",
        "error": EVIL,
    }
    job |= {"age_seconds": 90.0, "took_seconds": 0.25}
    state["jobs"] = {"problem": None, "counts": {"failed": 1, "pending": 1200}, "newest": [job]}
    with show(gateway, path="/health") as seen:
        page = seen.page
        page.route("**/ui/state*", lambda route: route.fulfill(json=state))
        page.goto(str(gateway.base_url.join("/ui")))
        expect(page.locator("#jobs tbody tr")).to_have_text(
            f"1f{EVIL}failedhigh1 min ago250 ms{EVIL}"
        )
        expect(page.locator("#jobs-count")).to_have_text("1 failed, 1,200 pending")
        expect(page.locator("#models")).to_contain_text(f"features: {EVIL}")
        with page.expect_response(lambda one: "/ui/example" in one.url):
            page.get_by_role("button", name=f"Call {EVIL}").click()
        expect(page.locator("#answer")).to_contain_text(f"Model not found: {EVIL}")
        expect(page.locator("#curl")).to_contain_text(quote(EVIL, safe="()"))
        assert page.locator("img").count() == 0
        assert seen.dialogs == []


def test_a_key_is_asked_for_said_to_be_wrong_and_kept_in_the_tab_only(
    opened: Opened, show: Show
) -> None:
    with opened(require_api_key=True, api_keys="right") as gateway, show(gateway) as seen:
        page = seen.page
        expect(page.locator("#key")).to_be_visible()
        expect(page.locator("#main")).to_be_hidden()
        assert not any("state" in one for one in seen.requests)
        assert seen.console == []
        for wrong, said in (("wrong", "Invalid API key"), ("two words", "no blanks")):
            page.fill("#given", wrong)
            page.keyboard.press("Enter")
            expect(page.locator("#refusal")).to_contain_text(said)
        page.fill("#given", "right")
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_visible()
        choose(page, "echo")
        assert send(page)[0] == 200
        assert '-H "X-API-Key: $API_KEY"' in page.locator("#curl").inner_text()
        assert "right" not in page.locator("body").inner_text()
        kept = "[sessionStorage.length, localStorage.length, document.cookie]"
        assert page.evaluate(kept) == [1, 0, ""]
        page.reload()
        expect(page.locator("#main")).to_be_visible()
        page.click("#forget")
        expect(page.locator("#key")).to_be_visible()
        assert page.evaluate(kept) == [0, 0, ""]


def test_a_key_for_some_models_shows_those_only(opened: Opened, tmp_path: Path) -> None:
    key, entry = keys.new_key("one", models=["echo"])
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump([entry]))
    with opened(require_api_key=True, api_keys="all", api_keys_file=file) as gateway:
        gateway.post("/predict/text", headers={"x-api-key": "all"}, content=b"{}")
        assert gateway.get("/ui").status_code == 200
        assert gateway.get("/ui/state").status_code == 401
        told = gateway.get("/ui/state", headers={"x-api-key": key}).json()
        assert [one["name"] for one in told["models"]] == ["echo"]
        assert {one["model"] for one in told["errors"]} <= {"echo"}
        whole = gateway.get("/ui/state", headers={"x-api-key": "all"}).json()
        assert len(whole["models"]) > 1
        for model, status in (("echo", 200), ("text", 403)):
            asked = gateway.get(f"/ui/example?model={model}", headers={"x-api-key": key})
            assert asked.status_code == status


def test_a_gateway_that_has_ended_is_said_so_and_found_again(opened: Opened, show: Show) -> None:
    with opened() as gateway, show(gateway) as seen:
        page = seen.page
        expect(page.locator("#main")).to_be_visible()
        page.context.set_offline(True)
        expect(page.locator("#problem")).to_contain_text("does not answer")
        expect(page.locator("#status")).to_have_text("not up to date")
        page.context.set_offline(False)
        expect(page.locator("#problem")).to_be_hidden()
        expect(page.locator("#status")).to_have_text("Triton answers")


def test_nothing_stands_out_of_a_narrow_window(gateway: httpx.Client, show: Show) -> None:
    with show(gateway, width=360) as seen:
        page = seen.page
        expect(page.locator("#main")).to_be_visible()
        choose(page, "people")
        send(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        box = page.locator("#send").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 360


def test_everything_one_can_use_has_a_name(shown: Page) -> None:
    nameless = shown.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, svg[role]")]
        .filter((one) => !one.labels?.length && !one.textContent.trim()
          && !one.getAttribute("aria-label")).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_the_page_allows_itself_and_nothing_else(gateway: httpx.Client) -> None:
    page = gateway.get("/ui")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.text)
    assert "innerHTML" not in page.text
    assert not re.search(r"\son\w+=", page.text)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_differ_enough_from_what_is_behind_them() -> None:
    """As https://www.w3.org/TR/WCAG22/#contrast-minimum has it: 4.5 for text."""
    text = (Path(ui.__file__).parent / "page.html").read_text()
    themes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    ]
    assert len(themes) == 2
    for theme in themes:
        pairs = [
            (name, paper)
            for name in ("ink", "soft", "good", "bad", "warn", "one", "two", "three")
            for paper in ("paper", "tint")
        ]
        for name, behind in [*pairs, ("on-accent", "accent")]:
            light, dark = sorted((_luminance(theme[name]), _luminance(theme[behind])))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, behind)
