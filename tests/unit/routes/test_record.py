"""What the log tells of requests, and of the door."""

import pytest
from unified_api.routes import announce
from unified_api.routes.auth import Keyring
from unified_api.routes.service import Surface
from yarl import URL

from .door import ANN, DRAW, PREFIX, bearer, key, secret_of, submitted


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (DRAW, {}),
        (f"{PREFIX}/%0aERROR%20forged%1b[31m/jobs", {}),
        (f"{PREFIX}/%E2%80%A8%07/jobs", {}),
        (f"{PREFIX}/{'x' * 3000}/jobs", {}),
        (DRAW, {"X-Request-Id": "a;b <script>"}),
        (DRAW, {"Idempotency-Key": "ключ"}),
        (f"{PREFIX}/nothing", {}),
    ],
)
async def test_every_request_for_a_job_is_one_line_in_the_log(door, caplog, path, headers):
    caplog.set_level("INFO")
    client = await door()

    for key_headers in ({}, bearer(), bearer("bob")):
        await client.post(URL(path, encoded=True), json={}, headers={**headers, **key_headers})

    lines = [r.getMessage() for r in caplog.records if r.name.endswith(".record")]
    assert len(lines) == 3
    assert all(line.isascii() and line.isprintable() and len(line) < 500 for line in lines)
    assert [" key=ann " in line for line in lines] == [False, True, False]
    assert ANN not in caplog.text
    assert secret_of("bob") not in caplog.text


async def test_the_line_names_job_workflow_key_and_request(door, caplog):
    caplog.set_level("INFO")
    client = await door()

    job_id = await submitted(client, **{"X-Request-Id": "r-1"})

    headers = {**bearer(), "X-Request-Id": "r-2"}
    await client.post(f"/api/v1/jobs/{job_id}/cancel", headers=headers)

    assert f"job={job_id} workflow=draw key=ann request=r-1 status=202" in caplog.text
    assert f"job={job_id} workflow=- key=ann request=r-2 status=200" in caplog.text


@pytest.mark.parametrize(
    ("surface", "word"),
    [
        ({}, "auth: none"),
        ({"is_open": False}, "auth: closed until configured"),
        ({"keyring": Keyring([key()])}, "auth: keys"),
        ({"keyring": Keyring([key()])}, "can use the rest of ComfyUI without one"),
    ],
)
async def test_the_start_tells_how_the_door_is(engine, caplog, surface, word):
    caplog.set_level("INFO")

    announce(engine, Surface("1", **surface), url="http://a:8188", bucket=None, queue=None)

    assert word in caplog.text
