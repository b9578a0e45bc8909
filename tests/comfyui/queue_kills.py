"""What can befall those who work on queued tasks. Each function returns the tasks it befell."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import requests
from comfy_process import wait_until
from fault_proxy import FaultProxy, hang, operation
from fleet import Fleet

ZOMBIE_SECONDS, ZOMBIE_STEPS = 4, 40


def kill_worker(fleet: Fleet, where: str, *, tag: str, elsewhere: bool) -> str:
    """The only worker dies at a point; another is started, or the same one again."""
    (victim,) = fleet.staff(1)
    victim.post("/fault_point", data=where)
    task_id = fleet.submit(tag=tag)
    victim.exit_status()
    (fleet.other(victim) if elsewhere else victim).start()
    return task_id


def kill_orchestrator(fleet: Fleet, operation_name: str, *, tag: str) -> str:
    """It dies when it has begun an operation of AWS for a task, and is started again."""
    fleet.staff(1)
    fleet.orchestrator.kill()
    with FaultProxy(fleet.aws.port) as proxy, ThreadPoolExecutor() as pool:
        proxy.spoil(hang, method="POST", times=100, when=operation(operation_name))
        fleet.orchestrator.start(AWS_ENDPOINT_URL=proxy.url)
        posting = pool.submit(fleet.submit, tag=tag)
        wait_until(lambda: any(map(operation(operation_name), proxy.seen)))
        fleet.orchestrator.kill()
        with suppress(requests.ConnectionError):
            posting.result()
    fleet.orchestrator.start()
    (task_id,) = fleet.orchestrator.tagged(tag)
    return task_id


def raise_zombie(fleet: Fleet, *, tag: str) -> str:
    """A worker is held up in the middle of a task, and goes on when another runs the same."""
    (zombie,) = fleet.staff(1)
    task_id = fleet.submit(tag=tag, seconds=ZOMBIE_SECONDS, steps=ZOMBIE_STEPS)
    wait_until(lambda: zombie.get(f"/api/v1/jobs/{task_id}").ok)
    wait_until(lambda: (zombie.job(task_id)["progress"]["step"] or 0) > ZOMBIE_STEPS / 2)
    zombie.pause()
    fleet.other(zombie).start()
    wait_until(lambda: len(fleet.runs(tag)) == 2, seconds=60)
    zombie.resume()
    # It learns that the task is not its own, and forgets it.
    wait_until(lambda: zombie.get(f"/api/v1/jobs/{task_id}").status_code == 404)
    return task_id


def kill_at_random(fleet: Fleet, *, tag: str, tasks: int) -> list[str]:
    """One of two workers dies at any moment while tasks are under way, and is started again."""
    workers = fleet.staff(2)
    task_ids = [fleet.submit(tag=tag, seconds=0.5, steps=5) for _ in range(tasks)]
    victim = random.choice(workers)
    time.sleep(random.uniform(0, 2))
    victim.kill()
    victim.start()
    return task_ids
