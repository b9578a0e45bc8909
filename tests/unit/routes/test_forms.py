"""Jobs by multipart forms, with pictures in them."""

import base64
import hashlib
import io
import json

import pytest
from aiohttp import FormData
from PIL import Image
from unified_api.jobs.keys import Key, Scope
from unified_api.routes.auth import Keyring
from unified_api.routes.limits import Limits, Quota

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
EDIT = f"{API}/edit/jobs"
ANN = Key(
    name="ann",
    scopes=frozenset({Scope.SUBMIT, Scope.READ}),
    sha256=hashlib.sha256(b"ann's").hexdigest(),
)


def form(**fields):
    made = FormData(default_to_multipart=True)
    for name, value in fields.items():
        if isinstance(value, bytes):
            made.add_field(
                name, io.BytesIO(value), filename="any name.exe", content_type="text/html"
            )
        else:
            made.add_field(name, value)
    return made


@pytest.mark.parametrize("field", ["image", "image_url"])
async def test_a_picture_is_uploaded_in_a_form(ask, ended, picture, field):
    accepted = await ask("POST", EDIT, data=form(**{field: picture("red")}))

    assert accepted.status == 202
    assert (await ended(ask, accepted))["status"] == "completed"


async def test_a_picture_may_stand_in_the_request_and_does_not_count_as_json(ask, ended):
    buffer = io.BytesIO()
    Image.effect_noise((600, 600), 90).save(buffer, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    assert len(uri) > 300_000

    job = await ended(ask, await ask("POST", EDIT, json={"image_url": uri}))

    assert job["status"] == "completed"
    assert job["parameters"]["image_url"].startswith("upload:")


async def test_what_stands_beside_a_picture_counts(ask):
    reply = await ask("POST", EDIT, json={"image_url": "data:,", "x": "y" * 300_000})

    assert (reply.status, reply.code) == (413, "body_too_large")


async def test_a_form_may_also_give_a_url(ask, gallery, picture, ended):
    url = gallery.hang("/a", picture("red"))

    job = await ended(ask, await ask("POST", EDIT, data=form(image=url)))

    assert (job["status"], job["parameters"]["image_url"]) == ("completed", url)


async def test_the_fields_of_a_form_are_read_as_the_schema_means_them(ask):
    fields = form(text="7", seed="18446744073709551615", size="9", bold="true")

    job = (await ask("POST", DRAW, data=fields)).json

    assert job["parameters"] == {"text": "7", "seed": 2**64 - 1, "size": 9, "bold": True}


async def test_an_empty_field_of_a_form_is_omitted_unless_it_is_a_text(ask):
    job = (await ask("POST", DRAW, data=form(text="", size=""))).json

    assert (job["parameters"]["text"], job["parameters"]["size"]) == ("", 8)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "many"},
        {"size": "NaN"},
        {"size": "[" * 50_000},
        {"size": "1" * 5000},
        {"bold": "yes"},
        {"colour": "red"},
    ],
)
async def test_a_field_that_does_not_fit_is_refused_by_name(ask, fields):
    reply = await ask("POST", DRAW, data=form(**fields))

    assert (reply.status, reply.code) == (422, "invalid_parameters")
    assert [error["param"] for error in reply.json["errors"]] == list(fields)


async def test_an_uploaded_file_that_is_no_picture_is_refused(ask):
    reply = await ask("POST", EDIT, data=form(image=b"<html>"))

    assert (reply.status, reply.code) == (422, "input_invalid")


async def test_an_uploaded_file_that_is_too_large_is_refused(serve, bench, picture):
    content = picture("red", size=(600, 600), kind="PNG")
    ask = await serve(await bench.open(max_image_bytes=len(content) - 1))

    reply = await ask("POST", EDIT, data=form(image=content))

    assert (reply.status, reply.code) == (422, "input_invalid")
    assert str(len(content) - 1) in reply.json["detail"]


async def test_a_picture_of_several_megabytes_is_accepted(ask, picture):
    content = picture("red") + b"\0" * 3_000_000

    assert (await ask("POST", EDIT, data=form(image=content))).status == 202


async def test_a_field_that_is_too_large_is_refused(ask):
    reply = await ask("POST", DRAW, data=form(text="a" * 100_000))

    assert (reply.status, reply.code) == (413, "body_too_large")


async def test_a_field_that_comes_twice_is_refused(ask):
    fields = form(text="a")
    fields.add_field("text", "b")

    assert (await ask("POST", DRAW, data=fields)).code == "malformed_body"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"--b\r\n",
        b"--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=text\r\n\r\nab",
        b"--b\r\nContent-Disposition: form-data; name=text\r\n\r\nab\r\n",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nab\r\n--b--\r\n",
        b"--b\r\n\r\nab\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=text\r\n\r\n\xff\r\n--b--\r\n",
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\na\r\n--c--\r\n--b--",
        b"--b\r\nno colon\r\n\r\nab\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=text\r\nContent-Length: x\r\n\r\na\r\n--b--",
    ],
)
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
async def test_a_broken_form_is_no_fault_of_ours(ask, body):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    reply = await ask("POST", DRAW, data=body, headers=headers)

    assert reply.status in {202, 400, 422}


async def test_a_form_without_a_boundary_is_refused(ask):
    headers = {"Content-Type": "multipart/form-data"}

    reply = await ask("POST", DRAW, data=b"--b--", headers=headers)

    assert (reply.status, reply.code) == (400, "malformed_body")


def files_in(folder):
    return [path for path in (folder / "input").rglob("*") if path.is_file()]


REFUSED = {
    "a value that does not fit": {"quality": "many"},
    "a field that is not known": {"colour": "red"},
    "a file that is no picture": {"quality": "9", "image2": b"<html>"},
    "an upload of somebody": {"image2_url": "upload:" + "ab" * 40 + ".png"},
    "a webhook that is none": {"webhook_url": "file:///etc/passwd"},
}


@pytest.fixture
def two_pictures(definitions):
    """`edit` takes a second picture, which may be left out."""
    file = definitions / "edit" / "workflow.json"
    content = json.loads(file.read_text())
    content["parameters"]["properties"]["image2_url"] = {"type": "string"}
    place = {"node": "3", "class_type": "LoadImage", "input": "image"}
    content["bindings"]["image2_url"] = [place]
    content["images"]["image2_url"] = {"disconnect": ["3"]}
    file.write_text(json.dumps(content))
    graph = definitions / "edit" / "graph.json"
    nodes = json.loads(graph.read_text())
    graph.write_text(json.dumps({**nodes, "3": nodes["1"]}))


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
async def test_a_form_that_is_refused_leaves_no_file(two_pictures, ask, picture, tmp_path, fields):
    reply = await ask("POST", EDIT, data=form(image=picture("red"), **fields))

    assert reply.status == 422
    assert files_in(tmp_path) == []


async def test_a_request_that_is_refused_leaves_none_of_the_pictures_in_it(ask, picture, tmp_path):
    uri = f"data:image/png;base64,{base64.b64encode(picture('red')).decode()}"

    reply = await ask("POST", EDIT, json={"image_url": uri, "quality": 0})

    assert reply.status == 422
    assert files_in(tmp_path) == []


async def test_a_form_that_breaks_off_leaves_no_file(ask, picture, tmp_path):
    body = (
        b"--b\r\nContent-Disposition: form-data; name=image; filename=a.png\r\n\r\n"
        + picture("red")
        + b"\r\n--b\r\nContent-Disposition: form-data; name=quality\r\n\r\nx"
    )

    reply = await ask(
        "POST", EDIT, data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert reply.status in (400, 422)
    assert files_in(tmp_path) == []


async def test_a_form_that_nobody_may_send_leaves_no_file(serve, bench, picture, tmp_path):
    engine = await bench.open(max_pending=1)
    bench.host.gate.clear()
    ask = await serve(engine, limits=Limits(quota=Quota(1)), keyring=Keyring([ANN]))
    bearer = {"Authorization": "Bearer ann's"}
    assert (await ask("POST", DRAW, json={}, headers=bearer)).status == 202

    refused = await ask("POST", EDIT, data=form(image=picture("red")), headers=bearer)
    unknown = await ask("POST", EDIT, data=form(image=picture("red")))

    assert (refused.status, refused.code) == (429, "too_many_jobs")
    assert unknown.status == 401
    assert files_in(tmp_path) == []


async def test_a_form_sent_twice_keeps_one_file_and_none_under_another_key(
    ask, ended, picture, tmp_path
):
    key = {"Idempotency-Key": "1"}

    async def send(color):
        return await ask("POST", EDIT, data=form(image=picture(color)), headers=key)

    first, again, other = [await send(color) for color in ("red", "red", "blue")]
    await ended(ask, first)

    assert (again.status, other.code) == (200, "idempotency_key_reused")
    assert again.json["job_id"] == first.json["job_id"]
    assert len(files_in(tmp_path)) == 1


async def test_an_upload_is_of_no_use_to_another_caller(serve, engine, picture, ended):
    bob = Key(name="bob", scopes=ANN.scopes, sha256=hashlib.sha256(b"bob's").hexdigest())
    ask = await serve(engine, keyring=Keyring([ANN, bob]))
    hers, his = ({"Authorization": f"Bearer {name}'s"} for name in ("ann", "bob"))
    job = (await ask("POST", EDIT, data=form(image=picture("red")), headers=hers)).json
    reference = job["parameters"]["image_url"]

    for path in (EDIT, f"{EDIT}?dry_run=true"):
        refused = await ask("POST", path, json={"image_url": reference}, headers=his)
        assert (refused.status, refused.code) == (422, "forbidden_source")
        assert "Upload the picture again" in refused.json["detail"]
    again = await ask("POST", EDIT, json={"image_url": reference}, headers=hers)
    assert again.status == 202


async def test_an_upload_by_the_name_of_earlier_versions_is_anybodys_and_so_nobodys(ask, picture):
    name = hashlib.sha256(picture("red")).hexdigest()

    reply = await ask("POST", EDIT, json={"image_url": f"upload:{name}.png"})

    assert (reply.status, reply.code) == (422, "forbidden_source")
