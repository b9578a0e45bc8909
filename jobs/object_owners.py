"""ObjectOwners: whose an object of the results bucket is, told by its metadata.

Results and uploads carry the mark of the owner of their job. Those of earlier versions do not: of
a result the job itself is looked up, and an upload is known by the hash of its content as its name,
which only those can tell who have that content.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from .errors import NOT_READABLE, ForbiddenSource
from .job import Job
from .owners import DIGEST, owner_mark
from .readable import INPUTS

#: Raises ForbiddenSource for an object with metadata that show that it must not be read.
Admit = Callable[[Mapping[str, str]], Awaitable[None]]
#: The job of an id; None if it is not known.
FindJob = Callable[[str], Awaitable[Job | None]]

UPLOADED = re.compile(rf"{INPUTS}/({DIGEST})\.(?:png|jpg|webp)")


class ObjectOwners:
    """Checks objects against their owners. `find_jobs` are asked in turn."""

    def __init__(self, find_jobs: Sequence[FindJob]) -> None:
        self._find_jobs = find_jobs

    async def check(self, key: str, owner: str | None, metadata: Mapping[str, str]) -> None:
        """Raises ForbiddenSource unless the object belongs to `owner`."""
        if not await self._belongs(key, owner, metadata):
            raise ForbiddenSource(NOT_READABLE)

    async def _belongs(self, key: str, owner: str | None, metadata: Mapping[str, str]) -> bool:
        job_id = metadata.get("job-id", "")
        if mark := metadata.get("owner"):
            return mark == owner_mark(owner, job_id)
        if uploaded := UPLOADED.fullmatch(key):
            return metadata.get("sha256") == job_id == uploaded[1]
        job = await self._job(job_id or _named_in(key))
        return job is not None and job.owner == owner

    async def _job(self, job_id: str) -> Job | None:
        for find in self._find_jobs:
            if job := await find(job_id):
                return job
        return None


def _named_in(key: str) -> str:
    """The id of the job in the key of its first result, which is all that some programs tell."""
    return key.rpartition("/")[2].partition(".")[0]
