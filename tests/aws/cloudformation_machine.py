"""A worker's machine, as far as scripts see one: its commands only write down that they came."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

AWS = Path(__file__).parents[2] / "deploy" / "aws"
GUARD = AWS / "guard.sh"
#: Between two looks of the guard.
ROUNDS_A_MINUTE = 12
#: What is asked for by a URL, by the last word of it. What a moment lacks is an error.
ANSWERS = {"token": "token", "instance-id": "i-1", "health": "{}", "metrics": ""}
TERMINATED = {"target-lifecycle-state": "Terminated"}
#: Where a path begins that is no part of a longer word.
ABSOLUTE = re.compile(r"(?<![\w./])/(?!/)[\w./-]*")
REDIRECTED = ("/opt/", "/etc/")
#: Its interpreter, and what it tells CloudWatch's agent of.
ONLY_NAMED = {"/bin/bash", "/var/log/syslog"}
NOTE = 'echo "$(basename "$0") $*" >> "$CALLS"'
#: Time passes by sleeping.
GUARDED = {
    "curl": 'cat "moments/$(cat now)/$(basename "${!#}")" 2>/dev/null',
    "aws": NOTE,
    "systemctl": NOTE,
    "sleep": "echo $(($(cat now) + 1)) > now",
}
INSTALLING = {
    **dict.fromkeys(("aws", "systemctl", "rm"), NOTE),
    "git": f'{NOTE}; mkdir -p "${{!#}}" && cp -r "$CLONE/." "${{!#}}"',
}
Moment = Mapping[str, "str | None"]


def held(jobs: int) -> Moment:
    """A worker that holds so many."""
    return {
        "metrics": f"# TYPE unified_api_messages_held gauge\nunified_api_messages_held {jobs}.0\n"
    }


def guard(folder: Path, moments: Sequence[Moment]) -> list[str]:
    """The commands it gave on a machine that goes through these moments, and then must go."""
    for number, moment in enumerate([*moments, TERMINATED]):
        place = folder / "moments" / str(number)
        place.mkdir(parents=True)
        for name, answer in {**ANSWERS, **moment}.items():
            if answer is not None:
                (place / name).write_text(answer)
    (folder / "now").write_text("0")
    settings = {"STACK": "fleet", "GROUP": "workers", "IDLE_MINUTES": "1"}
    run(folder, [str(GUARD)], GUARDED, settings)
    return calls(folder)


def install(folder: Path, user_data: str) -> list[str]:
    """The commands that a new machine's first script gave. Its files are below the folder."""
    clone = folder / "clone"
    shutil.copytree(AWS, clone / "deploy" / "aws")
    write(clone / "install.sh", NOTE)
    write(folder / "opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl", NOTE)
    for name in ("opt/aws/amazon-cloudwatch-agent/etc", "etc/systemd/system"):
        (folder / name).mkdir(parents=True)
    run(folder, ["bash", "-c", below(folder, user_data)], INSTALLING, {"CLONE": str(clone)})
    return calls(folder)


def below(folder: Path, script: str) -> str:
    """What it does cannot reach the machine that the tests run on."""
    left = {path for path in ABSOLUTE.findall(script) if not path.startswith(REDIRECTED)}
    assert left <= ONLY_NAMED, f"where shall {left - ONLY_NAMED} be, in a test?"
    return ABSOLUTE.sub(lambda path: redirected(path[0], folder), script)


def redirected(path: str, folder: Path) -> str:
    return f"{folder}{path}" if path.startswith(REDIRECTED) else path


def run(
    folder: Path, call: list[str], commands: Mapping[str, str], settings: Mapping[str, str]
) -> None:
    for name, text in commands.items():
        write(folder / "bin" / name, text)
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "CALLS": str(folder / "calls"),
        **settings,
    }
    subprocess.run(call, cwd=folder, env=environment, check=True, timeout=60)


def write(command: Path, text: str) -> None:
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(f"#!/bin/bash\n{dedent(text)}\n")
    command.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()
