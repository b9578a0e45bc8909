"""The guard that the template puts on each worker, and a machine for it to run on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from cloudformation_stack import properties

#: What is asked for by a URL, by the last word of it. What a moment lacks is an error.
ANSWERS = {"token": "token", "instance-id": "i-1", "health": "{}", "metrics": ""}
TERMINATED = {"target-lifecycle-state": "Terminated"}
COMMANDS = {
    "curl": 'cat "moments/$(cat now)/$(basename "${!#}")" 2>/dev/null',
    "aws": 'echo "aws $*" >> calls',
    "systemctl": 'echo "systemctl $*" >> calls',
    "sleep": "echo $(($(cat now) + 1)) > now",
}
Moment = Mapping[str, "str | None"]


def user_data() -> str:
    """What a worker's machine does first, names of resources not yet filled in."""
    launch = properties("WorkerTemplate")["LaunchTemplateData"]
    return str(launch["UserData"]["Fn::Base64"]["Fn::Sub"])


def embedded(name: str) -> str:
    """A file that it writes, by the word that ends it."""
    (found,) = re.findall(rf"<<'{name}'\n(.*?)^{name}$", user_data(), re.DOTALL | re.MULTILINE)
    return str(found)


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
    for name, text in COMMANDS.items():
        command = folder / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/bash\n{dedent(text)}\n")
        command.chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "STACK": "fleet", "GROUP": "workers"}
    call = ["bash", "-c", embedded("GUARD")]
    subprocess.run(call, cwd=folder, env=environment, check=True, timeout=20)
    return (folder / "calls").read_text().splitlines()
