"""A real headless browser without a network, and what it saw of a page."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """A page, and what it did beside being shown."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note from now on what the page does."""

        def dismiss(dialog: Dialog) -> None:
            self.dialogs.append(dialog.message)
            dialog.dismiss()

        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", dismiss)


Open = Callable[..., AbstractContextManager[Opened]]


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Open:
    """Open a file in a fresh, offline context, and wait until its charts are drawn."""

    @contextmanager
    def opened(path: Path, *, dark: bool = False, width: int = 1280) -> Iterator[Opened]:
        context = browser.new_context(
            offline=True,
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 900},
        )
        seen = Opened(context.new_page())
        seen.watch()
        seen.page.goto(path.as_uri())
        seen.page.wait_for_selector("html[data-drawn]", state="attached", timeout=20_000)
        yield seen
        context.close()

    return opened
