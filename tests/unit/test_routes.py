"""The HTTP surface over a real engine: what callers send, and what they get."""

import asyncio
import base64
import io
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest
from aiohttp import FormData, web
from multidict import CIMultiDictProxy
from PIL import Image
from unified_api.jobs.prompt import Lack
from unified_api.routes import mount
from unified_api.routes.service import Surface
from unified_api.workflows import Takes
from yarl import URL

from .fake_host import until

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
EDIT = f"{API}/edit/jobs"
JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: CIMultiDictProxy
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """Of a problem."""
        assert self.headers["Content-Type"].startswith(PROBLEM)
        assert self.json["status"] == self.status
        return self.json["code"]


@pytest.fixture
def serve(aiohttp_client, tmp_path):
    """Put a service on the network; the function that asks it. No reply tells our inside."""

    async def start(service, **surface):
        app = web.Application()
        mount(app, service, Surface(version="1.2.3", **surface))
        client = await aiohttp_client(app)

        async def ask(method, path, **how):
            response = await client.request(method, URL(path, encoded=True), **how)
            body = await response.read()
            assert b"Traceback" not in body
            assert str(tmp_path).encode() not in body
            return Reply(response.status, response.headers, body)

        return ask

    return start


@pytest.fixture
async def ask(serve, engine):
    return await serve(engine)


@pytest.fixture
def ended():
    async def wait(ask, reply):
        """The job of a reply once it is final."""

        async def final():
            shown = (await ask("GET", reply.headers["Location"])).json
            return shown if shown["status"] in {"completed", "failed", "cancelled"} else None

        return await until(final)

    return wait


# A job


async def test_a_job_is_accepted_and_ends_with_a_picture(ask, ended):
    accepted = await ask("POST", DRAW, json={"text": "a tree", "seed": 5})

    job = accepted.json
    assert accepted.status == 202
    assert UUID.fullmatch(job["job_id"])
    assert accepted.headers["Location"] == job["urls"]["self"] == f"{API}/jobs/{job['job_id']}"
    assert int(accepted.headers["Retry-After"]) >= 1
    assert accepted.headers["Cache-Control"] == "no-store"
    assert (job["status"], job["stage"], job["workflow"]) == ("pending", "queued", "draw")

    done = await ended(ask, accepted)
    assert (done["status"], done["stage"], done["error"]) == ("completed", None, None)
    unknown = ("node", "step", "steps", "queue_position", "eta_seconds")
    assert done["progress"] == {"percent": 100, **dict.fromkeys(unknown)}
    assert done["parameters"] == {"text": "a tree", "seed": 5, "size": 8, "bold": False}
    assert done["result_s3_uri"] == done["result_url"] == done["outputs"][0]["url"]


async def test_the_fields_that_running_clients_read_come_first(ask):
    job = (await ask("POST", DRAW, json={})).json

    assert list(job)[:5] == ["job_id", "status", "result_s3_uri", "error", "result_url"]
    assert {"stage", "timings", "attempt", "error_detail", "metadata", "started_at"} <= set(job)


async def test_a_job_is_read_below_its_workflow_and_no_other(ask):
    job_id = (await ask("POST", DRAW, json={})).json["job_id"]

    assert (await ask("GET", f"{DRAW}/{job_id}")).json["job_id"] == job_id
    assert (await ask("GET", f"{API}/jobs/{job_id}")).json["job_id"] == job_id
    assert (await ask("GET", f"{EDIT}/{job_id}")).code == "unknown_job"


async def test_a_job_is_cancelled_by_its_url_however_often(ask, bench):
    bench.host.gate.clear()
    job = (await ask("POST", DRAW, json={})).json

    first = await ask("POST", job["urls"]["cancel"])
    again = await ask("POST", job["urls"]["cancel"])

    assert (first.status, first.json["status"]) == (200, "cancelled")
    assert (again.status, again.json) == (200, first.json)
    assert (await ask("GET", job["urls"]["self"])).json == first.json


async def test_a_job_that_has_ended_is_told_as_it_is_when_it_is_cancelled(ask, ended):
    done = await ended(ask, await ask("POST", DRAW, json={}))

    assert (await ask("POST", done["urls"]["cancel"])).json == done


async def test_null_means_omitted(ask):
    job = (await ask("POST", DRAW, json={"text": None, "seed": None, "size": None})).json

    assert job["parameters"]["size"] == 8
    assert isinstance(job["parameters"]["seed"], int)
    assert "text" not in job["parameters"]


async def test_a_failed_job_tells_why(ask, gallery, ended):
    url = gallery.hang("/a", b"", status=404)

    job = await ended(ask, await ask("POST", EDIT, json={"image_url": url}))

    assert job["status"] == "failed"
    assert job["error"].startswith("image_url: ")
    assert job["error_detail"] == {
        "code": "input_fetch_failed",
        "retryable": False,
        "node_id": None,
        "node_class": None,
    }


# Its outputs


async def test_an_output_is_served_as_what_it_is_and_for_ever(ask, ended):
    job = await ended(ask, await ask("POST", DRAW, json={}))

    reply = await ask("GET", URL(job["outputs"][0]["url"]).raw_path)

    assert (reply.status, len(reply.body)) == (200, job["outputs"][0]["size"])
    assert reply.headers["Content-Type"] == "image/png"
    assert "immutable" in reply.headers["Cache-Control"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_part_of_an_output_can_be_asked_for(ask, ended):
    job = await ended(ask, await ask("POST", DRAW, json={}))
    path = URL(job["outputs"][0]["url"]).raw_path

    reply = await ask("GET", path, headers={"Range": "bytes=1-3"})

    assert (reply.status, reply.body) == (206, b"PNG")


@pytest.mark.parametrize("number", ["1", "9999", "10000", "-1", "x", "0.png", "0/", "%2e%2e"])
async def test_there_is_no_other_output(ask, ended, number):
    job = await ended(ask, await ask("POST", DRAW, json={}))

    reply = await ask("GET", f"{API}/jobs/{job['job_id']}/outputs/{number}")

    assert reply.status == 404
    assert reply.code in {"unknown_output", "not_found"}


async def test_a_job_that_has_not_ended_has_no_output(ask, bench):
    bench.host.gate.clear()
    job_id = (await ask("POST", DRAW, json={})).json["job_id"]

    assert (await ask("GET", f"{API}/jobs/{job_id}/outputs/0")).code == "unknown_output"


async def test_an_output_that_was_removed_is_not_found_and_not_for_ever(ask, bench, ended):
    job = await ended(ask, await ask("POST", DRAW, json={}))
    for path in bench.results_folder.rglob("0.png"):
        path.unlink()

    reply = await ask("GET", f"{API}/jobs/{job['job_id']}/outputs/0")

    assert reply.code == "unknown_output"
    assert "immutable" not in reply.headers.get("Cache-Control", "")


async def test_links_begin_as_the_caller_spelt_the_host(ask, ended):
    accepted = await ask("POST", DRAW, json={})
    await ended(ask, accepted)

    job = (await ask("GET", accepted.headers["Location"], headers={"Host": "gpu.example:81"})).json

    assert job["result_url"].startswith("http://gpu.example:81/api/v1/jobs/")


async def test_links_begin_with_the_public_address_where_there_is_one(serve, engine, ended):
    ask = await serve(engine, public_url="https://api.example.org/")

    job = await ended(ask, await ask("POST", DRAW, json={}))

    assert job["result_url"].startswith("https://api.example.org/api/v1/jobs/")


# Many jobs


async def test_jobs_are_listed_in_pages_from_the_newest(ask, bench):
    bench.host.gate.clear()
    accepted = [(await ask("POST", DRAW, json={})).json["job_id"] for _ in range(5)]

    seen, path = [], f"{API}/jobs?limit=2"
    while path:
        page = (await ask("GET", path)).json
        seen.append([job["job_id"] for job in page["data"]])
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        path = cursor and f"{API}/jobs?limit=2&after={cursor}"

    assert [len(page) for page in seen] == [2, 2, 1]
    assert [job_id for page in seen for job_id in page] == accepted[::-1]


async def test_a_list_is_narrowed_by_status_and_workflow(ask, ended):
    done = await ended(ask, await ask("POST", DRAW, json={}))

    async def listed(query):
        return [job["job_id"] for job in (await ask("GET", f"{API}/jobs?{query}")).json["data"]]

    assert await listed("status=completed&workflow=draw") == [done["job_id"]]
    assert await listed("status=failed") == []
    assert await listed("workflow=edit") == []
    assert await listed("workflow=%ED%A0%80%00") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=ten",
        "limit=",
        "limit=1e1",
        f"limit={'9' * 30}",
        "limit=%D9%A3",
        "after=-1",
        "after=x",
        f"after={'9' * 19}",
        "status=done",
        "status=PENDING",
    ],
)
async def test_a_wrong_query_is_refused(ask, query):
    reply = await ask("GET", f"{API}/jobs?{query}")

    assert (reply.status, reply.code) == (400, "invalid_query")


# What is refused


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{API}/nothing", 404, "not_found"),
        ("GET", f"{API}/", 404, "not_found"),
        ("GET", f"{API}/jobs/x/y/z", 404, "not_found"),
        ("GET", f"{API}/jobs/nobody", 404, "unknown_job"),
        ("GET", f"{API}/jobs/%00", 404, "unknown_job"),
        ("GET", f"{API}/jobs/%ED%A0%80", 404, "unknown_job"),
        ("GET", f"{API}/jobs/' OR 1=1 --".replace(" ", "%20"), 404, "unknown_job"),
        ("GET", f"{API}/workflows/nothing", 404, "unknown_workflow"),
        ("POST", f"{API}/nothing/jobs", 404, "unknown_workflow"),
        ("POST", f"{API}/%ED%A0%80/jobs", 404, "unknown_workflow"),
        ("POST", f"{API}/%2e%2e/jobs", 404, None),
        ("GET", DRAW, 405, "method_not_allowed"),
        ("PUT", f"{API}/jobs", 405, "method_not_allowed"),
        ("DELETE", f"{API}/workflows", 405, "method_not_allowed"),
        ("POST", API, 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_in_json(ask, method, path, status, code):
    reply = await ask(method, path, json={} if method == "POST" else None)

    assert reply.status == status
    if code:
        assert reply.code == code
        assert reply.json["request_id"] == reply.headers["X-Request-Id"]
    assert ("Allow" in reply.headers) == (status == 405)


async def test_what_is_not_ours_is_left_alone(ask):
    reply = await ask("GET", "/prompt")

    assert reply.status == 404
    assert PROBLEM not in reply.headers["Content-Type"]
    assert "X-Request-Id" not in reply.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"7",
        b"{} {}",
        b"{'text': 1}",
        b'{"seed": NaN}',
        b'{"seed": Infinity}',
        b'{"seed": -Infinity}',
        b'{"seed": 1, "seed": 2}',
        b'{"text": {"a": 1, "a": 2}}',
        b"[" * 100_000,
        b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 40_000,
        b'{"text": "\xff"}',
        b"\xff\xfe{",
        b"\x00",
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(ask, body):
    reply = await ask("POST", DRAW, data=body, headers=JSON)

    assert (reply.status, reply.code) == (400, "malformed_body")
    assert len(reply.body) < 2000


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b'{"seed": 18446744073709551616}', "seed"),
        (b'{"seed": -1}', "seed"),
        (b'{"seed": 1.5}', "seed"),
        (b'{"seed": 1e400}', "seed"),
        (b'{"seed": "7"}', "seed"),
        (b'{"seed": true}', "seed"),
        (b'{"seed": [["1", 0]]}', "seed"),
        (b'{"text": ["1", 0]}', "text"),
        (b'{"text": {}}', "text"),
        (b'{"text": "\\ud800"}', "text"),
        (b'{"bold": 1}', "bold"),
        (b'{"size": 65}', "size"),
        (b'{"colour": "red"}', "colour"),
        (b'{"\\ud800": 1}', None),
    ],
)
async def test_wrong_parameters_are_refused_by_name(ask, body, parameter):
    reply = await ask("POST", DRAW, data=body, headers=JSON)

    assert (reply.status, reply.code) == (422, "invalid_parameters")
    (error,) = reply.json["errors"]
    assert parameter in (error["param"], None)
    assert error["pointer"].startswith("/")
    assert error["message"].endswith((".", "?"))


async def test_a_number_of_5000_digits_is_refused(ask):
    reply = await ask("POST", DRAW, data=b'{"seed": ' + b"1" * 5000 + b"}", headers=JSON)

    assert reply.status in {400, 422}
    assert reply.code in {"malformed_body", "invalid_parameters"}
    assert len(reply.body) < 2000


async def test_every_wrong_parameter_is_told_at_once(ask):
    reply = await ask("POST", EDIT, json={"text": 1, "size": 0})

    assert {error["param"] for error in reply.json["errors"]} == {"text", "size", "image_url"}


async def test_the_largest_seed_comes_back_exactly(ask):
    job = (await ask("POST", DRAW, json={"seed": 2**64 - 1})).json

    assert job["parameters"]["seed"] == 2**64 - 1


async def test_a_text_of_any_language_comes_back_exactly(ask):
    text = "将镜头转为俯视 🎥 \u0000\n\"'<script>"

    job = (await ask("POST", DRAW, json={"text": text})).json

    assert job["parameters"]["text"] == text


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(ask, is_chunked):
    async def chunks():
        for _ in range(40):
            yield b" " * 10_000

    body = chunks() if is_chunked else b" " * 400_000

    reply = await ask("POST", DRAW, data=body, headers=JSON)

    assert (reply.status, reply.code) == (413, "body_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "nonsense"},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "identity"},
    ],
)
async def test_another_kind_of_body_is_refused(ask, headers):
    reply = await ask("POST", DRAW, data=b"{}", headers=headers, skip_auto_headers=["Content-Type"])

    assert reply.status in {400, 415}
    if reply.headers["Content-Type"].startswith(PROBLEM):
        assert reply.code == "unsupported_body"


# Forms


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


# What the service tells of itself


async def test_the_service_tells_what_it_is(ask):
    told = (await ask("GET", API)).json

    assert told["version"] == "1.2.3"
    assert told["workflows"] == ["draw", "edit"]
    for path in told["links"].values():
        assert (await ask("GET", path)).status == 200


@pytest.mark.parametrize("path", ["/health", f"{API}/health"])
async def test_health_names_each_part(ask, path):
    reply = await ask("GET", path)

    assert (reply.status, reply.json["status"]) == (200, "healthy")
    assert {"comfyui", "store", "workflows", "settings"} <= set(reply.json["components"])
    assert reply.headers["Cache-Control"] == "no-store"


async def test_a_part_that_is_missing_degrades_health_and_is_told_by_name(serve, bench):
    (bench.definitions / "draw" / "graph.json").write_text("{}")
    ask = await serve(await bench.open())

    reply = await ask("GET", "/health")

    assert (reply.status, reply.json["status"]) == (200, "degraded")
    assert "draw" in reply.json["components"]["workflows"]["reason"]
    assert (await ask("GET", "/ready")).status == 200


async def test_a_service_that_cannot_run_jobs_is_unhealthy_and_not_ready(ask, bench):
    assert (await ask("GET", "/ready")).json["ready"]

    bench.host.problem = "ComfyUI's worker thread has died."

    health = await ask("GET", "/health")
    assert (health.status, health.json["status"]) == (503, "unhealthy")
    assert health.json["components"]["comfyui"]["reason"] == bench.host.problem
    assert (await ask("GET", "/ready")).status == 503


async def test_the_catalog_shows_every_workflow_with_its_parameters(ask):
    listed = {each["slug"]: each for each in (await ask("GET", f"{API}/workflows")).json["data"]}

    assert set(listed) == {"draw", "edit"}
    assert listed["draw"]["health"] == "healthy"
    assert set(listed["draw"]["parameters"]["properties"]) == {"text", "seed", "size", "bold"}
    assert listed["edit"]["images"] == ["image_url"]
    assert (await ask("GET", listed["draw"]["urls"]["self"])).json == listed["draw"]


async def test_the_catalog_shows_how_long_a_job_may_take(serve, bench):
    file = bench.definitions / "draw" / "workflow.json"
    limits = {"limits": {"max_run_seconds": 90}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **limits}))
    ask = await serve(await bench.open())

    listed = {each["slug"]: each for each in (await ask("GET", f"{API}/workflows")).json["data"]}

    assert listed["draw"]["limits"] == {"max_wait_seconds": None, "max_run_seconds": 90}
    assert listed["edit"]["limits"] == {"max_wait_seconds": None, "max_run_seconds": None}


async def test_what_this_comfyui_takes_is_shown_and_all_that_is_accepted(serve, bench):
    bench.host.taking = {"Draw": {"text": Takes(choices=("", "cat", "dog"))}}
    ask = await serve(await bench.open())

    catalog = (await ask("GET", f"{API}/workflows/draw")).json
    described = (await ask("GET", f"{API}/openapi.json")).json
    refused = await ask("POST", DRAW, json={"text": "nonsense"})

    assert catalog["parameters"]["properties"]["text"]["enum"] == ["", "cat", "dog"]
    body = described["paths"][DRAW]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["text"]["enum"] == ["", "cat", "dog", None]
    assert (refused.status, refused.code) == (422, "invalid_parameters")
    assert refused.json["errors"][0]["allowed"] == ["", "cat", "dog"]
    assert (await ask("POST", DRAW, json={"text": "cat"})).status == 202


async def test_a_workflow_that_cannot_run_is_listed_with_the_reason_and_refused(serve, bench):
    bench.host.lacking.append(Lack("1", None, "node class Draw is not installed"))
    (bench.definitions / "edit" / "workflow.json").write_text("{")
    ask = await serve(await bench.open())

    listed = {each["slug"]: each for each in (await ask("GET", f"{API}/workflows")).json["data"]}
    refused = [await ask("POST", path, json={}) for path in (DRAW, EDIT)]

    assert [each["health"] for each in listed.values()] == ["unhealthy", "unhealthy"]
    assert "Draw is not installed" in listed["draw"]["problems"][0]
    assert "workflow.json" in listed["edit"]["problems"][0]
    assert [(reply.status, reply.code) for reply in refused] == [(503, "workflow_unhealthy")] * 2
    assert "Draw is not installed" in refused[0].json["detail"]


# Trouble


async def test_a_full_queue_is_told_with_a_time_to_wait(serve, bench):
    bench.host.gate.clear()
    ask = await serve(await bench.open(max_pending=1, fetch_ahead=1))

    async def is_full():
        reply = await ask("POST", DRAW, json={})
        return reply if reply.status != 202 else None

    reply = await until(is_full)
    assert (reply.status, reply.code) == (429, "queue_full")
    assert int(reply.headers["Retry-After"]) >= 1


async def test_a_store_that_fails_is_told_and_the_job_is_not_accepted(ask, bench):
    with closing(sqlite3.connect(bench.store_path, isolation_level=None)) as db:
        db.execute("DROP TABLE jobs")

    replies = [await ask("POST", DRAW, json={}), await ask("GET", f"{API}/jobs")]

    told = [(reply.status, reply.code) for reply in replies]
    assert told == [(503, "storage_unavailable")] * 2
    assert "Retry-After" in replies[0].headers


async def test_a_service_whose_store_is_unusable_takes_no_jobs_but_answers(serve, bench):
    bench.store_path.parent.mkdir()
    bench.store_path.write_bytes(b"no database, but long enough to be looked at" * 50)
    ask = await serve(await bench.open())

    reply = await ask("POST", DRAW, json={})

    assert (reply.status, reply.code) == (503, "not_ready")
    assert (await ask("GET", f"{API}/workflows")).status == 200
    assert (await ask("GET", "/health")).status == 503


class Faulty:
    """A service with a fault in it."""

    async def get(self, job_id):
        raise RuntimeError("secret of the machine")


async def test_a_fault_of_ours_is_told_by_a_number_and_logged_under_it(serve, caplog):
    ask = await serve(Faulty())

    reply = await ask("GET", f"{API}/jobs/a")

    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"secret" not in reply.body
    assert reply.json["request_id"] in caplog.text


async def test_a_server_open_to_strangers_without_keys_shows_only_its_outside(serve, engine):
    ask = await serve(engine, is_open=False)

    closed = [
        await ask("POST", DRAW, json={}),
        await ask("GET", f"{API}/jobs"),
        await ask("GET", f"{API}/jobs/a"),
        await ask("GET", f"{API}/jobs/a/outputs/0"),
        await ask("GET", f"{API}/workflows"),
        await ask("GET", f"{API}/nothing"),
    ]

    assert {(reply.status, reply.code) for reply in closed} == {(503, "auth_not_configured")}
    assert "UNIFIED_API_ALLOW_ANONYMOUS" in closed[0].json["detail"]
    assert (await ask("GET", "/ready")).status == 503
    assert [(await ask("GET", path)).status for path in ("/health", API)] == [200, 200]


# Request ids


@pytest.mark.parametrize("given", ["abc-123", "a.b_C", "x" * 64])
async def test_a_request_id_is_given_back(ask, given):
    for path in (f"{API}/jobs", f"{API}/nothing"):
        reply = await ask("GET", path, headers={"X-Request-Id": given})

        assert reply.headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "<script>", "a;b", "ä", "a\tb", "١"])
async def test_a_hostile_request_id_is_replaced(ask, given):
    reply = await ask("GET", f"{API}/nothing", headers={"X-Request-Id": given})

    assert re.fullmatch("[0-9a-f]{32}", reply.headers["X-Request-Id"])
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]


async def test_every_request_has_an_id_of_its_own(ask):
    replies = await asyncio.gather(*(ask("GET", f"{API}/jobs") for _ in range(5)))

    assert len({reply.headers["X-Request-Id"] for reply in replies}) == 5
