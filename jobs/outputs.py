"""Outputs: what ComfyUI produced in, published files out."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from .errors import NoOutput, OutputLost, PublishFailed
from .job import Job, Output, Rendered
from .pictures import extension_of, media_of
from .prompt import Produced
from .threads import off_loop

MANIFEST = "outputs.json"
_outputs = TypeAdapter(tuple[Output, ...])


class LocalResults:
    """Keeps results in a folder per job. The folder appears in one step, complete, once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> None:
        await off_loop(self._folder.mkdir, parents=True, exist_ok=True)

    async def find(self, job: Job) -> tuple[Output, ...] | None:
        """What was published for a job, if it was."""
        return await off_loop(self._read, job.job_id)

    async def publish(self, job: Job) -> tuple[Output, ...]:
        """Publish the rendered files of a job; what was published before stays as it is.

        Raises OutputLost if a file is gone or changed, PublishFailed if the disk refuses.
        """
        try:
            return await off_loop(self._publish, job)
        except OSError as error:
            raise PublishFailed() from error

    def path(self, job: Job, number: int) -> Path:
        """The file of one output of a completed job."""
        return self._folder / job.job_id / _file_name(job.outputs, number)

    def _publish(self, job: Job) -> tuple[Output, ...]:
        published = self._read(job.job_id)
        if published is not None:
            return published
        part = self._folder / f".{job.job_id}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        outputs = tuple(_describe(file) for file in job.rendered)
        for number, file in enumerate(job.rendered):
            _link(file.path, part / _file_name(outputs, number))
        (part / MANIFEST).write_bytes(_outputs.dump_json(outputs))
        part.rename(self._folder / job.job_id)
        return outputs

    def _read(self, job_id: str) -> tuple[Output, ...] | None:
        try:
            return _outputs.validate_json((self._folder / job_id / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None


async def rendered_files(
    produced: Sequence[Produced], named: Mapping[str, str]
) -> tuple[Rendered, ...]:
    """The files to publish, with their hashes: the named nodes' first, then what others saved.

    `named` is output name -> node id. Previews count only for a named node. Raises NoOutput.
    """
    names = {node_id: name for name, node_id in named.items()}
    order = list(names)
    chosen = sorted(
        (file for file in produced if file.node_id in names or not file.is_preview),
        key=lambda file: order.index(file.node_id) if file.node_id in names else len(order),
    )
    if not chosen:
        raise NoOutput()
    hashes = [await off_loop(_sha256, file.path) for file in chosen]
    return tuple(
        Rendered(name=names.get(file.node_id, file.node_id), path=file.path, sha256=sha256)
        for file, sha256 in zip(chosen, hashes, strict=True)
    )


async def intact(rendered: Sequence[Rendered]) -> bool:
    """Whether there are rendered files and all of them are still what they were."""
    return bool(rendered) and await off_loop(lambda: all(map(_is_intact, rendered)))


def _is_intact(file: Rendered) -> bool:
    return file.path.is_file() and _sha256(file.path) == file.sha256


def _describe(file: Rendered) -> Output:
    if not _is_intact(file):
        raise OutputLost()
    media = media_of(file.path)
    return Output(
        name=file.name,
        content_type=media.content_type,
        size=file.path.stat().st_size,
        width=media.width,
        height=media.height,
        sha256=file.sha256,
    )


def _file_name(outputs: tuple[Output, ...], number: int) -> str:
    return f"{number}.{extension_of(outputs[number].content_type)}"


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes where the disk can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
