"""A fleet on one machine: AWS (moto), the orchestrator, and real ComfyUI workers on one queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import requests
from comfy_process import DEFINITIONS, FINAL, ROOT, wait_until
from emulators import CREDENTIALS, Emulator, start_moto
from forked import ForkedComfy

from tests.common.orchestrator import MAIN
from tests.common.ports import free_port

VERSION = "0.30.0"
NODES = ("fault_points",)
BUCKET, QUEUE, TABLE = "results", "tasks", "task_store"
CDN = "cdn.example.org"
RESULTS = "images/comfyui-results/probe"
PATH = "/api/v1/probe/jobs"
#: How long a worker holds a message and a task, if it does not hold them anew.
HOLD_SECONDS = "3"

START_SECONDS = 60
#: A message that was handed back a few times comes again within this time.
SETTLE_SECONDS = 90
LOOK_SECONDS = 0.2
FORWARD = {"pending": 0, "processing": 1, **dict.fromkeys(FINAL, 2)}

#: Status and link of a task, as the table has them.
Told = tuple[str, str | None]


class Fleet:
    """Use it in a `with`: AWS and the orchestrator are up then, and workers as `staff` says."""

    def __init__(self, folder: Path, *, workers: int) -> None:
        self._folder = folder
        self._number = workers

    def __enter__(self) -> Fleet:
        with ExitStack() as stack:
            self.aws = start_moto(self._folder)
            stack.callback(self.aws.stop)
            environment = _deployed(self.aws)
            self.orchestrator = Orchestrator(self._folder / "orchestrator.log", environment)
            stack.callback(self.orchestrator.kill)
            self.orchestrator.start()
            self.workers = [
                Worker(VERSION, self._folder / f"worker {n}", nodes=NODES, **environment)
                for n in range(self._number)
            ]
            for worker in self.workers:
                stack.callback(worker.kill)
            self.watch = Watch(self._told)
            stack.callback(self.watch.stop)
            self._end = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    # -- its people ----------------------------------------------------------------------------

    def staff(self, number: int) -> list[Worker]:
        """Exactly so many workers are up then: these."""
        up = [worker for worker in self.workers if worker.is_running]
        for worker in up[number:]:
            worker.kill()
        down = [worker for worker in self.workers if worker not in up]
        called = down[: max(0, number - len(up))]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Worker.start, called))
        return [*up[:number], *called]

    def other(self, worker: Worker) -> Worker:
        return next(each for each in self.workers if each is not worker)

    # -- tasks ---------------------------------------------------------------------------------

    def submit(self, **parameters: Any) -> str:
        """The id of a new task of the probe."""
        return self.orchestrator.submit(parameters)

    def submit_twice(self, **parameters: Any) -> str:
        """The id of a new task that has two messages, one right behind the other."""
        task_id = self.submit(**parameters)
        complete = self.orchestrator.job(task_id)["parameters"]
        message = {"task_id": task_id, "api_path": PATH, "request_body": complete}
        self.aws.sqs.send_message(QueueUrl=self._url(QUEUE), MessageBody=json.dumps(message))
        return task_id

    def finished(self, task_id: str, *, seconds: float = SETTLE_SECONDS) -> dict[str, Any]:
        """A task with a final status, as its client is told."""
        wait_until(lambda: self.watch.status(task_id) in FINAL, seconds=seconds)
        return self.orchestrator.job(task_id)

    def settle(self) -> None:
        """Return when no message is left."""
        # Twice: a message whose hold ends while moto counts is in neither count.
        wait_until(
            lambda: not any(self.messages(QUEUE) for _ in range(2)),
            seconds=SETTLE_SECONDS,
            every=0.2,
        )

    def messages(self, queue: str) -> int:
        """How many there are: waiting, held or delayed."""
        kinds = ("", "NotVisible", "Delayed")
        names = [f"ApproximateNumberOfMessages{kind}" for kind in kinds]
        answer = self.aws.sqs.get_queue_attributes(QueueUrl=self._url(queue), AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    @property
    def dead_letters(self) -> int:
        return self.messages(f"{QUEUE}-dead")

    def runs(self, tag: str) -> list[str]:
        """What the probes of all workers wrote down, one line for each execution."""
        return [line for worker in self.workers for line in worker.runs(tag)]

    def published(self, task_id: str) -> list[str]:
        """The keys of its results, each as often as it was written."""
        prefix = f"{RESULTS}/{task_id}"
        found = self.aws.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix)
        return [version["Key"] for version in found.get("Versions", [])]

    def fence(self, task_id: str) -> int:
        """How often it was claimed."""
        key = {"task_id": {"S": task_id}}
        found = self.aws.dynamodb.get_item(TableName=TABLE, Key=key, ConsistentRead=True)
        return int(found["Item"]["fence"]["N"])

    def _url(self, queue: str) -> str:
        return str(self.aws.sqs.get_queue_url(QueueName=queue)["QueueUrl"])

    def _told(self) -> dict[str, Told]:
        pages = self.aws.dynamodb.get_paginator("scan").paginate(
            TableName=TABLE, ConsistentRead=True
        )
        return {
            item["task_id"]["S"]: (item["status"]["S"], item.get("result_s3_uri", {}).get("S"))
            for page in pages
            for item in page["Items"]
        }


class Worker(ForkedComfy):
    """One that can also be held up, as a machine is that swaps or is migrated."""

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Orchestrator:
    """A process of its own, asked over HTTP."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        ours = {"UNIFIED_API_PORT": str(port), "UNIFIED_API_WORKFLOWS_DIR": str(DEFINITIONS)}
        self._environment = {**environment, **ours}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", MAIN],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment, **environment},
            )
        wait_until(self._is_ready, seconds=START_SECONDS, every=0.2)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def submit(self, parameters: dict[str, Any]) -> str:
        """The id of a new job of the probe."""
        response = requests.post(self.url + PATH, json=parameters, timeout=30)
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        response = requests.get(f"{self.url}/api/v1/jobs/{job_id}", timeout=30)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def cancel(self, job_id: str) -> dict[str, Any]:
        response = requests.post(f"{self.url}/api/v1/jobs/{job_id}/cancel", timeout=30)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def tagged(self, tag: str) -> list[str]:
        """The ids of the jobs that were given this tag."""
        listed = requests.get(f"{self.url}/api/v1/jobs?limit=100", timeout=30).json()["data"]
        return [job["job_id"] for job in listed if job["parameters"].get("tag") == tag]

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"the orchestrator ended:\n{self._log.read_text()[-4000:]}")
        try:
            return requests.get(f"{self.url}/ready", timeout=5).ok
        except requests.ConnectionError:
            return False


class Watch:
    """Reads the task table again and again, beside everything else, and keeps what it told."""

    def __init__(self, read: Callable[[], dict[str, Told]]) -> None:
        self._read = read
        self._told: defaultdict[str, list[Told]] = defaultdict(list)
        self._is_over = Event()
        self._thread = Thread(target=self._look_again_and_again)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def status(self, task_id: str) -> str | None:
        """As it was told last."""
        told = self._told.get(task_id)
        return told[-1][0] if told else None

    @property
    def setbacks(self) -> dict[str, list[Told]]:
        """What was told of tasks whose status went back or whose link changed, by id."""
        told = self._told.copy()
        return {
            task: steps
            for task, steps in told.items()
            if not all(map(_is_forward, pairwise(steps)))
        }

    def _look_again_and_again(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            for task_id, told in self._read().items():
                if self._told[task_id][-1:] != [told]:
                    self._told[task_id].append(told)


def _is_forward(step: tuple[Told, Told]) -> bool:
    (before, link_before), (after, link) = step
    return FORWARD[before] < FORWARD[after] and link_before in (None, link)


def _deployed(aws: Emulator) -> dict[str, str]:
    """The settings of workers and orchestrators, once an operator has made what they need."""
    access = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    command = ["-m", "deploy.aws.create", "--bucket", BUCKET, "--queue", QUEUE, "--table", TABLE]
    made = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **access},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    # What is written twice shows.
    aws.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return {
        **access,
        **dict(line.split("=", 1) for line in made.stdout.splitlines()),
        "CLOUDFRONT_DOMAIN": CDN,
        "UNIFIED_API_VISIBILITY_SECONDS": HOLD_SECONDS,
        # Tests count what a worker holds, however short earlier tasks were.
        "UNIFIED_API_PREFETCH_SECONDS": "0",
    }
