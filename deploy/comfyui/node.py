"""The tools from npm that check the scripts of the web pages."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .places import NODE, ROOT
from .report import Failure, run_step, say

PAGE_TOOLS = ROOT / "tests" / "web"
#: The second has the hash of every package that the first leads to.
PACKAGE_FILES = ("package.json", "package-lock.json")
#: Also in tests/web/package.json: ESLint runs on no older one.
OLDEST_NODE = (18, 18)
#: What they test.
TESTS = "types and style of the pages' scripts"
#: By default npm goes on for a minute with each of a hundred packages that it cannot get.
OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1",
           "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000")  # fmt: skip
CURE = "Check the network and the free disk space; then run again."


def has_node() -> bool:
    """Whether there is a Node that can run the tools, and npm to install them."""
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    answer = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return tuple(map(int, re.findall(r"\d+", answer.stdout)[:2])) >= OLDEST_NODE


def page_tools() -> Path | None:
    """The folder of the tools, installed once; None where they cannot be had, which is said."""
    if not has_node():
        return None
    files = {name: (PAGE_TOOLS / name).read_text(encoding="utf-8") for name in PACKAGE_FILES}
    wanted, finished = "".join(files.values()), NODE / "installed.json"
    if not finished.exists() or finished.read_text(encoding="utf-8") != wanted:
        try:
            npm_install(files)
        except Failure as failure:
            say(f"{failure.details}\n{failure}\nNOT TESTED: {TESTS}.")
            return None
        finished.write_text(wanted, encoding="utf-8")
    return NODE / "node_modules"


def npm_install(files: Mapping[str, str]) -> None:
    NODE.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (NODE / name).write_text(text, encoding="utf-8")
    command = [shutil.which("npm") or "npm", "ci", "--prefix", str(NODE), *OPTIONS]
    command += system_certificates()
    run_step("Installing the tools that check the web pages", command, log="npm", cure=CURE)


def system_certificates() -> list[str]:
    """Node brings certificates of its own; that of a company's proxy only the system has."""
    bundle = ssl.get_default_verify_paths().cafile
    return [f"--cafile={bundle}"] if bundle and "NODE_EXTRA_CA_CERTS" not in os.environ else []
