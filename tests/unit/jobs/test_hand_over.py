"""Jobs whose pictures ComfyUI hands over instead of saving them."""

import io
import threading

import pytest
from PIL import Image
from unified_api.jobs.job import Status
from unified_api.jobs.prompt import Ending, Produced

from ..fake_host import until

SIZE = (48, 32)
BYTES = SIZE[0] * SIZE[1] * 4


def hands_over(bench, *colours):
    pictures = [Image.new("RGB", SIZE, colour) for colour in colours]
    ending = Ending(tuple(Produced("2", picture) for picture in pictures))
    bench.host.endings.append(ending)


async def submitted(engine, **extras):
    return (await engine.submit("draw", extras)).job


@pytest.fixture
def encoder(bench):
    """It encodes nothing while this event is clear."""
    may_go_on = threading.Event()
    encode = bench.encode

    def encoded(*given, **named):
        may_go_on.wait()
        return encode(*given, **named)

    bench.encode = encoded
    yield may_go_on
    may_go_on.set()


async def test_a_job_ends_with_the_picture_as_a_file(bench, engine):
    hands_over(bench, "teal")

    job = await bench.ended(engine, await submitted(engine))

    assert job.status is Status.COMPLETED
    (output,) = job.outputs
    assert (output.content_type, output.width, output.height) == ("image/png", *SIZE)
    with Image.open(await engine.output_path(job.job_id, 0)) as picture:
        assert picture.getpixel((0, 0)) == (0, 128, 128)


async def test_it_is_encoded_as_the_caller_wants_it(bench, engine):
    hands_over(bench, "teal")

    job = await bench.ended(engine, await submitted(engine, output_format="webp"))

    assert [output.content_type for output in job.outputs] == ["image/webp"]


async def test_all_pictures_of_a_job_are_kept_in_order(bench, engine):
    hands_over(bench, "red", "lime", "blue")

    job = await bench.ended(engine, await submitted(engine))

    paths = [await engine.output_path(job.job_id, number) for number in range(3)]
    colours = [Image.open(io.BytesIO(path.read_bytes())).getpixel((0, 0)) for path in paths]
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


async def test_the_next_job_runs_while_a_picture_is_encoded(bench, encoder, engine):
    hands_over(bench, "teal")
    first, second = await submitted(engine), await submitted(engine)

    assert (await bench.ended(engine, second)).status is Status.COMPLETED

    assert not (await engine.get(first.job_id))[0].status.is_final
    encoder.set()
    assert (await bench.ended(engine, first)).status is Status.COMPLETED


async def test_comfyui_waits_when_there_is_no_room_for_more_pictures(bench, encoder):
    engine = await bench.open(picture_bytes=BYTES)
    for _ in range(6):
        hands_over(bench, "teal")
    jobs = [await submitted(engine) for _ in range(6)]

    # One is being encoded; two that have run keep the places of those that would be next.
    await until(lambda: len(bench.host.prompts) == 3)
    await until(lambda: not bench.host.queue)
    assert len(bench.host.prompts) == 3

    encoder.set()
    assert {(await bench.ended(engine, job)).status for job in jobs} == {Status.COMPLETED}


async def test_what_was_not_on_disk_when_we_died_runs_again(bench, encoder):
    engine = await bench.open()
    hands_over(bench, "teal")
    job = await submitted(engine)
    await until(lambda: bench.host.prompts and not bench.host.queue)
    await bench.crash(engine)
    encoder.set()

    done = await bench.ended(await bench.open(host=bench.new_host()), job)

    assert (done.status, done.attempt) == (Status.COMPLETED, 2)


async def test_a_job_is_cancelled_while_its_picture_is_encoded(bench, encoder, engine):
    hands_over(bench, "teal")
    job = await submitted(engine)
    await until(lambda: bench.host.prompts and not bench.host.queue)

    await engine.cancel(job.job_id)

    assert (await bench.ended(engine, job)).status is Status.CANCELLED
    encoder.set()
    await until(lambda: not list(bench.host.output_folder.rglob("*.*")))
