"""A job watched as it changes, and waited for."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import pytest
from aiohttp import web
from PIL import Image
from unified_api.jobs.errors import StorageUnavailable
from unified_api.routes import mount
from unified_api.routes.feed import Feed, Subject
from unified_api.routes.limits import Limits, Streams
from unified_api.routes.service import Surface

from ..fake_host import until

DRAW = "/api/v1/draw/jobs"


@pytest.fixture
def serve(aiohttp_client, engine):
    """`await serve()`: a client of the API in front of the engine."""

    async def start(**surface):
        app = web.Application()
        mount(app, engine, Surface("1", **surface))
        return await aiohttp_client(app)

    return start


@pytest.fixture
async def client(serve):
    return await serve()


async def submitted(client, **headers):
    reply = await client.post(DRAW, json={}, headers=headers)
    return await reply.json()


async def read_events(reply):
    """Events until the stream ends, as (name, id, data)."""
    frames = (await reply.text()).split("\n\n")
    fields = [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in frames if frame]
    return [(f["event"], f.get("id"), json.loads(f["data"])) for f in fields if "event" in f]


async def test_a_stream_begins_with_the_whole_job_and_ends_with_its_end(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)

    stream = await client.get(job["urls"]["events"])
    bench.host.gate.set()
    events = await read_events(stream)

    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert (events[0][0], events[0][2]["job_id"]) == ("status", job["job_id"])
    assert [name for name, *_ in events[-2:]] == ["output", "status"]
    assert events[-1][2] == await (await client.get(job["urls"]["self"])).json()
    assert events[-1][2]["status"] == "completed"


async def test_each_change_of_the_stage_is_told_in_order(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    stream = await client.get(job["urls"]["events"])
    await bench.until(lambda: bench.host.prompts)
    bench.host.gate.set()

    stages = [data["stage"] for name, _, data in await read_events(stream) if name == "status"]

    assert stages[-3:] == ["running", "publishing", None]


async def test_progress_is_told_twice_a_second_at_most(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    stream = await client.get(job["urls"]["events"])

    for step in range(200):
        state = {"state": "running", "value": step, "max": 200}
        bench.host.hear("progress_state", {"nodes": {"1": state}})
        await asyncio.sleep(0)
    bench.host.gate.set()

    told = [data for name, _, data in await read_events(stream) if name == "progress"]
    assert 1 <= len(told) <= 3
    assert set(told[0]) == set(job["progress"])


async def test_the_last_of_many_steps_is_told_before_a_pause(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    stream = await client.get(job["urls"]["events"])
    await stream.content.readuntil(b"event: status")

    for step in range(1, 21):
        state = {"state": "running", "value": step, "max": 20}
        bench.host.hear("progress_state", {"nodes": {"1": state}})
        await asyncio.sleep(0)

    await stream.content.readuntil(b'"step":20')
    bench.host.gate.set()


async def test_one_who_comes_later_is_told_how_far_it_is_at_once(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    early = await client.get(job["urls"]["events"])
    state = {"state": "running", "value": 3, "max": 4}
    bench.host.hear("progress_state", {"nodes": {"1": state}})
    await early.content.readuntil(b"event: progress")

    late = await client.get(job["urls"]["events"])
    bench.host.gate.set()
    first, *_ = await read_events(late)

    assert (first[0], first[2]["progress"]["step"]) == ("status", 3)


async def test_all_who_watch_a_job_are_told_the_same(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    streams = [await client.get(job["urls"]["events"]) for _ in range(3)]
    bench.host.gate.set()

    told = [await read_events(stream) for stream in streams]

    assert told[0] == told[1] == told[2]
    assert told[0][-1][2]["status"] == "completed"


async def test_who_waits_is_told_when_the_line_moves(client, bench) -> None:
    bench.host.gate.clear()
    first = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    jobs = [await submitted(client) for _ in range(3)]
    assert [job["progress"]["queue_position"] for job in jobs] == [1, 2, 3]
    stream = await client.get(jobs[2]["urls"]["events"])
    await frame_of(stream, "status")

    await client.post(first["urls"]["cancel"])

    moved = json.loads((await frame_of(stream, "progress"))["data"])
    assert moved["queue_position"] == 2
    bench.host.gate.set()
    assert [data for name, _, data in await read_events(stream)][-1]["status"] == "completed"


async def test_who_watches_learns_that_no_more_can_be_told() -> None:
    class Away:
        async def watch(self, job_id):
            raise StorageUnavailable("gone")
            yield

    feed = Feed(Away(), Subject("job", "https://api.example"))

    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await feed.after(None, seconds=5)
    feed.close()


# Previews


async def test_previews_come_small_and_without_ids_to_those_who_ask(
    client, bench, engine, picture
) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    asked = await client.get(job["urls"]["events"], params={"previews": "true"})
    silent = await client.get(job["urls"]["events"])
    await bench.until(lambda: engine._shop.previews._screens)

    large = memoryview(picture("teal", size=(1024, 512), kind="JPEG"))
    bench.host.hear("preview", {"image": large})
    shown = json.loads((await frame_of(asked, "preview"))["data"])
    bench.host.gate.set()

    small = Image.open(io.BytesIO(base64.b64decode(shown.pop("data"))))
    assert shown == {"content_type": "image/jpeg", "width": 256, "height": 128}
    assert (small.format, small.size) == ("JPEG", (256, 128))
    assert "preview" not in [name for name, *_ in await read_events(silent)]
    assert (await read_events(asked))[-1][2]["status"] == "completed"


async def test_a_preview_has_no_id(client, bench, engine, picture) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    stream = await client.get(job["urls"]["events"], params={"previews": "true"})
    await bench.until(lambda: engine._shop.previews._screens)

    bench.host.hear("preview", {"image": memoryview(picture("teal"))})

    assert "id" not in await frame_of(stream, "preview")
    bench.host.gate.set()


async def test_nobody_keeps_previews_once_who_asked_has_gone(client, bench, engine) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    stream = await client.get(job["urls"]["events"], params={"previews": "true"})
    screens = engine._shop.previews._screens
    await bench.until(lambda: screens)

    bench.host.gate.set()
    await read_events(stream)

    await bench.until(lambda: not screens)


async def test_a_wish_for_previews_is_true_or_false(client) -> None:
    job = await submitted(client)

    reply = await client.get(job["urls"]["events"], params={"previews": "1"})

    assert (reply.status, (await reply.json())["code"]) == (400, "invalid_query")


async def frame_of(stream, name):
    """The fields of the next event of this name."""
    while True:
        lines = (await stream.content.readuntil(b"\n\n")).decode().strip().split("\n")
        fields = dict(line.split(": ", 1) for line in lines)
        if fields.get("event") == name:
            return fields


async def test_the_stream_of_a_finished_job_is_its_end(client, bench) -> None:
    job = await submitted(client, Prefer="wait=10")

    events = await read_events(await client.get(job["urls"]["events"]))

    assert [name for name, *_ in events] == ["output", "status"]


async def test_who_has_seen_the_end_is_told_that_there_is_no_more(client) -> None:
    job = await submitted(client, Prefer="wait=10")
    *_, (_, last, _) = await read_events(await client.get(job["urls"]["events"]))

    again = await client.get(job["urls"]["events"], headers={"Last-Event-ID": last})

    assert again.status == 204


async def test_who_comes_back_is_not_told_again_what_he_has_seen(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    await bench.until(lambda: bench.host.prompts)
    first = await client.get(job["urls"]["events"])
    await first.content.readuntil(b"\n\n")
    seen = (await first.content.readuntil(b"\n\n")).decode().split("\n")[0].removeprefix("id: ")
    first.close()

    second = await client.get(job["urls"]["events"], headers={"Last-Event-ID": seen})
    bench.host.gate.set()

    assert seen not in [number for _, number, _ in await read_events(second)]


async def test_the_stream_of_a_job_that_is_not_there_is_a_problem(client) -> None:
    reply = await client.get("/api/v1/jobs/nothing/events")

    assert (reply.status, (await reply.json())["code"]) == (404, "unknown_job")


async def test_a_key_has_no_more_streams_than_it_may(serve, bench) -> None:
    client = await serve(limits=Limits(streams=Streams(1)))
    bench.host.gate.clear()
    job = await submitted(client)
    first = await client.get(job["urls"]["events"])

    refused = await client.get(job["urls"]["events"])
    bench.host.gate.set()
    await first.text()

    assert (refused.status, (await refused.json())["code"]) == (429, "too_many_streams")
    await until(lambda: _is_streamed(client, job))


async def test_whoever_waits_has_a_place_like_a_stream(serve, bench) -> None:
    client = await serve(limits=Limits(streams=Streams(1)))
    bench.host.gate.clear()
    job = await submitted(client)
    stream = await client.get(job["urls"]["events"])

    refused = await client.get(f"{job['urls']['self']}?wait=60")
    accepted = await client.post("/api/v1/draw/jobs", json={}, headers={"Prefer": "wait=60"})
    at_once = await client.get(job["urls"]["self"])
    bench.host.gate.set()
    await stream.text()

    assert (refused.status, (await refused.json())["code"]) == (429, "too_many_streams")
    assert (accepted.status, (await accepted.json())["status"]) == (202, "pending")
    assert "Preference-Applied" not in accepted.headers
    assert at_once.status == 200


async def _is_streamed(client, job):
    return (await client.get(job["urls"]["events"])).status == 200


async def test_a_watcher_who_goes_is_forgotten(client, engine, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    stream = await client.get(job["urls"]["events"])
    watchers = engine._shop.watchers._changed
    await bench.until(lambda: watchers)

    stream.close()
    bench.host.gate.set()

    await bench.until(lambda: not watchers)


async def test_an_answer_waits_for_the_end_of_the_job(client) -> None:
    reply = await client.post(DRAW, json={}, headers={"Prefer": "respond-async, wait=10"})

    job = await reply.json()
    assert (reply.status, job["status"]) == (200, "completed")
    assert reply.headers["Preference-Applied"] == "wait=10"


async def test_an_answer_waits_no_longer_than_it_was_asked_to(client, bench) -> None:
    bench.host.gate.clear()

    reply = await client.post(DRAW, json={}, headers={"Prefer": "wait=0"})

    assert (reply.status, reply.headers["Preference-Applied"]) == (202, "wait=0")


async def test_an_answer_waits_a_minute_at_most(client) -> None:
    reply = await client.post(DRAW, json={}, headers={"Prefer": "wait=100000"})

    assert reply.headers["Preference-Applied"] == "wait=60"


async def test_reading_a_job_can_wait_for_its_end(client, bench) -> None:
    bench.host.gate.clear()
    job = await submitted(client)
    waiting = asyncio.create_task(client.get(f"{job['urls']['self']}?wait=30"))
    await bench.until(lambda: bench.host.prompts)
    bench.host.gate.set()

    assert (await (await waiting).json())["status"] == "completed"


@pytest.mark.parametrize("given", ["soon", "-1", "1.5", "٣"])
async def test_a_wait_that_is_no_number_is_refused(client, given) -> None:
    job = await submitted(client)

    reply = await client.get(job["urls"]["self"], params={"wait": given})

    assert (reply.status, (await reply.json())["code"]) == (400, "invalid_query")


async def test_a_job_that_has_not_changed_is_not_sent_again(client) -> None:
    job = await submitted(client, Prefer="wait=10")
    first = await client.get(job["urls"]["self"])
    tag = {"If-None-Match": first.headers["ETag"]}

    again = await client.get(job["urls"]["self"], headers=tag)
    other = await client.get((await submitted(client))["urls"]["self"], headers=tag)

    assert (again.status, await again.text(), again.headers["ETag"]) == (
        304,
        "",
        tag["If-None-Match"],
    )
    assert other.status == 200
