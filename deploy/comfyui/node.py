"""The tools from npm that check the scripts of the web pages."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .places import NODE, ROOT
from .report import run_step

PAGE_TOOLS = ROOT / "tests" / "web" / "package.json"
#: Also in tests/web/package.json: ESLint runs on no older one.
OLDEST_NODE = (18, 18)
CURE = "Check the network and the free disk space; then run again."


def has_node() -> bool:
    """Whether there is a Node that can run the tools, and npm to install them."""
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return tuple(map(int, re.findall(r"\d+", told.stdout)[:2])) >= OLDEST_NODE


def page_tools() -> Path | None:
    """The folder of the tools, installed once; None without a Node for them."""
    if not has_node():
        return None
    wanted, finished = PAGE_TOOLS.read_text(encoding="utf-8"), NODE / "installed.json"
    if not finished.exists() or finished.read_text(encoding="utf-8") != wanted:
        npm_install(wanted)
        finished.write_text(wanted, encoding="utf-8")
    return NODE / "node_modules"


def npm_install(package: str) -> None:
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text(package, encoding="utf-8")
    command = [shutil.which("npm") or "npm", "install", "--prefix", str(NODE)]
    command += ["--no-package-lock", "--no-audit", "--no-fund"]
    run_step("Installing the tools that check the web pages", command, log="npm", cure=CURE)
