"""A worker that warms up: it takes no task before it is warm."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fault_proxy import FaultProxy, operation
from tasks import Deployment
from unified_api.sqs_bridge.listener import LOOK_SECONDS

from ..unit.fake_host import FakeHost, until

#: The listener looks at its queues before it receives.
LOOKING = operation("GetQueueAttributes")
RECEIVING = operation("ReceiveMessage")


async def test_the_first_receive_waits_for_the_warm_up(
    hire: Any, deployment: Deployment, proxy: FaultProxy, definitions: Path, tmp_path: Path
) -> None:
    file = definitions / "draw" / "workflow.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "warmup": {}}))
    host = FakeHost(tmp_path / "output")
    host.gate.clear()
    task_id = deployment.send()

    worker = await hire(host=host)
    await until(lambda: worker.runs and any(map(LOOKING, proxy.seen)))
    since = time.monotonic()
    await until(lambda: time.monotonic() > since + LOOK_SECONDS)
    received = any(map(RECEIVING, proxy.seen))
    host.gate.set()

    await until(lambda: deployment.item(task_id).get("status") == "completed")
    assert (received, worker.runs) == (False, 2)
