"""Starts a ComfyUI folder: `python launch.py FOLDER [ComfyUI options]`.

It stands in for what does not load on a machine without CUDA, and only for that, and lets
SIGINT, SIGTERM and SIGHUP end ComfyUI in the same orderly way, the first two also where a shell had
them ignored.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SHIMS = Path(__file__).resolve().parent / "shims"
#: Signals that come within this time of each other count as one.
REPEAT_SECONDS = 1.0
NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def main() -> None:
    tree, options = Path(sys.argv[1]).absolute(), sys.argv[2:]
    with ending_in_order():
        sys.path[:] = [entry for entry in sys.path if not is_our_folder(entry)]
        stand_in_for_torchaudio(may_import=on_cpu(options))
        # The declarations live as long as the object that made them: to the end of the run.
        _kept = schemas_for_torchvision() if on_cpu(options) else None
        run(tree, options)


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Signals that ask for an end do that alike, and without a traceback."""
    interrupt = Interrupt()
    for number in ending_signals():
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped before ComfyUI was up", flush=True)


def ending_signals() -> list[signal.Signals]:
    """Windows has no SIGHUP; `nohup` has it ignored."""
    always = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return always
    return [*always, signal.SIGHUP]


class Interrupt:
    """Raises KeyboardInterrupt, once for signals that come together.

    A parent may pass a signal on that the whole process group has got.
    """

    def __init__(self) -> None:
        self._raised_at = float("-inf")

    def __call__(self, number: int, frame: object) -> None:
        is_repeated = time.monotonic() - self._raised_at < REPEAT_SECONDS
        if not is_repeated:
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt


def run(tree: Path, options: list[str]) -> None:
    """Run ComfyUI in this process, to its end."""
    sys.path.insert(0, str(tree))
    sys.argv = [str(tree / "main.py"), *options]
    runpy.run_path(sys.argv[0], run_name="__main__")


def is_our_folder(entry: str) -> bool:
    return Path(entry or ".").resolve() == SHIMS.parent


def on_cpu(options: list[str]) -> bool:
    """There torch may be imported ahead of ComfyUI; on a GPU ComfyUI prepares for that first."""
    return "--cpu" in options


def stand_in_for_torchaudio(*, may_import: bool) -> None:
    absent = importlib.util.find_spec("torchaudio") is None
    if absent or (may_import and not loads("torchaudio")):
        sys.path.insert(0, str(SHIMS))


def loads(package: str) -> bool:
    try:
        importlib.import_module(package)
    except (ImportError, OSError, RuntimeError):
        forget(package)
        return False
    return True


def forget(package: str) -> None:
    """A failed import leaves its submodules behind; the stand-in must not meet them."""
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]


def schemas_for_torchvision() -> object:
    """Where torchvision's compiled part fails, its Python part asks for two declarations only."""
    torch = importlib.import_module("torch")
    if compiled_torchvision_loads(torch.ops.load_library):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define(f"nms{NMS}")
    library.define(f"qnms{NMS}")
    return library


def compiled_torchvision_loads(load: Callable[[str], None]) -> bool:
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    try:
        for folder in folders or ():
            for compiled in Path(folder).glob("_C.*"):
                load(str(compiled))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
