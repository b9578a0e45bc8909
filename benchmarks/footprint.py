"""What we add to a ComfyUI that has nothing to do."""

from __future__ import annotations

import asyncio

import psutil

from tests.comfyui.comfy_process import ComfyProcess

from .report import row

SETTLE_SECONDS = 10.0
LOOK_SECONDS = 20.0


async def footprint(plain: ComfyProcess, ours: ComfyProcess) -> str:
    """Memory and processor time, both at rest, with queue and bucket on."""
    await asyncio.sleep(SETTLE_SECONDS)
    before = [_seconds_used(comfy) for comfy in (plain, ours)]
    await asyncio.sleep(LOOK_SECONDS)
    spent = [_seconds_used(comfy) for comfy in (plain, ours)]
    cpu = [100 * (end - begin) / LOOK_SECONDS for begin, end in zip(before, spent, strict=True)]
    memory = [comfy.resident_mb for comfy in (plain, ours)]
    lines = [
        row(["", "plain ComfyUI", "ours", "added"]),
        row(["---"] * 4),
        row(["memory", *(f"{each:.0f} MB" for each in (*memory, memory[1] - memory[0]))]),
        row(["of one core", *(f"{each:.1f} %" for each in (*cpu, cpu[1] - cpu[0]))]),
    ]
    return "\n".join(["### At rest, with SQS, DynamoDB and S3 on", "", *lines, ""])


def _seconds_used(comfy: ComfyProcess) -> float:
    times = psutil.Process(comfy.pid).cpu_times()
    return float(times.user + times.system)
