"""The graceful end, in processes that live as ComfyUI does: a loop, and SIGINT to end it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

CONFTEST = Path(__file__).parents[2] / "conftest.py"
LIMIT_SECONDS = 20
LIFE = f"""
import asyncio, logging, runpy, signal, sys, threading
runpy.run_path({str(CONFTEST)!r})
from unified_api.jobs.drain import Drain

logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")

def say(text):
    print(text, flush=True)

async def at_once():
    say("drained")

async def never():
    try:
        await asyncio.Event().wait()
    finally:
        say("handed back")

async def when_told():
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, told.set)
    say("draining")
    await told.wait()
    say("drained")

def hang():
    say("hanging")
    threading.Event().wait()

async def live(drain, budget=60.0, repeat=0.0, prepare=lambda drain: None, **more):
    drain = Drain(drain, budget_seconds=budget, **more)
    drain.listen(repeat_seconds=repeat)
    prepare(drain)
    say("ready")
    await asyncio.Event().wait()

def run(*args, **more):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(live(*args, **more))
    except KeyboardInterrupt:
        say("farewell")
    finally:
        say("tidied up")

"""

#: Whoever runs the tests in the background has them inherit that interrupts are ignored.
HEED = "signal.signal(signal.SIGINT, signal.default_int_handler)"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")


class Life:
    """A process of the given script, after it has said that it is ready."""

    def __init__(self, script: str, *before: str) -> None:
        program = LIFE + textwrap.dedent(script)
        self._process = subprocess.Popen(
            [*before, sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self.pid = self._process.pid
        self.hear("ready")

    def hear(self, text: str) -> None:
        """Read on until this is said."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.rstrip())
            if text in line:
                return
        raise AssertionError(f"it never said {text!r}: {self.said}")

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def send(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        output, _ = self._process.communicate(timeout=LIMIT_SECONDS)
        self.said += output.splitlines()
        return self._process.returncode

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        if self.is_alive and psutil.pid_exists(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def live():
    """Start a process: `live("run(at_once)")`."""
    lives: list[Life] = []

    def start(script: str, *before: str) -> Life:
        lives.append(Life(script, *before))
        return lives[-1]

    yield start
    for life in lives:
        life.kill()


FAREWELL = ["farewell", "tidied up"]


def test_on_sigterm_it_drains_then_ends_as_on_an_interrupt(live):
    life = live("run(when_told)")

    life.send()
    life.hear("draining")
    assert life.is_alive
    life.tell()

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL
    assert "drained" in life.said
    assert not any("Traceback" in line for line in life.said)


def test_one_clear_line_tells_that_it_begins(live):
    life = live("run(at_once, budget=77)")

    life.send()
    life.end()

    (line,) = [line for line in life.said if line.startswith("WARNING")]
    assert "SIGTERM" in line
    assert "77 s" in line


def test_it_ends_also_where_an_interrupt_is_ignored(live):
    life = live("run(at_once)", "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    life.send(signal.SIGINT)

    life.send()

    assert life.end() == 0
    assert life.said[-3:] == ["INFO Unified API: ComfyUI ends now.", *FAREWELL]


def test_an_interrupt_ends_it_as_ever(live):
    life = live(f"{HEED}; run(never)")

    life.send(signal.SIGINT)

    assert life.end() == 0
    assert life.said == ["ready", *FAREWELL]


def test_an_interrupt_ends_a_drain(live):
    life = live(f"{HEED}; run(when_told)")
    life.send()
    life.hear("draining")

    life.send(signal.SIGINT)

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL


def test_a_second_sigterm_ends_it_at_once(live):
    life = live("run(when_told)")
    life.send()
    life.hear("draining")

    life.send()

    assert life.end() == 143
    assert "a second SIGTERM" in life.said[-1]


def test_with_a_supervisor_sigterms_that_come_together_are_one(live):
    life = live("run(when_told, repeat=60)")
    life.send()
    life.hear("draining")

    life.send()
    life.tell()

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL


def test_with_a_supervisor_a_later_sigterm_ends_it_at_once(live):
    life = live("run(when_told, repeat=0.0001)")
    life.send()
    life.hear("draining")

    life.send()

    assert life.end() == 143


def test_when_the_budget_is_up_the_rest_is_handed_back_and_it_ends_in_order(live):
    life = live("run(never, budget=0.2)")

    life.send()

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL
    assert "handed back" in life.said
    assert any("time is up" in line for line in life.said)


def test_a_handing_back_that_hangs_does_not_stop_it(live):
    life = live(
        """
        async def stubborn():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    say("no")

        run(stubborn, budget=0.2, hand_back_seconds=0.2)
        """
    )

    life.send()

    assert life.end() == 0
    assert "no" in life.said
    assert "farewell" in life.said


def test_a_drain_that_fails_is_told_and_does_not_stop_it(live):
    life = live("run(lambda: 1 / 0)")

    life.send()

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL
    assert any("ZeroDivisionError" in line for line in life.said)


@pytest.mark.parametrize(
    "script",
    [
        "run(at_once, leave=hang, **soon)",
        "run(at_once, leave=lambda: None, **soon)",
        "import atexit; atexit.register(hang); run(at_once, **soon)",
        "run(lambda: hang(), budget=0.2, **soon)",
    ],
    ids=["leaving", "no leaving", "tidying up", "the loop"],
)
def test_whatever_hangs_it_ends_and_tells_where(live, script):
    life = live(f"soon = dict(leave_seconds=0.3, hand_back_seconds=0.3)\n{script}")

    life.send()

    assert life.end() == 1
    assert any(line.startswith("Timeout") for line in life.said)


def test_a_sigterm_while_it_leaves_ends_it_at_once(live):
    life = live("import atexit; atexit.register(hang); run(at_once)")
    life.send()
    life.hear("hanging")

    life.send()

    assert life.end() == -signal.SIGTERM


def test_a_notice_is_as_good_as_a_sigterm_and_is_followed_by_one_without_harm(live):
    life = live(
        """
        async def notice():
            return "the machine is taken away"

        run(when_told, prepare=lambda drain: drain.watch(notice()))
        """
    )
    life.hear("draining")

    life.send()
    life.tell()

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL
    assert any("the machine is taken away" in line for line in life.said)
    assert life.said.count("drained") == 1


def test_whoever_listened_to_sigterm_before_is_told_after_the_drain(live):
    life = live("signal.signal(signal.SIGTERM, lambda *_: say('told')); run(at_once)")

    life.send()

    assert life.end() == 0
    assert [line for line in life.said if not line.startswith(("INFO", "WARNING"))] == [
        *("ready", "drained", "told", *FAREWELL)
    ]


@pytest.mark.parametrize(
    ("handler", "status", "last"),
    [
        ("signal.default_int_handler", 0, FAREWELL),
        ("lambda *_: sys.exit(7)", 7, ["tidied up"]),
    ],
)
def test_whoever_listened_to_sigterm_before_may_end_the_process(live, handler, status, last):
    life = live(f"signal.signal(signal.SIGTERM, {handler}); run(at_once, leave=hang)")

    life.send()

    assert life.end() == status
    assert life.said[-len(last) :] == last
    assert "hanging" not in life.said


def test_whoever_listened_to_sigterm_before_may_fail(live):
    life = live("signal.signal(signal.SIGTERM, lambda *_: 1 / 0); run(at_once)")

    life.send()

    assert life.end() == 0
    assert life.said[-2:] == FAREWELL


def test_where_nobody_can_listen_to_sigterm_all_else_works(live):
    life = live(
        """
        thread = threading.Thread(target=run, args=(at_once,), daemon=True)
        thread.start()
        thread.join()
        """
    )

    assert any("without a drain" in line for line in life.said)
    life.send()

    assert life.end() == -signal.SIGTERM


def may_unshare() -> bool:
    unshare = shutil.which("unshare")
    asked = [str(unshare), "--pid", "--fork", "true"]
    return bool(unshare) and subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="no namespace of processes may be made here")
class TestAsProcessOne:
    """As in a container: SIGTERM does nothing to it unless it listens."""

    @pytest.fixture
    def live(self, live):
        def start(script):
            life = live(script, "unshare", "--pid", "--fork", "--kill-child")
            (child,) = psutil.Process(life.pid).children()
            life.pid = child.pid
            return life

        return start

    def test_it_drains_and_ends(self, live):
        life = live("import os; assert os.getpid() == 1; run(when_told)")

        life.send()
        life.hear("draining")
        life.tell()

        assert life.end() == 0
        assert life.said[-2:] == FAREWELL

    def test_a_second_sigterm_ends_it_at_once(self, live):
        life = live("run(when_told)")
        life.send()
        life.hear("draining")

        life.send()

        assert life.end() == 143

    def test_when_leaving_hangs_it_ends_all_the_same(self, live):
        life = live("run(at_once, leave=hang, leave_seconds=0.3)")

        life.send()

        assert life.end() == 1
