"""Feed: the latest page of a job. Everybody who watches the job reads the same one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from aiohttp import web

from ..jobs.job import Job
from ..jobs.prompt import Progress
from .frames import Event, Page
from .service import Service
from .shown import seen_from
from .view import ProgressView, progress_view

#: At most two frames of progress a second; fewer where many read them, since ComfyUI's nodes and
#: the sending of frames share one interpreter.
PROGRESS_SECONDS = 0.5
FRAMES_A_SECOND = 500


@dataclass(frozen=True)
class Subject:
    """What is watched; links in it begin with `origin`."""

    job_id: str
    origin: str
    with_previews: bool = False


class Feed:
    """It is written from when it is made until it is closed."""

    def __init__(self, service: Service, subject: Subject) -> None:
        self.readers = 0
        self._service = service
        self._subject = subject
        self._page: Page | None = None
        self._turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: How far the job is, and whether that is yet to be told.
        self._progress: ProgressView | None = None
        self._has_moved = asyncio.Event()
        works = [self._follow(), self._tell_progress()]
        works += [self._follow_previews()] if subject.with_previews else []
        self._tasks = [asyncio.ensure_future(work) for work in works]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def after(self, told: Page | None, *, seconds: float) -> Page | None:
        """The latest page, once it is another than `told`; None if it is not in that time.

        Raises what keeps the service from telling more.
        """
        if self._page is told:
            turned = self._turned
            await asyncio.wait({turned}, timeout=seconds)
            if turned.done():
                turned.result()
        return None if self._page is told else self._page

    async def _follow(self) -> None:
        """Turn the page whenever the job has changed, and note how far it is."""
        try:
            async with aclosing(self._service.watch(self._subject.job_id)) as states:
                async for job, progress in states:
                    await self._hear(job, progress)
        except Exception as error:  # noqa: BLE001 - it is raised where a page is awaited
            self._turned.set_exception(error)
            # There is no further page.
            for task in self._tasks[1:]:
                task.cancel()

    async def _hear(self, job: Job, progress: Progress) -> None:
        if self._page and self._page.is_of(job):
            self._progress = progress_view(job, progress)
            self._has_moved.set()
            return
        self._has_moved.clear()
        view = await seen_from(self._subject.origin, self._service.link, job, progress)
        preview = self._page.preview if self._page else None
        self._turn(Page(view, job.is_over, preview))

    async def _tell_progress(self) -> None:
        while True:
            await self._has_moved.wait()
            self._has_moved.clear()
            if self._page and self._page.job.progress != self._progress:
                job = self._page.job.model_copy(update={"progress": self._progress})
                self._turn(replace(self._page, job=job))
            await asyncio.sleep(max(PROGRESS_SECONDS, self.readers / FRAMES_A_SECOND))

    async def _follow_previews(self) -> None:
        async with aclosing(self._service.previews(self._subject.job_id)) as previews:
            async for preview in previews:
                if self._page:
                    self._turn(replace(self._page, preview=Event.of(preview)))

    def _turn(self, page: Page) -> None:
        self._page = page
        turned, self._turned = self._turned, asyncio.get_running_loop().create_future()
        turned.set_result(None)


class Feeds:
    """Those that somebody reads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._feeds: dict[Subject, Feed] = {}

    @contextmanager
    def read(self, subject: Subject) -> Iterator[Feed]:
        feed = self._feeds.get(subject) or Feed(self._service, subject)
        self._feeds[subject] = feed
        feed.readers += 1
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers:
                feed.close()
                del self._feeds[subject]


FEEDS = web.AppKey("unified_api_feeds", Feeds)
