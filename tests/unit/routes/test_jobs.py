"""Jobs over HTTP: what callers send, and what they get."""

import re

import pytest
from yarl import URL

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
EDIT = f"{API}/edit/jobs"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
