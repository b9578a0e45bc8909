"""A real Chromium for the tests of the web pages.

    def test_the_page_greets(open_page: OpenPage, newest: ComfyProcess) -> None:
        page = open_page(f"{newest.url}/api/v1/docs", width=360, dark=True)

        expect(page.get_by_role("heading", level=1)).to_be_visible()

`page` is a Page of playwright's sync API: wait with its `expect`, never with sleep. A test fails,
when it ends, on whatever the page put on the console as an error, on exceptions in its scripts and
on requests to another origin. A console error that a test provokes is named by a part of its text:
`open_page(url, expected=("401",))`. Tests that are async go into another file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

#: Also in deploy/comfyui/programs.py, which installs one.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = "NOT TESTED: the web pages need a Chromium (Debian: apt-get install chromium)"
#: A machine may have much else to do, and some pages change at their next poll only.
PATIENCE_MS = 30_000
#: Of no server.
INLINE = ("blob", "data")

#: For `parametrize`: colours seldom move what a layout test looks at.
DARK_AND_LIGHT = [True, pytest.param(False, marks=pytest.mark.full)]

RECORD_BLOB_URLS = """
    const { createObjectURL, revokeObjectURL } = URL;
    window.blobUrls = new Set();
    URL.createObjectURL = (blob) => {
        const url = createObjectURL(blob);
        window.blobUrls.add(url);
        return url;
    };
    URL.revokeObjectURL = (url) => {
        window.blobUrls.delete(url);
        revokeObjectURL(url);
    };
"""

OpenPage = Callable[..., Page]


# Not for the session: its event loop runs until it ends, and tests that are async have their own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(NO_BROWSER)
    # Its sandbox does not work for root.
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        expect.set_options(timeout=None)
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Open a URL in a window of its own, with nothing remembered; several at a time if you like."""
    watches: list[Watch] = []

    def open_one(
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        expected: tuple[str, ...] = (),
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(2 * PATIENCE_MS)
        page = context.new_page()
        watches.append(Watch(page, url, expected))
        page.goto(url)
        return page

    yield open_one
    for watch in watches:
        watch.page.context.close()
    if faults := [fault for watch in watches for fault in watch.faults]:
        pytest.fail("\n".join(faults))


class Watch:
    """Writes down what a page must not do."""

    def __init__(self, page: Page, url: str, expected: tuple[str, ...]) -> None:
        self.page = page
        self.faults: list[str] = []
        self._origin = urlsplit(url)[:2]
        self._expected = expected
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("request", self._seen)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in self._expected):
            self.faults.append(f"console: {message.text} ({message.location['url']})")

    def _seen(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme not in INLINE and asked[:2] != self._origin:
            self.faults.append(f"foreign: {request.url}")


def record_blob_urls(page: Page) -> None:
    """Load a page anew, so that its blob URLs are known."""
    page.add_init_script(RECORD_BLOB_URLS)
    page.reload()


def blob_urls(page: Page) -> list[str]:
    """Those that are not revoked."""
    return list(page.evaluate("[...window.blobUrls]"))


def can_show(page: Page, url: str) -> bool:
    """Whether an image can be loaded from a URL."""
    script = """(src) => new Promise((done) => {
        const image = new Image();
        image.onload = () => done(true);
        image.onerror = () => done(false);
        image.src = src;
    })"""
    return bool(page.evaluate(script, url))
