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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import requests
from comfy_process import PROVIDED, ComfyProcess
from fleet import VERSION, Fleet
from kill_points import ORCHESTRATOR_POINTS, POINTS, QUEUE_POINTS
from queue_kills import kill_at_random, kill_orchestrator, kill_worker, raise_zombie

ROUNDS = 20
JOBS_PER_RANDOM_KILL = 10
STATE = PROVIDED / "kills.json"
TABLE = Path(__file__).with_name("KILLS.md")
RANDOM = "at random, while 10 jobs are under way"
ZOMBIE = "Z paused, while another worker runs its task"
QUEUE_RANDOM = "a worker at random, while 10 tasks are under way"
OF_HTTP_JOBS = (*POINTS, RANDOM)
OF_QUEUED_TASKS = (*QUEUE_POINTS, *ORCHESTRATOR_POINTS, ZOMBIE, QUEUE_RANDOM)
COLUMNS = ("kills", "accepted", "completed", "lost", "doubled", "executions")

Counts = dict[str, int]
#: Kill once: the point, and how often it was done before.
Kill = Callable[[str, int], Counts]


def main(rounds: int) -> int:
    tally = Tally.load()
    for points, ground in ((OF_HTTP_JOBS, one_comfyui), (OF_QUEUED_TASKS, a_fleet)):
        if any(tally[point]["kills"] < rounds for point in points):
            with tempfile.TemporaryDirectory(prefix="kills-") as folder, ground(folder) as kill:
                kill_again_and_again(tally, points, kill, rounds)
    TABLE.write_text(tally.table(), encoding="utf-8")
    return 1 if tally.faults else 0


def kill_again_and_again(tally: Tally, points: tuple[str, ...], kill: Kill, rounds: int) -> None:
    for point in points:
        while (number := tally[point]["kills"]) < rounds:
            tally.add(point, kill(point, number))
            tally.save()
            print(point, dict(tally[point]), flush=True)


@contextmanager
def one_comfyui(folder: str) -> Iterator[Kill]:
    comfy = ComfyProcess(VERSION, Path(folder), nodes=("fault_points",)).start()
    try:
        yield lambda point, number: kill_once(comfy, point, number)
    finally:
        comfy.kill()


@contextmanager
def a_fleet(folder: str) -> Iterator[Kill]:
    with Fleet(Path(folder), workers=2) as fleet:
        yield lambda point, number: kill_once_in_fleet(fleet, point, number)


class Tally:
    """What was counted so far, by point."""

    def __init__(self, counts: dict[str, dict[str, int]]) -> None:
        self._counts = {
            point: Counter(counts.get(point, {})) for point in (*OF_HTTP_JOBS, *OF_QUEUED_TASKS)
        }

    @classmethod
    def load(cls) -> Tally:
        return cls(json.loads(STATE.read_text()) if STATE.exists() else {})

    def save(self) -> None:
        STATE.write_text(json.dumps(self._counts))

    def __getitem__(self, point: str) -> Counter[str]:
        return self._counts[point]

    def add(self, point: str, counted: Counts) -> None:
        self._counts[point].update(counted)

    @property
    def faults(self) -> int:
        return sum(counts["lost"] + counts["doubled"] for counts in self._counts.values())

    def table(self) -> str:
        machine = f"ComfyUI {VERSION} on {os.cpu_count()} CPU cores, {platform.system()}"
        lines = (
            "# kill -9 of a real ComfyUI",
            "",
            f"{date.today()}, {machine}. Written by `./install.sh kills`.",
            "",
            "`lost`: accepted and not completed after the restart. `doubled`: published twice, or",
            "told with a status that went back or a link that changed.",
            "",
            *self._part("Jobs by HTTP: ComfyUI is killed and started again", OF_HTTP_JOBS),
            *self._part(
                "Jobs by queue: a worker is killed, in turns another one or the same goes on;"
                " at O1 and O2 the orchestrator is killed",
                OF_QUEUED_TASKS,
            ),
        )
        return "\n".join(lines)

    def _part(self, title: str, points: tuple[str, ...]) -> tuple[str, ...]:
        rows = [
            f"| {point} | {' | '.join(str(self[point][name]) for name in COLUMNS)} |"
            for point in points
        ]
        head = (f"| killed | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}")
        return (f"{title}.", "", *head, *rows, "")


def kill_once(comfy: ComfyProcess, point: str, number: int) -> Counts:
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
    comfy.exit_status()
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


def kill_once_in_fleet(fleet: Fleet, point: str, number: int) -> Counts:
    tag = f"{point.split(maxsplit=1)[0]}-{number}-{time.time_ns()}"
    tasks = befall(fleet, point, tag, number)
    ended = [fleet.finished(task_id) for task_id in tasks]
    fleet.settle()
    completed = [job for job in ended if job["status"] == "completed"]
    extra = sum(len(fleet.published(job["job_id"])) - 1 for job in completed)
    return {
        "kills": 1,
        "accepted": len(tasks),
        "completed": len(completed),
        "lost": len(tasks) - len(completed),
        "doubled": extra + len(fleet.watch.setbacks.keys() & set(tasks)),
        "executions": len(fleet.runs(tag)),
    }


def befall(fleet: Fleet, point: str, tag: str, number: int) -> list[str]:
    """The tasks it befell."""
    if point in QUEUE_POINTS:
        where, is_odd = QUEUE_POINTS[point].where, number % 2 == 1
        return [kill_worker(fleet, where, tag=tag, elsewhere=not is_odd)]
    if point in ORCHESTRATOR_POINTS:
        return [kill_orchestrator(fleet, ORCHESTRATOR_POINTS[point], tag=tag)]
    if point == ZOMBIE:
        return [raise_zombie(fleet, tag=tag)]
    return kill_at_random(fleet, tag=tag, tasks=JOBS_PER_RANDOM_KILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
