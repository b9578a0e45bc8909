"""One job through orchestrator, queue, worker, bucket and table, on an AWS emulator."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from ..comfyui.demo import (
    HEIGHT,
    WIDTH,
    finished,
    require_completed,
    require_picture,
    submit,
    without_service_settings,
)
from ..comfyui.places import (
    MOTO_SERVER,
    OURS,
    PACKAGE,
    PACKAGES,
    PICTURE,
    ROOT,
    ComfyUI,
    link_to_clone,
)
from ..comfyui.process import serving
from ..comfyui.report import say
from ..comfyui.server import free_port, is_taken, prepare, running
from .create import create

HOST = "127.0.0.1"
#: The orchestrator's own, unless somebody else has it.
PORT = 8080
CDN = "cdn.example.com"
BUCKET, QUEUE, TABLE = "demo-results", "demo-tasks", "task_store"


def demo(comfyui: ComfyUI) -> None:
    """Starts all of it, sends the shipped picture, shows what is then where."""
    leave_real_aws()
    with tempfile.TemporaryDirectory(dir=OURS, prefix="demo-aws-") as folder, moto():
        settings = {**create(BUCKET, queue=QUEUE, table=TABLE), "CLOUDFRONT_DOMAIN": CDN}
        with orchestrator(settings) as address:
            say(f"Starting one worker: ComfyUI from {comfyui.tree} on a free port")
            with running(comfyui, prepare(Path(folder)), {**os.environ, **settings}) as worker:
                say(f"The worker is up at {worker}")
                show_job(address)
                say("Ending; a worker lets its open poll of the queue end first, 20 s at most")
    say("Next: README.md, Jobs by queue")


def leave_real_aws() -> None:
    """From here on no account, profile, endpoint or proxy of the user's is known."""
    kept = {n: v for n, v in without_service_settings().items() if not n.startswith("AWS_")}
    os.environ.clear()
    os.environ.update(
        kept,
        AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_REGION="us-east-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        no_proxy=HOST,
    )


@contextlib.contextmanager
def moto() -> Iterator[None]:
    """AWS, for everything that begins in this block."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    say(f"Starting the AWS emulator (moto) at {url}")
    call = [sys.executable, str(MOTO_SERVER), "-H", HOST, "-p", str(port)]
    with serving("moto", call, probe=f"{url}/moto-api/", environment=os.environ):
        os.environ["AWS_ENDPOINT_URL"] = url
        yield


@contextlib.contextmanager
def orchestrator(settings: dict[str, str]) -> Iterator[str]:
    """The address of one that ends with the block."""
    port = free_port() if is_taken(HOST, PORT) else PORT
    taken = f" (port {PORT} is taken)" if port != PORT else ""
    address = f"http://{HOST}:{port}"
    say(f"Starting the orchestrator at {address}{taken}")
    link_to_clone(PACKAGE)
    call = [sys.executable, "-m", "unified_api.sqs_bridge.orchestrator"]
    ours = {"PYTHONPATH": str(PACKAGES), "UNIFIED_API_PORT": str(port)}
    environment = {**os.environ, **settings, **ours}
    with serving("orchestrator", call, probe=f"{address}/ready", environment=environment):
        yield address


def show_job(address: str) -> None:
    say(f"$ {curl(address)}")
    job = finished(address, submit(address))
    say(json.dumps(job, indent=2))
    require_completed(job)
    say(f"Item in DynamoDB, table {TABLE}")
    for name, value in sorted(item(job["job_id"]).items()):
        say(f"  {name:<15} {json.dumps(value)}")
    place = job["outputs"][0]["s3_uri"]
    content = stored(place)
    require_picture(content)
    say(f"Object in S3  {place}  ({len(content)} bytes, fetched)")
    say(f"CDN URL       {job['result_url']}  ({CDN} is a stand-in, it serves nothing)")


def curl(address: str) -> str:
    picture = PICTURE.relative_to(ROOT).as_posix()
    fields = f"-F image=@{picture} -F width={WIDTH} -F height={HEIGHT}"
    return f"curl {fields} {address}/api/v1/image-resize/jobs"


def item(task_id: str) -> dict[str, Any]:
    """As DynamoDB spells it: each value with its type."""
    dynamodb = boto3.client("dynamodb")
    found = dynamodb.get_item(TableName=TABLE, Key={"task_id": {"S": task_id}}, ConsistentRead=True)
    return dict(found["Item"])


def stored(s3_uri: str) -> bytes:
    bucket, _, key = s3_uri.removeprefix("s3://").partition("/")
    return bytes(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
