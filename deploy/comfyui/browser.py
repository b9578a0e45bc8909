"""Sees to a Chromium for the tests of the web pages: Debian's own, where we may install it."""

from __future__ import annotations

import shutil

from .report import Failure, run_step, say

#: Also in tests/comfyui/browser.py, which starts it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
UNTESTED = "NOT TESTED: the web pages. They need a Chromium (Debian: apt-get install chromium)."
CURE = "Install a Chromium yourself, or go on without the tests of the web pages."


def provide_chromium(*, may_install: bool) -> None:
    """What cannot be had is said; it stops nothing."""
    if not has_chromium() and may_install and shutil.which("apt-get"):
        try:
            install()
        except Failure as failure:
            say(f"{failure.details}\n{failure}")
    if not has_chromium():
        say(UNTESTED)


def has_chromium() -> bool:
    return any(shutil.which(name) for name in NAMES)


def install() -> None:
    run_step("Asking Debian for its packages", ["apt-get", "update"], log="chromium", cure=CURE)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    run_step("Installing Chromium, for the web pages", command, log="chromium", cure=CURE)
