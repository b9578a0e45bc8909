"""Small pictures of results: which there are, how they look, and who may have them."""

import io
from hashlib import sha256

import pytest
from aiohttp import web
from PIL import Image
from unified_api.jobs.errors import UnknownOutput
from unified_api.jobs.file_cache import FileCache
from unified_api.jobs.job import Job, Output
from unified_api.jobs.keys import Key
from unified_api.jobs.outputs import LocalResults
from unified_api.jobs.pictures.small import SIDE
from unified_api.jobs.prompt import Ending, Produced
from unified_api.jobs.thumbnails import MAX_BYTES, MAX_PIXELS, Thumbnails, thumbnail_of
from unified_api.routes import mount
from unified_api.routes.auth import Keyring
from unified_api.routes.service import Surface

API = "/api/v1"


@pytest.fixture
def serve(aiohttp_client, engine):
    async def start(*keys):
        app = web.Application()
        mount(app, engine, Surface("1", keyring=Keyring(keys)))
        return await aiohttp_client(app)

    return start


@pytest.fixture
def rendered(engine, bench):
    """The id of a job that has ended with a file of this content."""

    async def run(content, **how):
        path = bench.host.output_folder / "rendered"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        bench.host.endings.append(Ending((Produced("2", path),)))
        job = (await engine.submit("draw", {}, **how)).job
        assert (await bench.ended(engine, job)).status == "completed"
        return job.job_id

    return run


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(content):
    return Image.open(io.BytesIO(content))


def path_of(job_id, number=0):
    return f"{API}/jobs/{job_id}/outputs/{number}/thumbnail"


async def test_a_result_has_a_thumbnail(serve, rendered, picture):
    client = await serve()
    job_id = await rendered(picture("teal", size=(800, 400)))

    reply = await client.get(path_of(job_id))

    assert (reply.status, reply.content_type) == (200, "image/webp")
    assert reply.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert opened(await reply.read()).size == (SIDE, SIDE // 2)


async def test_a_browser_that_asks_again_is_told_that_it_has_it(serve, rendered, picture):
    client = await serve()
    path = path_of(await rendered(picture("teal")))
    first = await client.get(path)

    again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status, await again.read()) == (304, b"")
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]


@pytest.mark.parametrize("number", ["1", "9999", "10000", "-1", "x"])
async def test_what_is_no_output_has_none(serve, rendered, picture, number):
    client = await serve()
    job_id = await rendered(picture("teal"))

    reply = await client.get(path_of(job_id, number))

    assert reply.status == 404


async def test_an_unknown_job_has_none(serve):
    reply = await (await serve()).get(path_of("nobody"))

    assert (reply.status, (await reply.json())["code"]) == (404, "unknown_job")


@pytest.mark.parametrize("content", [b"fLaC\0\0\0\x22", b"hello", b"\x89PNG\r\n\x1a\n torn"])
async def test_what_is_no_picture_has_none_and_that_is_not_kept(serve, rendered, content):
    client = await serve()
    job_id = await rendered(content)

    reply = await client.get(path_of(job_id))

    assert (reply.status, (await reply.json())["code"]) == (404, "unknown_output")
    assert "immutable" not in reply.headers.get("Cache-Control", "")


async def test_a_result_that_is_gone_has_none(serve, rendered, bench, picture):
    client = await serve()
    job_id = await rendered(picture("teal"))
    for path in bench.results_folder.rglob("0.png"):
        path.unlink()

    reply = await client.get(path_of(job_id))

    assert (reply.status, (await reply.json())["code"]) == (404, "unknown_output")


async def test_only_the_owner_gets_it(serve, rendered, picture):
    keys = [
        Key(name=name, scopes=scopes, sha256=sha256(name.encode()).hexdigest())
        for name, scopes in {"mine": ["read"], "other": ["read"], "blind": ["cancel"]}.items()
    ]
    client = await serve(*keys)
    job_id = await rendered(picture("teal"), owner="mine")

    async def status(key):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return (await client.get(path_of(job_id), headers=headers)).status

    assert [await status(key) for key in ("mine", "other", "blind", "")] == [200, 404, 403, 401]


def test_a_small_picture_is_not_enlarged():
    assert opened(thumbnail_of(encoded(Image.new("RGB", (8, 6))))).size == (8, 6)


def test_a_thin_picture_keeps_a_pixel():
    assert opened(thumbnail_of(encoded(Image.new("RGB", (4000, 2))))).size == (SIDE, 1)


def test_it_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6

    small = opened(thumbnail_of(encoded(Image.new("RGB", (800, 400)), "JPEG", exif=exif)))

    assert small.size == (SIDE // 2, SIDE)


def test_it_stays_transparent():
    small = opened(thumbnail_of(encoded(Image.new("RGBA", (300, 300), (255, 0, 0, 0)))))

    assert small.getpixel((9, 9))[3] == 0


def test_sixteen_bits_are_scaled():
    grey = Image.new("I;16", (300, 300), 0x8000)

    red, green, blue = opened(thumbnail_of(encoded(grey))).convert("RGB").getpixel((9, 9))

    assert all(abs(colour - 128) < 4 for colour in (red, green, blue))


def test_nothing_embedded_is_told():
    exif = Image.Exif()
    exif[0x010E] = "prompt"

    more = {"exif": exif, "comment": b"graph", "icc_profile": b"colours"}

    small = thumbnail_of(encoded(Image.new("RGB", (300, 300)), "JPEG", **more))

    assert not [word for word in (b"prompt", b"graph", b"colours") if word in small]


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(MAX_PIXELS + 1, 1, 10), (10, 10, MAX_BYTES + 1), (None, None, 10)],
)
async def test_what_is_too_large_is_not_even_read(tmp_path, width, height, size):
    output = Output(
        name="a", content_type="image/png", size=size, width=width, height=height, sha256="0a"
    )
    job = Job(job_id="a", workflow="draw", parameters={}, created_at=0.0, outputs=(output,))

    with pytest.raises(UnknownOutput, match="not a picture"):
        await Thumbnails(LocalResults(tmp_path), FileCache(tmp_path, max_bytes=0)).of(job, 0)
