"""The longer run: kill -9 again and again, at each point and at random, and count what is lost.

    ./install.sh kills [rounds]     20 rounds of each point and 10 jobs for each random kill

It can be interrupted and goes on where it was. The table is written to KILLS.md beside this file.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import requests
from comfy_process import PROVIDED, ComfyProcess
from kill_points import POINTS

ROUNDS = 20
JOBS_PER_RANDOM_KILL = 10
STATE = PROVIDED / "kills.json"
TABLE = Path(__file__).with_name("KILLS.md")
VERSION = "0.30.0"
RANDOM = "at random, while 10 jobs are under way"
COLUMNS = ("kills", "accepted", "completed", "lost", "doubled", "executions")


def main(rounds: int) -> int:
    tally = Tally.load()
    with tempfile.TemporaryDirectory(prefix="kills-") as base:
        comfy = ComfyProcess(VERSION, Path(base), nodes=("fault_points",)).start()
        try:
            for point in (*POINTS, RANDOM):
                while tally[point]["kills"] < rounds:
                    tally.add(point, kill_once(comfy, point, tally[point]["kills"]))
                    tally.save()
                    print(point, dict(tally[point]), flush=True)
        finally:
            comfy.kill()
    TABLE.write_text(tally.table(), encoding="utf-8")
    return 1 if tally.faults else 0


class Tally:
    """What was counted so far, by point."""

    def __init__(self, counts: dict[str, dict[str, int]]) -> None:
        self._counts = {point: Counter(counts.get(point, {})) for point in (*POINTS, RANDOM)}

    @classmethod
    def load(cls) -> Tally:
        return cls(json.loads(STATE.read_text()) if STATE.exists() else {})

    def save(self) -> None:
        STATE.write_text(json.dumps(self._counts))

    def __getitem__(self, point: str) -> Counter[str]:
        return self._counts[point]

    def add(self, point: str, counted: dict[str, int]) -> None:
        self._counts[point].update(counted)

    @property
    def faults(self) -> int:
        return sum(counts["lost"] + counts["doubled"] for counts in self._counts.values())

    def table(self) -> str:
        rows = [
            f"| {point} | {' | '.join(str(counts[name]) for name in COLUMNS)} |"
            for point, counts in self._counts.items()
        ]
        machine = f"ComfyUI {VERSION} on {os.cpu_count()} CPU cores, {platform.system()}"
        lines = (
            "# kill -9 of a real ComfyUI",
            "",
            f"{date.today()}, {machine}. `lost`: accepted and not completed after the restart.",
            "`doubled`: published twice. Written by `./install.sh kills`.",
            "",
            f"| killed | {' | '.join(COLUMNS)} |",
            f"|---|{'---|' * len(COLUMNS)}",
            *rows,
            "",
        )
        return "\n".join(lines)


def kill_once(comfy: ComfyProcess, point: str, number: int) -> dict[str, int]:
    tag = f"{point.split(maxsplit=1)[0]}-{number}-{time.time_ns()}"
    accepted = die_at_random(comfy, tag) if point == RANDOM else die_at(comfy, point, tag)
    published = modification_times(comfy)
    comfy.start()
    jobs = comfy.jobs_tagged(tag)
    ended = [comfy.finished(job, seconds=120) for job in jobs]
    completed = [job for job in ended if job["status"] == "completed"]
    changed = [path for path, when in published.items() if path.stat().st_mtime_ns != when]
    return {
        "kills": 1,
        "accepted": len(jobs),
        "completed": len(completed),
        "lost": len(accepted - set(jobs)) + len(jobs) - len(completed),
        "doubled": len(changed) + (len(completed) - len({j["result_url"] for j in completed})),
        "executions": len(comfy.runs(tag)),
    }


def die_at(comfy: ComfyProcess, point: str, tag: str) -> set[str]:
    comfy.post("/fault_point", data=POINTS[point][0])
    accepted = submit(comfy, {"tag": tag})
    comfy.wait_for_death()
    return accepted


def die_at_random(comfy: ComfyProcess, tag: str) -> set[str]:
    accepted: set[str] = set()
    for _ in range(JOBS_PER_RANDOM_KILL):
        accepted |= submit(comfy, {"tag": tag, "seconds": 0.2, "steps": 4})
    time.sleep(random.uniform(0, 3))
    comfy.kill()
    return accepted


def submit(comfy: ComfyProcess, parameters: dict[str, Any]) -> set[str]:
    """The id of the job, if it was told."""
    with suppress(requests.ConnectionError):
        return {comfy.submit("probe", parameters)}
    return set()


def modification_times(comfy: ComfyProcess) -> dict[Path, int]:
    found = comfy.user_folder.glob("results/[0-9a-f]*/*")
    return {path: path.stat().st_mtime_ns for path in found}


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
