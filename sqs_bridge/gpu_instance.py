"""GpuInstance: the EC2 machine of a worker, which may sleep while there is nothing to do."""

from __future__ import annotations

import asyncio
import logging

from ..jobs.health import Component, State, unless
from ..jobs.settings import Settings
from .aws import Aws, AwsFailed

log = logging.getLogger(__name__)

ASK_SECONDS = 30.0


class GpuInstance:
    """Started when there is work. Best effort: jobs wait for it, or for another worker."""

    def __init__(self, ec2: Aws, instance_id: str, *, pause_seconds: float = ASK_SECONDS) -> None:
        self._ec2 = ec2
        self._instance_id = instance_id
        self._pause_seconds = pause_seconds
        self._is_wanted = False
        self._waking: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings) -> GpuInstance | None:
        if settings.gpu_instance_id is None:
            return None
        return cls(Aws("ec2", settings.region), settings.gpu_instance_id)

    @property
    def component(self) -> Component:
        trouble = self._ec2.trouble
        return unless(str(trouble) if trouble else None, State.DEGRADED)

    def wake(self) -> None:
        """Have it started, if it is stopped. Never waits, and asks no more often than it may."""
        self._is_wanted = True
        if self._waking is None or self._waking.done():
            self._waking = asyncio.get_running_loop().create_task(self._wake())

    async def close(self) -> None:
        if self._waking:
            self._waking.cancel()
            await asyncio.gather(self._waking, return_exceptions=True)
        await self._ec2.close()

    async def _wake(self) -> None:
        # A machine that is just stopping cannot be started, and may stop right after a submit.
        while self._is_wanted:
            self._is_wanted = False
            await self._start()
            await asyncio.sleep(self._pause_seconds)

    async def _start(self) -> None:
        try:
            answer = await self._ec2.call("start_instances", InstanceIds=[self._instance_id])
        except AwsFailed:
            self._is_wanted = True
            return
        for change in answer.get("StartingInstances", ()):
            if change["PreviousState"]["Name"] == "stopped":
                log.info("the GPU instance %s is started", self._instance_id)
