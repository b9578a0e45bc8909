"""A process that can open no file: nothing is "not there" for that, and nothing is lost."""

import asyncio
import base64
import errno
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from unified_api.jobs.offer import Offer
from unified_api.routes.auth import Keyring
from unified_api.workflows import LIBRARY, Catalog

from tests.common.descriptors import no_descriptor_left

from ..fake_host import DRAW, QUICK_SECONDS
from .door import bearer, key

PREFIX = "/api/v1"
SUBMIT = f"{PREFIX}/draw/jobs"


@pytest.fixture
async def done(ask, ended):
    """A job that has ended."""
    return await ended(ask, await ask("POST", SUBMIT, json={}))


async def test_the_catalog_stays_as_it_was(engine, ask, definitions, bench):
    # The connection that is used further on.
    assert (await ask("GET", "/health")).status == 200
    shutil.copytree(definitions / "draw", definitions / "new")
    (definitions / "draw" / "workflow.json").write_text(json.dumps({**DRAW[0], "title": "Other"}))

    with no_descriptor_left():
        engine.offer.refresh()
        listed = (await ask("GET", f"{PREFIX}/workflows")).json["data"]
        replies = [await ask("POST", f"{PREFIX}/{slug}/jobs", json={}) for slug in ("draw", "new")]

    assert [(one["slug"], one["health"]) for one in listed] == [
        ("draw", "healthy"),
        ("edit", "healthy"),
    ]
    assert replies[0].status == 202
    assert (replies[1].status, replies[1].code) == (503, "not_ready")
    await bench.until(lambda: len(engine.offer.all()) == 3)
    assert (await ask("GET", f"{PREFIX}/workflows/draw")).json["title"] == "Other"


def test_a_definition_whose_folder_could_be_listed_stays_as_it_was(definitions, refuse):
    catalog = Catalog([definitions])
    (definitions / "draw" / "workflow.json").write_text(json.dumps({**DRAW[0], "title": "Other"}))

    with refuse("read_bytes", errno.EMFILE):
        catalog.refresh()

    assert (catalog.get("draw").title, catalog.is_uncertain("draw")) == ("Test", False)
    assert any("draw is used as it was" in problem for problem in catalog.problems)
    catalog.refresh()
    assert (catalog.get("draw").title, catalog.problems) == ("Other", ())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO])
def test_a_definition_that_was_never_read_is_not_unknown(definitions, refuse, number):
    with refuse("read_bytes", number):
        catalog = Catalog([definitions])

    assert catalog.is_uncertain("draw")
    assert "cannot be read" in catalog.broken["draw"]
    catalog.refresh()
    assert catalog.get("draw")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_cannot_be_looked_at_is_broken_and_not_missing(definitions, refuse, number):
    with refuse("stat", number):
        catalog = Catalog([definitions])

    assert set(catalog.broken) | set(catalog.workflows) == {"draw", "edit"}


@contextmanager
def refusing(method, number):
    def fail(path, **_):
        raise OSError(number, "refused", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, method, fail)
        yield


@pytest.fixture
def refuse():
    """Have a method of all paths fail in a block: refuse("stat", errno.EIO)."""
    return refusing


async def test_a_machine_that_was_never_looked_at_knows_no_workflow_to_be_missing():
    offer = Offer(Catalog([LIBRARY]))

    with pytest.raises(Exception, match="cannot be read now"):
        offer.find("image-resize")


async def test_a_waiting_job_outlives_a_definition_that_cannot_be_read(bench, refuse):
    bench.host.gate.clear()
    engine = await bench.open()
    job = (await engine.submit("draw", {})).job
    await bench.crash(engine)
    bench.host.gate.set()

    with refuse("read_bytes", errno.EIO):
        engine = await bench.open()
        await asyncio.sleep(4 * QUICK_SECONDS)
        assert not (await engine.get(job.job_id))[0].status.is_final

    assert (await bench.ended(engine, job)).status.value == "completed"


@pytest.mark.parametrize("path", ["outputs/0", "outputs/0/thumbnail"])
async def test_a_result_is_away_for_a_while_and_no_404(ask, done, path, caplog):
    output = f"{PREFIX}/jobs/{done['job_id']}/{path}"

    with no_descriptor_left():
        replies = [await ask("GET", output) for _ in range(3)]

    assert [(reply.status, reply.code) for reply in replies] == [(503, "storage_unavailable")] * 3
    assert "immutable" not in replies[0].headers.get("Cache-Control", "")
    assert (await ask("GET", output)).status == 200
    assert len([each for each in caplog.records if "file cannot be read" in each.message]) <= 1


@pytest.mark.parametrize("page", ["docs", "dashboard", "web/api.js"])
async def test_a_page_is_away_for_a_while_and_no_404(ask, page):
    assert (await ask("GET", f"{PREFIX}/{page}")).status == 200

    with no_descriptor_left():
        assert (await ask("GET", f"{PREFIX}/{page}")).status == 503


async def test_an_upload_is_refused_for_a_while_and_the_disk_is_not_full(ask, picture, caplog):
    encoded = base64.b64encode(picture("red")).decode()
    body = {"image_url": f"data:image/png;base64,{encoded}"}
    assert (await ask("GET", "/health")).status == 200

    with no_descriptor_left():
        replies = [await ask("POST", f"{PREFIX}/edit/jobs", json=body) for _ in range(3)]

    assert [(reply.status, reply.code) for reply in replies] == [(503, "storage_unavailable")] * 3
    assert len([each for each in caplog.records if "picture could not" in each.message]) == 1
    assert (await ask("POST", f"{PREFIX}/edit/jobs", json=body)).status == 202


async def test_jobs_are_taken_and_read_and_end_afterwards(ask, ended, done):
    with no_descriptor_left():
        made = await ask("POST", SUBMIT, json={})
        read = await ask("GET", f"{PREFIX}/jobs/{done['job_id']}")
        listed = await ask("GET", f"{PREFIX}/jobs")

    assert (made.status, read.status, len(listed.json["data"])) == (202, 200, 2)
    assert (await ended(ask, made))["status"] == "completed"


async def test_keys_that_cannot_be_read_are_not_unknown(serve, engine, tmp_path, caplog):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([key().model_dump(mode="json")]))
    ask = await serve(engine, keyring=Keyring(file=file))
    assert (await ask("GET", f"{PREFIX}/jobs", headers=bearer())).status == 200
    file.write_text(json.dumps([key().model_dump(mode="json"), key("b").model_dump(mode="json")]))

    with no_descriptor_left():
        replies = [await ask("GET", f"{PREFIX}/jobs", headers=bearer()) for _ in range(3)]

    assert [(reply.status, reply.code) for reply in replies] == [(503, "not_ready")] * 3
    assert len([each for each in caplog.records if "key file" in each.message]) <= 1
    assert (await ask("GET", f"{PREFIX}/jobs", headers=bearer("b"))).status == 200
    assert (await ask("GET", f"{PREFIX}/jobs")).status == 401
