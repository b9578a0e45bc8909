"""Jobs that are kept elsewhere beside jobs that were submitted here."""

import time

import pytest
from unified_api.jobs.errors import IdTaken
from unified_api.jobs.job import Job, Rendered
from unified_api.jobs.outputs import sha256_of
from unified_api.jobs.store import Store


class Home:
    """Keeps whatever it is told."""

    async def save(self, job):
        return True


def task(job_id, **given):
    return Job(**{"job_id": job_id, "workflow": "draw", "parameters": {"seed": 1}, **given})


async def take_over(engine, job, table="one"):
    return await engine.guests.take_over(job, Home(), lambda: None, table=table)


@pytest.mark.parametrize("is_ended", [True, False])
async def test_a_task_never_takes_the_place_of_a_job_that_was_submitted_here(
    engine, bench, is_ended
):
    if not is_ended:
        bench.host.gate.clear()
    (job, _, _) = await engine.submit("draw", {"text": "mine"})
    if is_ended:
        await bench.ended(engine, job)
    before, _ = await engine.get(job.job_id)

    with pytest.raises(IdTaken):
        await take_over(engine, task(job.job_id, created_at=1.0))

    assert (await engine.get(job.job_id))[0].parameters["text"] == "mine"
    bench.host.gate.set()
    done = await bench.ended(engine, job)
    assert not done.is_shared
    assert done.finished_at >= (before.finished_at or 0)
    assert len(bench.host.prompts) == 1


async def test_an_id_is_taken_however_it_is_written(engine):
    (job, _, _) = await engine.submit("draw", {})
    spellings = (job.job_id, job.job_id.upper(), job.job_id.replace("-", ""))

    assert [await engine.guests.is_id_taken(each) for each in spellings] == [True] * 3
    assert not await engine.guests.is_id_taken("order-7")


#: None is of an earlier version, which told no table.
@pytest.mark.parametrize(("left_by", "are_used"), [("two", True), (None, True), ("one", False)])
async def test_only_pictures_that_the_task_of_the_same_table_left_are_used(
    bench, tmp_path, picture, left_by, are_used
):
    left = tmp_path / "left.png"
    left.write_bytes(picture("red"))
    rendered = (Rendered(name="image", path=left, sha256=sha256_of(left)),)
    first = task("order-7", created_at=time.time()).shared(table=left_by, rendered=rendered)
    store = Store(bench.store_path)
    await store.open()
    await store.adopt(first)
    await store.close()
    engine = await bench.open()

    await take_over(engine, task("order-7", created_at=time.time()), table="two")

    done = await bench.ended(engine, first)
    assert (done.outputs[0].sha256 == rendered[0].sha256) == are_used
    assert len(bench.host.prompts) == (not are_used)
