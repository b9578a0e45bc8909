"""The bench: pictures, ComfyUI with and without us, and the world around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

from deploy.aws.create import create_queues, create_table
from tests.aws.emulators import CREDENTIALS, Emulator, start_ministack
from tests.comfyui.comfy_process import ComfyProcess

from .processes import free_port, running
from .stand_in import HOST

VERSION = "0.30.0"
NODE = Path(__file__).parent / "gpu_time"
DEFINITION = NODE / "definition"
SLUG = "gpu-time"
BUCKET, QUEUE, TABLE = "results", "tasks", "task_store"
#: One megapixel, as the models make them.
SIDE = 1024
JPEG_QUALITY = 90
PICTURES = 60


@dataclass(frozen=True)
class Task:
    """What a job is to do. `pictures` are names of files."""

    pictures: tuple[str, ...]
    milliseconds: int
    seed: int


class Bench:
    """All that stands still while one system after the other is measured."""

    def __init__(self, folder: Path) -> None:
        self.pictures = folder / "pictures"
        self._folder = folder
        self._book = folder / "runs.txt"
        self._seeds = itertools.count(1)
        self._names = itertools.cycle(f"{number}.jpg" for number in range(PICTURES))
        _make_pictures(self.pictures)

    def task(self, milliseconds: int, pictures: int) -> Task:
        names = tuple(itertools.islice(self._names, pictures))
        return Task(names, milliseconds, next(self._seeds))

    def runs(self) -> list[tuple[float, float]]:
        """(begin, end) of each run on the GPU so far, by the monotonic clock."""
        lines = self._book.read_text().splitlines() if self._book.exists() else []
        return [(float(begin), float(end)) for begin, end in map(str.split, lines)]

    @contextmanager
    def plain(self) -> Iterator[ComfyProcess]:
        """ComfyUI alone, with the pictures on its disk."""
        with self._comfyui("plain", is_plain=True) as comfy:
            for picture in self.pictures.iterdir():
                (comfy.base / "input" / picture.name).hardlink_to(picture)
            yield comfy.start()

    @contextmanager
    def ours(self, far: str, aws: Emulator) -> Iterator[ComfyProcess]:
        """ComfyUI with us in it; pictures and bucket are far away."""
        create_table(aws.dynamodb, TABLE)
        settings = {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_ENDPOINT_URL_S3": far,
            "S3_BUCKET": BUCKET,
            "SQS_QUEUE_URL": create_queues(aws.sqs, QUEUE),
            "DYNAMODB_TABLE": TABLE,
            "CLOUDFRONT_DOMAIN": "cdn.example.org",
            "UNIFIED_API_ALLOW_HOSTS": far.removeprefix("http://"),
        }
        with self._comfyui("ours", **settings) as comfy:
            comfy.define(SLUG, {file.name: file.read_text() for file in DEFINITION.iterdir()})
            yield comfy.start()

    @contextmanager
    def _comfyui(
        self, name: str, *, is_plain: bool = False, **environment: str
    ) -> Iterator[ComfyProcess]:
        comfy = ComfyProcess(
            VERSION,
            self._folder / name,
            nodes=(str(NODE),),
            is_plain=is_plain,
            GPU_TIME_RUNS=str(self._book),
            **environment,
        )
        try:
            yield comfy
        finally:
            comfy.kill()

    @contextmanager
    def far_away(self) -> Iterator[str]:
        """The URL of the picture server and the bucket."""
        port = free_port()
        with running("-m", "benchmarks.far_away", str(port), str(self.pictures), port=port):
            yield f"http://{HOST}:{port}"

    @contextmanager
    def aws(self) -> Iterator[Emulator]:
        """A queue and a table."""
        folder = self._folder / "aws"
        folder.mkdir()
        emulator = start_ministack(folder)
        try:
            yield emulator
        finally:
            emulator.stop()


def a_picture(number: int) -> Image.Image:
    """With what photographs have: planes, edges and grain."""
    grain = numpy.random.default_rng(number)
    y, x = numpy.mgrid[0:SIDE, 0:SIDE] / SIDE
    planes = numpy.stack([numpy.sin(9 * x + number), numpy.cos(7 * y * x + number), y], axis=-1)
    noisy = planes * 90 + 128 + grain.normal(0, 6, (SIDE, SIDE, 1))
    return Image.fromarray(noisy.clip(0, 255).astype("uint8"))


def _make_pictures(folder: Path) -> None:
    folder.mkdir()
    for number in range(PICTURES):
        a_picture(number).save(folder / f"{number}.jpg", quality=JPEG_QUALITY)
