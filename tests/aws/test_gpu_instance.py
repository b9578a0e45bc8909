"""The machine of a worker is started when there is work, and nobody waits for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import boto3
import pytest
from emulators import CREDENTIALS, REGION, Emulator
from fault_proxy import Exchange, FaultProxy, hang
from unified_api.sqs_bridge.aws import Aws
from unified_api.sqs_bridge.gpu_instance import GpuInstance

from ..unit.fake_host import until

DRAW = "/api/v1/draw/jobs"
ABSENT = "i-0123456789abcdef0"


@pytest.fixture
def ec2(emulator: Emulator) -> Iterator[Any]:
    """A client of one's own, past the proxy."""
    names = {name.lower(): value for name, value in CREDENTIALS.items()}
    client = boto3.client("ec2", region_name=REGION, endpoint_url=emulator.url, **names)
    yield client
    client.close()


@pytest.fixture
def instance_id(ec2: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a machine that is stopped."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", proxy.url)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    instance_id = str(made["Instances"][0]["InstanceId"])
    ec2.stop_instances(InstanceIds=[instance_id])
    return instance_id


@pytest.fixture
async def gpu(instance_id: str) -> AsyncIterator[GpuInstance]:
    """One that is asked again after a moment."""
    gpu = GpuInstance(Aws("ec2", REGION, attempts=1), instance_id, pause_seconds=0.05)
    yield gpu
    await gpu.close()


STOPPING = (
    "<Response><Errors><Error><Code>IncorrectInstanceState</Code><Message>it is stopping</Message>"
    "</Error></Errors><RequestID>r</RequestID></Response>"
)


async def refuse(exchange: Exchange) -> None:
    await exchange.body()
    head = f"HTTP/1.1 400 Injected\r\nContent-Length: {len(STOPPING)}\r\nConnection: close\r\n\r\n"
    await exchange.reply(f"{head}{STOPPING}".encode())


def is_for_ec2(exchange: Exchange) -> bool:
    return not exchange.header("x-amz-target")


def asked(proxy: FaultProxy) -> int:
    return sum(map(is_for_ec2, proxy.seen))


def is_running(ec2: Any, instance_id: str) -> bool:
    found = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return bool(found["State"]["Name"] == "running")


async def test_a_submit_starts_a_machine_that_is_stopped(
    orchestrate: Any, ec2: Any, instance_id: str, proxy: FaultProxy
) -> None:
    client = await orchestrate(GPU_INSTANCE_ID=instance_id)
    assert not is_running(ec2, instance_id)

    statuses = [(await client.post(DRAW, json={})).status for _ in range(5)]

    assert statuses == [202] * 5
    assert await until(lambda: is_running(ec2, instance_id))
    assert asked(proxy) == 1


async def test_without_the_setting_nobody_is_asked(
    orchestrate: Any, ec2: Any, instance_id: str, proxy: FaultProxy
) -> None:
    client = await orchestrate()

    assert (await client.post(DRAW, json={})).status == 202

    assert "gpu_instance" not in (await (await client.get("/health")).json())["components"]
    assert asked(proxy) == 0


async def test_nobody_waits_for_it(orchestrate: Any, instance_id: str, proxy: FaultProxy) -> None:
    proxy.spoil(hang, method="POST", when=is_for_ec2)
    client = await orchestrate(GPU_INSTANCE_ID=instance_id)

    replies = [(await client.post(DRAW, json={})).status for _ in range(2)]

    assert replies == [202, 202]
    proxy.refuse()


@pytest.mark.usefixtures("instance_id")
async def test_a_machine_that_cannot_be_started_is_told_and_fails_no_job(orchestrate: Any) -> None:
    client = await orchestrate(GPU_INSTANCE_ID=ABSENT)

    assert (await client.post(DRAW, json={})).status == 202

    async def told() -> Any:
        health = await (await client.get("/health")).json()
        return health["components"]["gpu_instance"]["status"] == "degraded" and health

    health = await until(told)
    assert "InvalidInstanceID.NotFound" in health["components"]["gpu_instance"]["reason"]
    assert (await client.get("/health")).status == 200


async def test_what_could_not_be_started_is_asked_again_and_the_log_told_once(
    gpu: GpuInstance,
    ec2: Any,
    instance_id: str,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.spoil(refuse, method="POST", times=3, when=is_for_ec2)

    gpu.wake()

    assert await until(lambda: is_running(ec2, instance_id))
    assert asked(proxy) == 4
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1


async def test_who_wants_it_meanwhile_is_not_forgotten(
    gpu: GpuInstance, ec2: Any, instance_id: str, proxy: FaultProxy
) -> None:
    gpu.wake()
    assert await until(lambda: is_running(ec2, instance_id))
    ec2.stop_instances(InstanceIds=[instance_id])

    gpu.wake()

    assert await until(lambda: is_running(ec2, instance_id))
    assert asked(proxy) == 2
