"""`serve` as the parent of ComfyUI: signals, statuses, restarts. The children here are scripts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from unified_api.deploy.comfyui.report import Failure
from unified_api.deploy.comfyui.serve import limits_from, supervised
from unified_api.deploy.comfyui.supervisor import Limits

ROOT = Path(__file__).resolve().parents[3]
LIMIT_SECONDS = 20.0
PARENT = """
import os, signal, sys
from deploy.comfyui.report import guarded
from deploy.comfyui.supervisor import Limits, supervise

script, limits = sys.argv[1], eval(sys.argv[2])
call = [sys.executable, "-u", "-c", script]
sys.exit(guarded(lambda _: supervise(call, os.environ, limits=limits), []))
"""
#: Says which signals it gets, and ends when it has been told to by `TOLD`.
LISTENER = """
import os, signal, sys, time
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), lambda number, _, name=name: print("got", name))
print("child", os.getpid())
while not os.path.exists("end"):
    time.sleep(0.02)
"""
FAST = "Limits(first_pause_seconds=0.01, max_pause_seconds=0.02)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: it needs Linux")


class Parent:
    """A process that supervises a script, in a session of its own."""

    def __init__(self, folder: Path, script: str, limits: str, *before: str) -> None:
        self.folder = folder
        self._said = folder / "said.txt"
        self._process = self._spawn([*before, sys.executable, "-c", PARENT, script, limits])

    def _spawn(self, call: list[str]) -> subprocess.Popen[bytes]:
        with self._said.open("wb") as output:
            return subprocess.Popen(
                call,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # The tests themselves may run under nohup.
                preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> list[str]:
        return self._said.read_text().splitlines()

    def children(self) -> list[int]:
        """The ids of all children that there have been."""
        return [int(line.split()[1]) for line in self.lines() if line.startswith("child ")]

    def up(self, number: int = 1) -> Parent:
        until(lambda: len(self.children()) >= number)
        return self

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def tell_child_to_end(self) -> None:
        (self.folder / "end").touch()

    def status(self) -> int:
        return self._process.wait(LIMIT_SECONDS)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not question():
        assert time.monotonic() < end, "it was not so in time"
        time.sleep(0.02)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[..., Parent]]:
    with contextlib.ExitStack() as started:

        def start(script: str, limits: str = FAST, *before: str) -> Parent:
            made = Parent(tmp_path, script, limits, *before)
            started.callback(made.kill)
            return made

        yield start


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_passed_on_once_and_nothing_is_started_again(
    parent: Callable[..., Parent], name: str
) -> None:
    supervisor = parent(LISTENER).up()

    supervisor.send(getattr(signal, name))
    until(lambda: f"got {name}" in supervisor.lines())
    supervisor.tell_child_to_end()

    assert supervisor.status() == 0
    assert supervisor.lines().count(f"got {name}") == 1
    assert len(supervisor.children()) == 1


def test_ctrl_c_in_a_terminal_reaches_the_child_once(tmp_path: Path) -> None:
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(tmp_path)
        call = [sys.executable, "-c", PARENT, LISTENER, FAST]
        os.execvpe(sys.executable, call, {**os.environ, "PYTHONPATH": str(ROOT)})
    said = heard(terminal, "child")

    # Two signals at once would look like one to the child: the parent gets its own later.
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    os.write(terminal, b"\x03")
    said += heard(terminal, "got SIGINT")
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGTERM)
    said += heard(terminal, "got SIGTERM")
    (tmp_path / "end").touch()
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert said.count("got SIGINT") == 1
    assert os.waitstatus_to_exitcode(status) == 0


def heard(terminal: int, word: str) -> str:
    """What is said there until this word."""
    said = ""
    while word not in said:
        said += os.read(terminal, 1024).decode()
    return said


def test_the_child_keeps_the_process_group_and_standard_input(
    parent: Callable[..., Parent],
) -> None:
    supervisor = parent("import os; print('group', os.getpgrp(), os.path.realpath('/dev/fd/0'))")

    assert supervisor.status() == 0
    assert supervisor.lines() == [f"group {supervisor.pid} /dev/null"]


@pytest.mark.parametrize("code", [0, 2])
def test_an_end_that_no_restart_would_change_is_passed_on(
    parent: Callable[..., Parent], code: int
) -> None:
    supervisor = parent(f"import os, sys; print('child', os.getpid()); sys.exit({code})")

    assert supervisor.status() == code
    assert len(supervisor.children()) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_child_that_somebody_asks_to_end_is_not_started_again(
    parent: Callable[..., Parent], name: str
) -> None:
    supervisor = parent("import os, signal, time; print('child', os.getpid()); time.sleep(60)").up()
    number = getattr(signal, name)

    os.kill(supervisor.children()[0], number)

    assert supervisor.status() == 128 + number
    assert len(supervisor.children()) == 1


@pytest.mark.parametrize(
    "death",
    ["sys.exit(70)", "sys.exit(1)", "os.abort()", "os.kill(os.getpid(), 9)", "1 / 0"],
)
def test_a_child_that_dies_is_started_again(parent: Callable[..., Parent], death: str) -> None:
    script = f"""
import os, sys
print("child", os.getpid())
if os.path.exists("died"):
    sys.exit(0)
open("died", "w").close()
{death}
"""
    supervisor = parent(script)

    assert supervisor.status() == 0
    assert len(supervisor.children()) == 2
    (told,) = [line for line in supervisor.lines() if "started again" in line]
    assert told.startswith("ComfyUI ended ")


@pytest.mark.parametrize(("death", "status"), [("sys.exit(70)", 70), ("os.abort()", 128 + 6)])
def test_it_gives_up_after_quick_deaths_in_a_row_and_says_so(
    parent: Callable[..., Parent], death: str, status: int
) -> None:
    limits = "Limits(max_quick_deaths=3, first_pause_seconds=0.01)"
    supervisor = parent(f"import os, sys; print('child', os.getpid()); {death}", limits)

    assert supervisor.status() == status
    assert len(supervisor.children()) == 3
    assert "3 times in a row" in supervisor.lines()[-1]
    assert "./install.sh serve" in supervisor.lines()[-1]


def test_a_death_after_a_long_life_does_not_count(parent: Callable[..., Parent]) -> None:
    limits = "Limits(max_quick_deaths=2, quick_seconds=0.0, first_pause_seconds=0.01)"
    script = """
import os, sys
print("child", os.getpid())
deaths = len(open("said.txt").read().split("child")) - 1
sys.exit(0 if deaths > 4 else 1)
"""
    supervisor = parent(script, limits)

    assert supervisor.status() == 0
    assert len(supervisor.children()) == 5


def test_the_pause_grows_with_each_quick_death_to_a_limit() -> None:
    limits = Limits(first_pause_seconds=1.0, max_pause_seconds=10.0)

    assert [limits.pause_seconds(deaths) for deaths in range(7)] == [1, 1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_during_the_pause_ends_it_at_once(
    parent: Callable[..., Parent], name: str
) -> None:
    supervisor = parent(
        "import os; print('child', os.getpid()); os.abort()",
        "Limits(first_pause_seconds=600, max_pause_seconds=600)",
    )
    until(lambda: any("started again" in line for line in supervisor.lines()))

    supervisor.send(getattr(signal, name))

    assert supervisor.status() == 128 + getattr(signal, name)


def test_a_child_that_dies_while_it_is_to_end_is_not_started_again(
    parent: Callable[..., Parent],
) -> None:
    script = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(70))
print("child", os.getpid())
time.sleep(60)
"""
    supervisor = parent(script).up()

    supervisor.send(signal.SIGTERM)

    assert supervisor.status() == 70
    assert len(supervisor.children()) == 1


def test_the_child_dies_with_a_parent_that_is_killed(parent: Callable[..., Parent]) -> None:
    supervisor = parent(LISTENER).up()
    (child,) = supervisor.children()

    supervisor.send(signal.SIGKILL)
    supervisor.status()

    until(lambda: not psutil.pid_exists(child) or is_zombie(child))


def is_zombie(pid: int) -> bool:
    """Where nobody waits for orphans, as in some containers, they stay as such."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_no_zombie_is_left_by_children_that_died(parent: Callable[..., Parent]) -> None:
    script = f"""
import os
if not os.path.exists("third"):
    os.rename("second", "third") if os.path.exists("second") else open("second", "w").close()
    os.abort()
{LISTENER}
"""
    supervisor = parent(script).up()

    children = psutil.Process(supervisor.pid).children()

    assert [child.pid for child in children] == supervisor.children()


def test_under_nohup_a_hangup_ends_nothing(parent: Callable[..., Parent]) -> None:
    supervisor = parent(LISTENER.replace(', "SIGHUP"', ""), FAST, "nohup").up()

    os.killpg(supervisor.pid, signal.SIGHUP)
    supervisor.tell_child_to_end()

    assert supervisor.status() == 0


def test_in_the_background_an_interrupt_still_ends_it(parent: Callable[..., Parent]) -> None:
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    supervisor = parent(LISTENER, FAST, *ignoring).up()

    supervisor.send(signal.SIGINT)
    until(lambda: "got SIGINT" in supervisor.lines())
    supervisor.tell_child_to_end()

    assert supervisor.status() == 0


def test_statuses_are_known_where_the_caller_ignores_its_children(
    parent: Callable[..., Parent],
) -> None:
    ignoring = (sys.executable, "-c")
    become = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    supervisor = parent("import sys; sys.exit(2)", FAST, *ignoring, become)

    assert supervisor.status() == 2


def test_a_program_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    script = f"""
import os
from deploy.comfyui.report import guarded
from deploy.comfyui.supervisor import supervise
raise SystemExit(guarded(lambda _: supervise([{str(tmp_path / "none")!r}], os.environ), []))
"""
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'none'} cannot be started: No such file or directory."
    ]


def test_serve_tells_the_plugin_that_there_is_a_supervisor_unless_the_user_says_otherwise() -> None:
    assert supervised({})["UNIFIED_API_EXIT_ON_HANG"] == "1"
    assert supervised({"UNIFIED_API_EXIT_ON_HANG": " "})["UNIFIED_API_EXIT_ON_HANG"] == "1"
    assert supervised({"UNIFIED_API_EXIT_ON_HANG": "0"})["UNIFIED_API_EXIT_ON_HANG"] == "0"


def test_the_number_of_quick_deaths_is_a_setting() -> None:
    assert limits_from({}) == Limits()
    assert limits_from({"UNIFIED_API_MAX_QUICK_DEATHS": "3"}).max_quick_deaths == 3


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_of_quick_deaths_is_refused(wrong: str) -> None:
    with pytest.raises(Failure, match="UNIFIED_API_MAX_QUICK_DEATHS"):
        limits_from({"UNIFIED_API_MAX_QUICK_DEATHS": wrong})
