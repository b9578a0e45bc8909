"""Outputs: what ComfyUI produced in, published files out."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from ..workflows import ABSENT, is_file
from .errors import (
    JobFailed,
    NoOutput,
    OutputLost,
    PublishFailed,
    StorageUnavailable,
    UnknownOutput,
)
from .job import Job, Output, Rendered
from .links import Link
from .pictures.media import extension_of, media_of
from .private import FOLDER_MODE, close_file, make_private_folder, write_private_file
from .prompt import Produced
from .threads import off_loop

UNREADABLE = "The result cannot be read now. Try again later."
MANIFEST = "outputs.json"
NOT_KNOWN = (errno.EINVAL, errno.ENOTSUP)
_outputs = TypeAdapter(tuple[Output, ...])


class LocalResults:
    """Keeps results in a folder per job. The folder appears in one step, complete, once."""

    #: There is nothing that could be away for a while.
    trouble: JobFailed | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def probe(self) -> None:
        """Nothing to ask."""

    async def open(self) -> None:
        await off_loop(make_private_folder, self._folder)

    async def find(self, job: Job) -> tuple[Output, ...] | None:
        """What was published for a job, if it was. Raises PublishFailed if the disk refuses."""
        try:
            return await off_loop(self._read, job)
        except OSError as error:
            raise PublishFailed() from error

    async def publish(self, job: Job) -> tuple[Output, ...]:
        """Publish the rendered files of a job; what was published before stays as it is.

        Raises OutputLost if a file is gone or changed, PublishFailed if the disk refuses.
        """
        try:
            return await off_loop(self._publish, job)
        except OSError as error:
            raise PublishFailed() from error

    async def remove(self, job: Job) -> None:
        """Delete what was published for a job. May raise OSError."""
        with suppress(FileNotFoundError):
            await off_loop(shutil.rmtree, self._home(job))

    def path(self, job: Job, number: int) -> Path:
        """The file of one output of a completed job."""
        return self._home(job) / _file_name(job.outputs, number)

    async def read(self, job: Job, number: int) -> bytes:
        """The content of one output of a completed job.

        Raises UnknownOutput, or StorageUnavailable if the disk refuses.
        """
        try:
            return await off_loop(self.path(job, number).read_bytes)
        except ABSENT as error:
            raise UnknownOutput() from error
        except OSError as error:
            raise StorageUnavailable(UNREADABLE) from error

    async def link(self, output: Output) -> Link | None:
        """None: the caller knows where this machine answers."""
        return None

    def _publish(self, job: Job) -> tuple[Output, ...]:
        published = self._read(job)
        if published is not None:
            return published
        target = self._home(job)
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        # Never the folder of all results: where that is missing, a disk is.
        if part.parent != self._folder:
            part.parent.mkdir(FOLDER_MODE, exist_ok=True)
        part.mkdir(FOLDER_MODE)
        if not all(map(_is_intact, job.rendered)):
            raise OutputLost()
        outputs = tuple(map(describe, job.rendered))
        for number, file in enumerate(job.rendered):
            copy = part / _file_name(outputs, number)
            _link(file.path, copy)
            close_file(copy)
        write_private_file(part / MANIFEST, _outputs.dump_json(outputs))
        _flush(*part.iterdir(), part)
        # Without its list it is nothing: half deleted, or somebody else's.
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        _flush(*{target.parent, self._folder})
        return outputs

    def _read(self, job: Job) -> tuple[Output, ...] | None:
        try:
            return _outputs.validate_json((self._home(job) / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None

    def _home(self, job: Job) -> Path:
        """Apart for tasks of a queue: one may have the id of a job that was submitted here."""
        is_apart = job.table is not None
        return self._folder / job.source / job.job_id if is_apart else self._folder / job.job_id


def chosen(produced: Sequence[Produced], named: Mapping[str, str]) -> list[tuple[str, Produced]]:
    """The files to publish with their names: the named nodes' first, then what others saved.

    `named` is output name -> node id. Previews count only for a named node. Raises NoOutput.
    """
    names = {node_id: name for name, node_id in named.items()}
    order = list(names)
    files = sorted(
        (file for file in produced if file.node_id in names or not file.is_preview),
        key=lambda file: order.index(file.node_id) if file.node_id in names else len(order),
    )
    if not files:
        raise NoOutput()
    return [(names.get(file.node_id, file.node_id), file) for file in files]


async def intact(rendered: Sequence[Rendered]) -> bool:
    """Whether there are rendered files and all of them are still what they were.

    Raises OSError if that cannot be told.
    """
    return bool(rendered) and await off_loop(lambda: all(map(_is_intact, rendered)))


def _is_intact(file: Rendered) -> bool:
    return is_file(file.path) and sha256_of(file.path) == file.sha256


def describe(file: Rendered) -> Output:
    """All that can be told of a file by looking at it."""
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


def _flush(*paths: Path) -> None:
    """Have files and folders outlast a power cut: a job is told completed after this."""
    # Windows flushes no folder, and no file that is open for reading.
    for path in paths if os.name == "posix" else ():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network disks know of no such thing.
            if error.errno not in NOT_KNOWN:
                raise
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
