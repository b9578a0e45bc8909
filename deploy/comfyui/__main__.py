"""The verbs of install.sh."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ..systemd.services import systemd
from ..systemd.uninstall import uninstall
from ..systemd.upgrade import rollback, upgrade
from .checks import run_checks, run_kills
from .demo import demo
from .doctor import doctor
from .existing import add_requirements, existing_comfyui, install_into_existing
from .keys import keys
from .places import ComfyUI
from .provide import everything_for_tests, own_comfyui, python_with_moto
from .report import Failure, guarded
from .serve import serve

HELP = """ComfyUI Unified API Service

  ./install.sh                  install the requirements into the ComfyUI this folder stands in
  ./install.sh demo             run one job on a real ComfyUI and show the result
  ./install.sh demo --aws       the same through queue and table, on an AWS emulator (moto)
  ./install.sh serve [options]  start ComfyUI with the plugin; options are ComfyUI's (--port N ...)
  ./install.sh test [arguments] style, types and tests in ten minutes; arguments are pytest's
  ./install.sh test --full      every test there is; --full --part 2/4 runs one part of four
  ./install.sh kills [rounds]   the longer crash test: kill -9 again and again; resumable
  ./install.sh key add NAME     print a new API key (--scopes submit,read,cancel,read-all,admin)
  ./install.sh key list         the keys of this ComfyUI, by name, scopes and hash
  ./install.sh key renew NAME   another key of that name, which opens beside the former
  ./install.sh key revoke NAME  that opens nothing any more (with --former: all but the newest)
  ./install.sh key open --yes   delete all keys: the API takes callers on this machine without one
  ./install.sh doctor [--json]  what this worker lacks: permissions, models, disk, clock; status 1
  ./install.sh doctor --orchestrator   the same for the orchestrator of this clone
  ./install.sh systemd          ComfyUI and the orchestrator as services (also --systemd)
  ./install.sh upgrade [REF]    this clone at the newest release, or at that tag, branch or commit
  ./install.sh rollback         this clone as it was before the last upgrade
  ./install.sh uninstall        removes services and link, and says what it leaves
  ./install.sh help             this text (also --help)

demo and serve take the ComfyUI whose custom_nodes this folder stands in, or COMFYUI_PATH, and
otherwise get one of their own into .comfyui/ (to start afresh delete that folder; serve's jobs,
results, keys and definitions are in it).

key works in the user folder of that ComfyUI, without one in that of serve; --user-folder DIR
names another.

doctor takes the settings of its environment, or of --env-file FILE as systemd reads them, with the
COMFYUI_OPTIONS in it, or the --base-directory DIR that ComfyUI is given. It starts nothing and
touches no task.

systemd writes unit files and, where there are none yet, environment files into /etc; nothing is
started. ComfyUI runs as the owner of its folder. --only worker or --only orchestrator writes one
of them, --into DIR takes DIR for / (uninstall too).

  COMFYUI_PATH    the ComfyUI to use
  COMFYUI_PYTHON  the Python it runs on; else its venv or .venv, python_embeded, $VIRTUAL_ENV
  UNIFIED_API_MAX_QUICK_DEATHS  serve restarts ComfyUI when it dies, and gives up after so many
                  deaths in a row within a minute of a start (10)
"""

WITH_OPTIONS = {
    "key": keys,
    "systemd": systemd,
    "--systemd": systemd,
    "upgrade": upgrade,
    "rollback": rollback,
    "uninstall": uninstall,
}


def main(arguments: list[str]) -> int:
    verb, options = (arguments or ["install"])[0], arguments[1:]
    if verb == "install":
        install_into_existing()
    elif arguments == ["demo", "--aws"]:
        become_aws_demo(ready_comfyui())
    elif arguments == ["demo"]:
        demo(ready_comfyui())
    elif verb == "serve":
        return serve(ready_comfyui(), options)
    elif verb == "test":
        return run_checks(everything_for_tests, options)
    elif verb == "kills":
        return run_kills(everything_for_tests(), options)
    elif verb == "doctor":
        return doctor(options)
    elif verb in WITH_OPTIONS:
        WITH_OPTIONS[verb](options)
    elif verb in {"help", "--help", "-h"}:
        print(HELP, end="")
    else:
        asked = " ".join(arguments)
        raise Failure(f"There is no '{asked}': ./install.sh --help lists what there is.")
    return 0


def become_aws_demo(comfyui: ComfyUI) -> NoReturn:
    """Only a Python with packages can speak to AWS; nothing needs this one any more."""
    python = str(python_with_moto())
    call = [python, "-m", "deploy.aws", str(comfyui.tree), str(comfyui.python)]
    os.execv(python, call)


def ready_comfyui() -> ComfyUI:
    comfyui = existing_comfyui()
    if comfyui is None:
        return own_comfyui()
    add_requirements(comfyui)
    return comfyui


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
