"""A real browser for the tests of the web UI, and the real `delayed ui` that it looks at."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect, sync_playwright

from .processes import Fleet, Process
from .servers import free_port
from .waiting import eventually

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WITHOUT_CHROMIUM = "Chromium is not installed"
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason=WITHOUT_CHROMIUM)
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-dev-shm-usage"]
_PATIENCE = 60_000.0  # ms; machines are slow at times
expect.set_options(timeout=_PATIENCE)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS, timeout=120_000)
        yield browser
        browser.close()


def served(fleet: Fleet, *options: str) -> str:
    """The address that `delayed ui` has printed, once it answers."""
    process: Process = fleet.delayed("ui", "--listen", f"127.0.0.1:{free_port()}", *options)
    log = process.log
    eventually(lambda: re.search(r"http://\S+", log.read_text()))
    found = re.search(r"http://\S+", log.read_text())
    assert found is not None
    return found[0]


class Tab:
    """A page, and what went wrong on it.

    Args:
        browser: in which.
        address: with the token.
    """

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.root = address.partition("?")[0].rstrip("/")
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("dialog", self._asked)
        self.page.on("console", self._said)
        eventually(lambda: self._opened(address))

    def _asked(self, dialog: Any) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _said(self, said: ConsoleMessage) -> None:
        has_gone = "status of 404" in said.text and said.location.get("url") == self.page.url
        if said.type == "error" and not has_gone:  # a page that keeps itself up to date is one of what has ended meanwhile
            self.troubles.append(f"console: {said.text}")

    def _opened(self, address: str) -> bool:
        try:
            return self.page.goto(address) is not None
        except Exception as error:
            if not any(word in str(error) for word in ("ERR_CONNECTION_REFUSED", "chrome-error://")):
                raise  # else it has only printed its address yet, or Chromium still shows that
            self.troubles.clear()
            return False

    def go(self, path: str) -> None:
        """Open a page."""
        try:
            answer = self.page.goto(self.root + path)
        except Error as error:
            if "ERR_ABORTED" not in str(error):  # the page of a job was about to load itself again
                raise
            answer = self.page.goto(self.root + path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status)

    def press(self, label: str, *, sure: bool = False) -> None:
        """Press the first button with this label, and `Yes` if it asks."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=label, exact=True).first.click()
        if sure:
            with self.page.expect_navigation():
                self.page.get_by_role("button", name="Yes", exact=True).click()
        assert "Nothing has happened" not in self.text, self.text

    def press_search(self) -> None:
        """Send the form of the page that searches."""
        with self.page.expect_navigation():
            self.page.locator("main").get_by_role("search").get_by_role("button").click()

    @property
    def text(self) -> str:
        """What the page says."""
        return self.page.inner_text("body")
