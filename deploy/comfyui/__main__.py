"""The verbs of install.sh."""

from __future__ import annotations

import signal
import sys

from .checks import run_checks, run_kills
from .demo import demo
from .existing import add_requirements, existing_comfyui, install_into_existing
from .keys import keys
from .places import ComfyUI
from .provide import everything_for_tests, own_comfyui
from .report import Failure
from .serve import serve

HELP = """ComfyUI Unified API Service

  ./install.sh                  install the requirements into the ComfyUI this folder stands in
  ./install.sh demo             run one job on a real ComfyUI and show the result
  ./install.sh serve [options]  start ComfyUI with the plugin; options are ComfyUI's (--port N ...)
  ./install.sh test [arguments] run all checks and tests; arguments are pytest's
  ./install.sh kills [rounds]   the longer crash test: kill -9 again and again; resumable
  ./install.sh key add NAME     make an API key and print it (--scopes submit,read,cancel,admin)
  ./install.sh key list         the keys of this ComfyUI, by name, scopes and hash
  ./install.sh key revoke NAME  a key that opens nothing any more, from the next request on
  ./install.sh help             this text (also --help)

demo and serve take the ComfyUI whose custom_nodes this folder stands in, or COMFYUI_PATH, and
otherwise get one of their own into .comfyui/ (delete that folder to start afresh).

key works in the user folder of that ComfyUI, without one in that of serve; --user-folder DIR
names another.

  COMFYUI_PATH    the ComfyUI to use
  COMFYUI_PYTHON  the Python it runs on; else its venv or .venv, python_embeded, $VIRTUAL_ENV
"""


def main(arguments: list[str]) -> int:
    verb, options = (arguments or ["install"])[0], arguments[1:]
    if verb == "install":
        install_into_existing()
    elif verb == "demo":
        demo(ready_comfyui())
    elif verb == "serve":
        serve(ready_comfyui(), options)
    elif verb == "test":
        return run_checks(everything_for_tests(), options)
    elif verb == "kills":
        return run_kills(everything_for_tests(), options)
    elif verb == "key":
        keys(options)
    elif verb in {"help", "--help", "-h"}:
        print(HELP, end="")
    else:
        raise Failure(f"There is no '{verb}': ./install.sh --help lists what there is.")
    return 0


def ready_comfyui() -> ComfyUI:
    comfyui = existing_comfyui()
    if comfyui is None:
        return own_comfyui()
    add_requirements(comfyui)
    return comfyui


def guarded(arguments: list[str]) -> int:
    # In the background SIGINT comes ignored; what we started must end with us all the same.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return main(arguments)
    except Failure as failure:
        if failure.details:
            print(failure.details, file=sys.stderr)
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(guarded(sys.argv[1:]))
