"""What is written in Chinese arrives as it was written, at every station of a task."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from bucket_objects import keys
from tasks import Deployment

from ..unit.fake_host import until

PROMPT = "将镜头转为俯视，保留「原样」🎬"
METADATA = {"客户": "王小明", "备注": "第一镜，\u2028加急"}


async def test_a_chinese_prompt_comes_through_queue_table_bucket_and_stream(
    orchestrate: Any, hire: Any, deployment: Deployment, bucket_name: str, aws: Any
) -> None:
    client = await orchestrate(S3_BUCKET=bucket_name)
    body = {"text": PROMPT, "metadata": METADATA}
    job = await (await client.post("/api/v1/draw/jobs", json=body)).json()
    task_id = job["job_id"]

    worker = await hire()
    await until(lambda: deployment.item(task_id)["status"] == "completed")

    assert worker.host.prompts[0].graph["1"]["inputs"]["text"] == PROMPT
    done = await (await client.get(job["urls"]["self"])).json()
    assert (done["parameters"]["text"], done["metadata"]) == (PROMPT, METADATA)
    stream = await (await client.get(job["urls"]["events"])).text()
    told = json.loads(stream.split("event: status\ndata: ")[-1].split("\n")[0])
    assert told["metadata"] == METADATA
    for key in keys(aws, bucket_name):
        kept = aws.head_object(Bucket=bucket_name, Key=key)["Metadata"]["job-metadata"]
        assert kept.isascii()
        assert json.loads(unquote(kept)) == METADATA
