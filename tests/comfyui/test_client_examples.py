"""The programs in the README, run as they stand there against running services."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from comfy_process import ROOT, ComfyProcess, wait_until
from conftest import RECEIVER_SECRET
from fleet import BUCKET, CDN, Fleet
from picture_server import PictureServer

pytestmark = pytest.mark.timeout(400)

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: File name -> program: a block that begins with its name.
PROGRAMS = {
    found[2]: found[1]
    for found in re.finditer(r"^```\w+\n((?:#|//) (\S+): .*?)^```$", README, re.M | re.S)
}
NO_NODE = "NOT TESTED: the README's example in JavaScript needs a Node 18 or newer"
SECRET = "uak_of-the-examples"
KEYS = f"examples:submit+read:{sha256(SECRET.encode()).hexdigest()}"
PHOTO = "images/photos/一.png"
END_SECONDS = 90


@dataclass(frozen=True)
class Service:
    """One to call, a picture that it can fetch, and how the links of its results begin."""

    url: str
    picture: str
    links: str
    key: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the README has its readers export."""
        key = {"UNIFIED_API_KEY": self.key} if self.key else {}
        return {"UNIFIED_API_URL": self.url, **key}


@pytest.fixture(
    scope="module", params=["comfyui", pytest.param("orchestrator", marks=pytest.mark.full)]
)
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def comfyui(newest: ComfyProcess, pictures: PictureServer) -> Service:
    return Service(newest.url, pictures.url(), newest.url)


@pytest.fixture(scope="module")
def orchestrator(
    tmp_path_factory: pytest.TempPathFactory, allowed: dict[str, str], png: bytes
) -> Iterator[Service]:
    """One that asks for keys, and a worker behind it."""
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1) as fleet:
        fleet.workers[0].environment |= allowed | {"UNIFIED_API_WEBHOOK_SECRET": RECEIVER_SECRET}
        fleet.staff(1)
        fleet.orchestrator.kill()
        fleet.orchestrator.start(UNIFIED_API_KEYS=KEYS, UNIFIED_API_HOST="127.0.0.1")
        fleet.aws.s3.put_object(Bucket=BUCKET, Key=PHOTO, Body=png)
        picture = f"s3://{BUCKET}/{PHOTO}"
        yield Service(fleet.orchestrator.url, picture, f"https://{CDN}/", SECRET)


Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, service: Service) -> Run:
    """Run a program of the README to its end; the lines that it prints."""

    def run(name: str, argument: str, *, by: str = sys.executable) -> list[str]:
        ended = subprocess.run(
            [by, written(name, tmp_path), argument],
            env={**environment(), **service.environment},
            capture_output=True,
            text=True,
            timeout=END_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    return run


def written(name: str, folder: Path) -> str:
    """The path of a program."""
    path = folder / name
    path.write_text(PROGRAMS[name], encoding="utf-8")
    return str(path)


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1"}


def test_the_readme_has_five_programs() -> None:
    assert list(PROGRAMS) == ["poll.py", "wait.py", "watch.py", "watch.mjs", "receiver.py"]


def test_a_client_asks_until_its_job_is_done(run: Run, service: Service) -> None:
    lines = run("poll.py", service.picture)

    (status, link, error) = lines[-1].split()
    assert (status, error) == ("completed", "None")
    assert link.startswith(service.links)


def test_a_client_is_told_why_its_job_failed(run: Run) -> None:
    lines = run("poll.py", "http://10.0.0.1/photo.jpg")

    assert lines[-1].startswith("failed None image_url: Pictures are not fetched from there.")


def test_one_call_with_an_upload_is_answered_with_the_result(
    run: Run, service: Service, tmp_path: Path, png: bytes
) -> None:
    photo = tmp_path / "照片.png"
    photo.write_bytes(png)

    (line,) = run("wait.py", str(photo))

    assert re.fullmatch(rf"completed {service.links}\S+ None", line)


def test_a_job_is_watched_in_python(run: Run, service: Service) -> None:
    lines = run("watch.py", service.picture)

    assert re.fullmatch(rf"completed {service.links}\S+ None", lines[-1])
    assert all(re.match(r"\d+ %|(pending|processing) None None", line) for line in lines[:-1])


def test_a_job_is_watched_in_javascript(run: Run, service: Service) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip(NO_NODE)

    lines = run("watch.mjs", service.picture, by=node)

    assert re.fullmatch(rf"completed {service.links}\S+", lines[-1])
    assert all(re.match(r"\d+ %|(pending|processing) null", line) for line in lines[:-1])


@contextmanager
def receiving(tmp_path: Path, place: str) -> Iterator[Callable[[], str]]:
    """The receiver of the README is up at a place; what it has printed so far."""
    port = place.rpartition(":")[2]
    printed = tmp_path / "printed.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, written("receiver.py", tmp_path)],
            env={**environment(), "UNIFIED_API_WEBHOOK_SECRET": RECEIVER_SECRET, "PORT": port},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Running on" in printed.read_text())
        yield printed.read_text
    finally:
        process.terminate()
        process.wait(20)


def test_a_receiver_is_told_of_a_job_and_believes_nobody_else(
    service: Service, receiver_place: str, tmp_path: Path
) -> None:
    url = f"http://{receiver_place}/told"
    key = {"Authorization": f"Bearer {service.key or ''}"}
    body = {"image_url": service.picture, "webhook_url": url}

    with receiving(tmp_path, receiver_place) as printed:
        forged = requests.post(url, json={"type": "job.completed", "data": {}}, timeout=30)
        reply = requests.post(
            f"{service.url}/api/v1/image-resize/jobs", json=body, headers=key, timeout=30
        )
        job_id = reply.json()["job_id"]
        wait_until(lambda: f"job.completed {job_id} {service.links}" in printed())
        wait_until(lambda: f"job.started {job_id} None" in printed())

    assert forged.status_code == 401
    assert printed().count("job.completed") == 1
