"""Random messages, items and requests: after each, every page of the list is answered."""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tasks import PATH, Deployment

from .test_unreadable_records import all_pages

API = "/api/v1"
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 6))]
CASES = 25
FIELDS = (
    *("status", "job_type", "owner", "priority", "request", "outputs", "timings", "error_detail"),
    *("error_message", "result_s3_uri", "started_at", "finished_at", "fence", "attempt", "stage"),
    *("percent", "lease_until", "give_up_at", "cancel_requested", "enqueue", "deleted"),
)
BODY = ("text", "seed", "size", "bold", "metadata", "priority", "webhook_url", "output_format")


def value(chance: random.Random, depth: int = 0) -> Any:
    """Any JSON, with what programs stumble over among it."""
    simple = (
        *(None, True, 0, -1, 10**20, 2**63, 253_402_300_800, "", "completed", "/api/v1/draw/jobs"),
        *("javascript:alert(1)", "https://a.example/b", "\x00", "\r\n", "\u202e", "x" * 3000),
    )
    kind = chance.randrange(10)
    if depth > 20 or kind < 6:
        return chance.choice(simple)
    if kind < 8:
        return [value(chance, depth + 1) for _ in range(chance.randrange(3))]
    return {f"k{n}": value(chance, depth + 1) for n in range(chance.randrange(3))}


def some(chance: random.Random, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value(chance) for name in chance.sample(names, chance.randrange(1, 5))}


@pytest.fixture
async def client(orchestrate: Any, bucket_name: str) -> Any:
    return await orchestrate(S3_BUCKET=bucket_name)


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_item_breaks_a_list(client: Any, deployment: Deployment, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(CASES):
        plain = {"status": "pending", "job_type": PATH, "created_at": int(time.time())}
        odd = some(chance, FIELDS)
        # Indexes take a text that is not empty for these.
        odd = {
            n: v for n, v in odd.items() if n not in ("status", "owner") or (v and type(v) is str)
        }
        task_id = str(UUID(int=chance.getrandbits(128), version=4))
        deployment.put(
            task_id=task_id, **json.loads(json.dumps({**plain, **odd}), parse_float=Decimal)
        )

        await all_pages(client)
        assert (await client.get(f"{API}/jobs/{task_id}")).status in (200, 404)


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_message_or_request_breaks_a_list(
    hire: Any, client: Any, deployment: Deployment, seed: int
) -> None:
    chance, worker = random.Random(seed), await hire()
    for _ in range(CASES):
        reply = await client.post(f"{API}/draw/jobs", json=some(chance, BODY))
        assert reply.status < 500, await reply.text()
        message = {"task_id": str(UUID(int=chance.getrandbits(128), version=4)), "api_path": PATH}
        odd = some(chance, ("request_body", "deadline", "priority", "version", "claim"))
        deployment.send_text(json.dumps({**message, "request_body": some(chance, BODY), **odd}))

        await all_pages(client)
        assert all(job.model_dump_json() for job, _ in (await worker.engine.list(limit=100)).jobs)
