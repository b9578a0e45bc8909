"""What is refused, and how callers are told."""

import asyncio
import re
import sqlite3
from contextlib import closing

import pytest

from ..fake_host import until

API = "/api/v1"
DRAW = f"{API}/draw/jobs"
EDIT = f"{API}/edit/jobs"
JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"


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


INTERPRETERS = re.compile(
    r"set_int_max_str|codec|Expecting|delimiter|Extra data|utf-8'|Input should|pydantic|\bNone\b"
)
BROKEN = {
    "digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "many digits": b'{"seed": -' + b"9" * 401 + b"}",
    "metadata": b'{"metadata": {"a": ' + b"9" * 5000 + b"}}",
    "utf-8": b'{"text": "\xff"}',
    "utf-16": b"\xff\xfe{\0",
    "key": b"{text: 1}",
    "comma": b'{"text": "a" "b"}',
    "rest": b'{"text": "a"} {}',
    "string": b'{"text": "a',
    "control": b'{"text": "a\n"}',
    "escape": b'{"text": "\\x"}',
    "empty": b"",
    "constant": b'{"text": NaN}',
    "surrogate": b'{"webhook_url": "\\ud800"}',
    "surrogates": b'{"metadata": {"\\ud800": 1}}',
    "types": b'{"webhook_url": 5, "webhook_events": {}, "priority": [], "quality": true}',
    "events": b'{"webhook_events": [5, null]}',
    "number": b'{"quality": 1e999}',
}


@pytest.mark.parametrize("name", BROKEN)
async def test_no_refusal_is_in_the_words_of_the_interpreter(ask, name):
    reply = await ask("POST", DRAW, data=BROKEN[name], headers=JSON)

    assert reply.status in (400, 422)
    assert not INTERPRETERS.search(reply.body.decode())


async def test_a_number_that_is_too_long_is_said_to_be(ask):
    reply = await ask("POST", DRAW, data=BROKEN["digits"], headers=JSON)

    assert "more than 400 digits" in reply.json["detail"]


async def test_where_json_is_broken_is_said(ask):
    reply = await ask("POST", DRAW, data=b'{\n"text": a}', headers=JSON)

    assert "line 2, column 9" in reply.json["detail"]


@pytest.mark.parametrize("control", ["\n", "\r\n", "\x1b[31m", "\x85", "\u202e", "\u2028"])
async def test_a_reference_with_control_characters_is_refused_at_once(ask, control):
    url = f"https://a.example/{control}x.png"

    reply = await ask("POST", f"{API}/edit/jobs", json={"image_url": url})

    assert (reply.status, reply.code) == (422, "invalid_parameters")
    assert reply.json["errors"][0]["message"].startswith("image_url must not have control")


@pytest.mark.parametrize(
    "text",
    [
        f"unified_api/{'ab' * 32}.png",
        f"unified_api/{'ab' * 40}",
        f"unified_api\\x\\{'AB' * 32}.png",
        f"/x/unified_api/./{'ab' * 32}.png",
        "unified_api/0b0e7c6e-0000-4000-8000-000000000000/1/9_00001_.png [output]",
    ],
)
async def test_no_text_names_a_file_of_a_job(ask, text):
    reply = await ask("POST", DRAW, json={"text": text})

    assert (reply.status, reply.code) == (422, "invalid_parameters")
    assert "belongs to a job" in reply.json["errors"][0]["message"]


async def test_a_text_about_us_is_a_text(ask):
    reply = await ask("POST", DRAW, json={"text": "unified_api/ is a folder, abcdef a number"})

    assert reply.status == 202
