"""The dashboard in a real Chromium, beside a real ComfyUI."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from browser import DARK_AND_LIGHT, OpenPage, blob_urls, can_show, record_blob_urls
from comfy_process import ComfyProcess
from conftest import StartComfy
from playwright.sync_api import Locator, Page, Route, expect

PATH = "/api/v1/dashboard"
KEY = "uak_of-the-reader"
#: As the browser reports them.
REFUSED, UNREACHABLE, REVOKED = "401", "ERR_FAILED", "ERR_FILE_NOT_FOUND"

Open = Callable[..., Page]


@pytest.fixture
def open_dashboard(open_page: OpenPage, newest: ComfyProcess) -> Open:
    def open_one(**how: object) -> Page:
        page = open_page(newest.url + PATH, **how)
        expect(page.get_by_role("heading", name="Recent")).to_be_visible()
        return page

    return open_one


@pytest.fixture
def tag(newest: ComfyProcess) -> Iterator[str]:
    """By which the rows of a test's own jobs are found. None of them outlives its test."""
    tag = f"tag-{uuid4().hex[:8]}"
    yield tag
    jobs = newest.get("/api/v1/jobs?limit=100").json()["data"]
    for job in jobs:
        if tag in job["parameters"].get("tag", ""):
            newest.post(job["urls"]["cancel"])


def row(page: Page, part: str, text: str) -> Locator:
    """The job with this text in a part of the page."""
    return page.locator(f"#{part} > li", has_text=text)


def in_small_pages(route: Route) -> None:
    route.continue_(url=route.request.url.replace("limit=25", "limit=3"))


def has_loaded(image: Locator) -> None:
    """An image that shows something."""
    expect(image).to_be_visible()
    expect(image).not_to_have_js_property("naturalWidth", 0)


def with_key(page: Page) -> Page:
    """A page that has a key, on a server that asks for none; its blob URLs are recorded."""
    page.add_init_script(f"sessionStorage.setItem('unified-api-key', '{KEY}')")
    record_blob_urls(page)
    return page


def answer_late(held: list[Route], page: Page) -> None:
    """Answer requests that the page may have aborted, and let it work on what comes."""
    for route in held:
        route.continue_()
    # Whatever it does with the answers, it has begun before this one.
    page.evaluate("fetch('health').then((reply) => reply.blob())")


def show(page: Page, *, is_hidden: bool) -> None:
    """As a tab is that another one covers, or not."""
    page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


# Jobs


def test_a_running_job_shows_its_progress_and_then_its_picture_without_a_reload(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    page = open_dashboard()
    page.evaluate("window.isSamePage = true")

    newest.submit("probe", {"tag": tag, "seconds": 15, "steps": 75})

    card = row(page, "running", tag)
    expect(
        card.get_by_text(re.compile(r"A picture made by a probe, step \d+ of 75"))
    ).to_be_visible()
    expect(card.get_by_role("progressbar", name="Progress of probe")).to_be_visible()
    expect(card.get_by_text(re.compile(r"^for \d+ s"))).to_be_visible()
    expect(page).to_have_title("(1) Dashboard")
    done = row(page, "recent", tag)
    expect(done.get_by_text("completed")).to_be_visible()
    has_loaded(done.locator("img"))
    expect(done.get_by_text(re.compile(r"^ran \d+(\.\d)? s$"))).to_be_visible()
    expect(card).to_have_count(0)
    expect(page.get_by_role("status")).to_contain_text("probe completed.")
    assert page.evaluate("window.isSamePage")


def test_a_waiting_job_has_a_position_and_is_cancelled_from_the_page(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    first = newest.submit("probe", {"tag": f"{tag}-runs", "seconds": 60, "steps": 600})
    job_id = newest.submit("probe", {"tag": f"{tag}-waits"})
    page = open_dashboard()
    waiting, running = row(page, "waiting", f"{tag}-waits"), row(page, "running", f"{tag}-runs")
    expect(waiting.get_by_label("Position 1")).to_be_visible()

    waiting.get_by_role("button", name=f"Cancel probe, job {job_id[:8]}").click()

    cancelled = row(page, "recent", f"{tag}-waits")
    expect(cancelled.get_by_text("cancelled")).to_be_visible()
    expect(cancelled.get_by_text(re.compile(r"s in all$"))).to_be_visible()
    assert newest.job(job_id)["status"] == "cancelled"
    running.get_by_role("button", name="Cancel").click()
    expect(row(page, "recent", f"{tag}-runs").get_by_text("cancelled")).to_be_visible()
    assert newest.finished(first)["status"] == "cancelled"


def test_a_failed_job_says_why(open_dashboard: Open, newest: ComfyProcess, tag: str) -> None:
    page = open_dashboard()

    newest.submit("probe", {"tag": tag, "ending": "fail"})

    failed = row(page, "recent", tag)
    sentence = "node 1 (ProbePicture) raised ValueError; ComfyUI's log has it."
    expect(failed).to_contain_text(sentence)
    expect(failed.get_by_text("execution_failed")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(f"probe failed. {sentence}")


def test_a_preview_is_shown_as_it_comes(
    open_dashboard: Open, newest: ComfyProcess, tag: str, png: bytes
) -> None:
    page = open_dashboard()
    asked: list[str] = []

    def tell(route: Route) -> None:
        asked.append(route.request.url)
        size = {"width": 256, "height": 256, "content_type": "image/png"}
        data = json.dumps({**size, "data": base64.b64encode(png).decode()})
        frame = f"retry: 2000\n\n: a comment\n\nevent: preview\ndata: {data}\n\n"
        route.fulfill(content_type="text/event-stream", body=frame)

    page.route("**/events?*", tell)
    job_id = newest.submit("probe", {"tag": tag, "seconds": 60, "steps": 600})

    has_loaded(row(page, "running", tag).locator("img"))
    assert asked == [f"{newest.url}/api/v1/jobs/{job_id}/events?previews=true"]


def test_older_jobs_are_found_by_filter_and_by_loading_more(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    newest.finished(newest.submit("probe", {"tag": f"{tag}-failed", "ending": "fail"}))
    newest.finished(newest.submit("probe", {"tag": f"{tag}-old"}))
    jobs = [newest.submit("probe", {"tag": f"{tag}-new"}) for _ in range(4)]
    newest.finished(jobs[-1])
    page = open_dashboard()
    page.route("**/jobs?*limit=25*", in_small_pages)

    status = page.get_by_role("combobox", name="Status")
    workflow = page.get_by_role("combobox", name="Workflow")
    workflow.select_option("probe")
    status.select_option("completed")
    expect(row(page, "recent", f"{tag}-new")).to_have_count(3)
    expect(row(page, "recent", f"{tag}-old")).to_have_count(0)
    page.get_by_role("button", name="Load more").click()
    expect(row(page, "recent", f"{tag}-old")).to_be_visible()
    expect(row(page, "recent", f"{tag}-new")).to_have_count(4)

    status.select_option("failed")
    expect(row(page, "recent", f"{tag}-failed")).to_be_visible()
    expect(row(page, "recent", f"{tag}-old")).to_have_count(0)
    workflow.select_option("image-resize")
    expect(row(page, "recent", f"{tag}-failed")).to_have_count(0)


def test_a_job_is_opened_and_closed_by_keyboard(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    job_id = newest.submit("probe", {"tag": tag, "seed": 7})
    page = open_dashboard()
    name = row(page, "recent", tag).get_by_role("button", name="probe", exact=True)

    name.press("Enter")

    dialog = page.get_by_role("dialog", name="probe")
    has_loaded(dialog.get_by_role("img", name="image"))
    expect(dialog).to_contain_text(job_id)
    expect(dialog).to_contain_text("64 × 64")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(name).to_be_focused()


def test_ages_follow_the_order_of_what_is_recent(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    job = newest.finished(newest.submit("probe", {"tag": tag}))
    now = datetime.now(timezone.utc)

    def ended(name: str, *, created: int, finished: int) -> dict[str, object]:
        moments = {"created_at": created, "finished_at": finished}
        shown = {key: (now - timedelta(hours=ago)).isoformat() for key, ago in moments.items()}
        named = {"job_id": name, "parameters": {"tag": f"{tag}-{name}"}}
        return {**job, **shown, **named, "outputs": []}

    jobs = [ended("quick", created=2, finished=2), ended("slow", created=5, finished=1)]
    page = open_dashboard()
    page.route(
        "**/jobs?*status=completed*",
        lambda route: route.fulfill(json={"data": jobs, "next_cursor": None, "has_more": False}),
    )
    # Among all that ended, the jobs of other tests could push these off the list.
    page.get_by_role("combobox", name="Status").select_option("completed")

    expect(row(page, "recent", f"{tag}-slow").locator(".age")).to_have_text("5 h ago")
    expect(row(page, "recent", f"{tag}-quick").locator(".age")).to_have_text("2 h ago")


def test_empty_pages_before_the_end_of_a_list_are_passed_over(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    job = newest.finished(newest.submit("probe", {"tag": tag}))
    pages = {
        None: {"data": [], "next_cursor": "8000000", "has_more": True},
        "8000000": {"data": [], "next_cursor": "7000000.failed.NiB0MQ", "has_more": True},
        "7000000.failed.NiB0MQ": {"data": [job], "next_cursor": None, "has_more": False},
    }

    def answer(route: Route) -> None:
        (after,) = parse_qs(urlsplit(route.request.url).query).get("after", [None])
        route.fulfill(json=pages[after])

    page = open_dashboard()
    page.route("**/jobs?*status=completed*", answer)
    page.get_by_role("combobox", name="Status").select_option("completed")

    expect(row(page, "recent", tag)).to_be_visible()
    with page.expect_request("**/jobs?*after=7000000*"):
        pass
    expect(row(page, "recent", tag)).to_be_visible()


def test_a_job_that_cannot_be_read_hides_no_other_and_is_not_followed(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    job = newest.finished(newest.submit("probe", {"tag": tag}))
    detail = {"code": "unreadable_record", "retryable": False, "node_id": None, "node_class": None}
    unreadable = {
        **job,
        "created_at": "9999-12-31T23:59:59.000Z",
        "outputs": [],
        "parameters": {},
        "error": f"This cannot be read ({tag}).",
        "error_detail": detail,
    }
    lists = {
        "completed": [job, {**unreadable, "job_id": f"{tag}-ended"}],
        "processing": [{**unreadable, "job_id": f"{tag}-begun", "status": "processing"}],
    }
    streams: list[str] = []

    def answer(route: Route) -> None:
        (status,) = parse_qs(urlsplit(route.request.url).query)["status"]
        has_more = status == "completed"
        cursor = "1" if has_more else None
        data = lists.get(status, [])
        route.fulfill(json={"data": data, "next_cursor": cursor, "has_more": has_more})

    page = open_dashboard()
    page.on("request", lambda request: streams.append(request.url) if tag in request.url else None)
    page.route("**/jobs?*status=*", answer)
    page.reload()

    expect(row(page, "recent", f"tag {tag}")).to_be_visible()
    expect(row(page, "recent", f"This cannot be read ({tag})")).to_have_count(2)
    expect(row(page, "recent", "unreadable_record")).to_have_count(2)
    with page.expect_request("**/jobs?*status=processing*"):
        pass
    expect(page.locator("#running > li")).to_have_count(0)
    assert [url for url in streams if "/events" in url] == []


def test_what_callers_wrote_is_shown_as_text(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    newest.submit("probe", {"tag": f"<img src=x onerror=alert(1)>{tag}"})
    page = open_dashboard()

    expect(row(page, "recent", f"<img src=x onerror=alert(1)>{tag}")).to_be_visible()


def test_few_streams_are_open_however_many_jobs_run(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    job = newest.finished(newest.submit("probe", {"tag": tag}))
    state = {"status": "processing", "stage": "running", "outputs": []}
    running = [{**job, **state, "job_id": f"{tag}-{number}"} for number in range(5)]
    page = open_dashboard()
    streams: list[Route] = []

    def hold(route: Route) -> None:
        streams.append(route)

    page.route("**/events?*", hold)
    page.route(
        "**/jobs?status=processing*",
        lambda route: route.fulfill(json={"data": running, "next_cursor": None, "has_more": False}),
    )
    page.route(f"**/jobs/{tag}-*", lambda route: route.fulfill(json=running[0]))

    expect(row(page, "running", tag)).to_have_count(5)
    with page.expect_request("**/jobs?status=processing*"):
        pass

    assert len(streams) == 2


# The service


def test_the_health_of_parts_and_workflows_is_shown(open_dashboard: Open) -> None:
    page = open_dashboard()
    health = page.get_by_role("complementary", name="Health")

    store = health.get_by_role("listitem").filter(has_text="store").first
    expect(store).to_contain_text("healthy")
    unhealthy = page.locator("#workflows > li", has_text="Edit an image with words")
    expect(unhealthy).to_contain_text("unhealthy")
    expect(unhealthy).to_contain_text("Qwen-Rapid-AIO-NSFW-v11.safetensors is missing")
    camera = page.locator("#workflows > li", has_text="Change the camera angle")
    camera.get_by_text("5 reasons").click()
    expect(camera.get_by_text("qwen_image_vae.safetensors is missing")).to_be_visible()
    expect(page.get_by_role("banner").get_by_text("degraded")).to_be_visible()


def test_a_server_that_is_away_is_named_and_found_again(open_dashboard: Open) -> None:
    page = open_dashboard(expected=(UNREACHABLE,))
    trouble = page.get_by_role("alert").filter(has_text="The server does not answer")

    page.route("**/api/v1/jobs*", lambda route: route.abort())
    expect(trouble).to_be_visible()
    page.unroute_all()

    expect(trouble).to_be_hidden()


def test_a_page_that_nobody_sees_asks_nothing(open_dashboard: Open) -> None:
    page = open_dashboard()
    page.clock.install()
    with page.expect_request("**/jobs?status=cancelled*"):
        pass
    show(page, is_hidden=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.clock.run_for(60_000)

    assert asked == []
    with page.expect_request("**/jobs?*"):
        show(page, is_hidden=False)


def test_a_key_is_asked_for_and_kept_by_this_tab_alone(
    start_comfy: StartComfy, open_page: OpenPage, tag: str
) -> None:
    digest = sha256(KEY.encode()).hexdigest()
    comfy = start_comfy(UNIFIED_API_KEYS=f"reader:read+submit:{digest}")
    bearer = {"Authorization": f"Bearer {KEY}"}
    reply = comfy.post("/api/v1/probe/jobs", json={"tag": tag}, headers=bearer)
    assert reply.status_code == 202
    page = open_page(comfy.url + PATH, expected=(REFUSED, "403"))
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(page.get_by_role("heading", name="Recent")).to_be_hidden()

    field.fill("wrong")
    field.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="This key does not open")).to_be_visible()
    field.fill(KEY)
    field.press("Enter")

    has_loaded(row(page, "recent", tag).locator("img"))
    expect(field).to_be_hidden()
    assert page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
    page.reload()
    expect(row(page, "recent", tag)).to_be_visible()

    # It may not cancel, which is said where it was tried.
    body = {"tag": f"{tag}-runs", "seconds": 60, "steps": 600}
    comfy.post("/api/v1/probe/jobs", json=body, headers=bearer)
    row(page, "running", tag).get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert").filter(has_text="does not have the scope")).to_be_visible()

    page.get_by_role("button", name="Forget the key").click()
    expect(field).to_be_visible()
    expect(page.locator("body")).not_to_contain_text(tag)


def test_who_reads_all_sees_everybodys_jobs_until_the_key_is_revoked(
    start_comfy: StartComfy, open_page: OpenPage, tmp_path: Path, tag: str
) -> None:
    comfy = start_comfy(base=tmp_path)
    file = comfy.user_folder / "keys.json"
    ann, eye = (
        {"name": name, "scopes": [scope], "sha256": sha256(secret.encode()).hexdigest()}
        for name, scope, secret in (("ann", "submit", "uak_ann"), ("eye", "read-all", KEY))
    )
    file.write_text(json.dumps([ann, eye]))
    body = {"tag": tag, "seconds": 60, "steps": 600}
    bearer = {"Authorization": "Bearer uak_ann"}
    assert comfy.post("/api/v1/probe/jobs", json=body, headers=bearer).status_code == 202
    page = open_page(comfy.url + PATH, expected=(REFUSED, "403"))
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("API key").press("Enter")
    running = row(page, "running", tag)
    expect(running.get_by_role("progressbar")).to_be_visible()

    running.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert").filter(has_text="does not have the scope")).to_be_visible()
    expect(running).to_be_visible()

    file.write_text(json.dumps([ann]))
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.locator("body")).not_to_contain_text(tag)


# Images, which only the key has shown


def test_the_images_of_a_job_go_with_its_window_and_its_row(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    newest.finished(newest.submit("probe", {"tag": tag}))
    page = open_dashboard(expected=(REVOKED,))
    record_blob_urls(page)
    done = row(page, "recent", tag)
    thumbnail = done.locator("img")
    has_loaded(thumbnail)
    small = str(thumbnail.get_attribute("src"))

    done.get_by_role("button", name="probe", exact=True).click()
    image = page.get_by_role("dialog").get_by_role("img", name="image")
    expect(image).to_have_attribute("src", re.compile("^blob:"))
    expect(image).not_to_have_attribute("src", small)
    whole = str(image.get_attribute("src"))
    assert {small, whole} <= set(blob_urls(page))
    page.keyboard.press("Escape")

    expect(image).to_have_count(0)
    assert not can_show(page, whole)
    assert can_show(page, small)
    page.get_by_role("combobox", name="Status").select_option("failed")
    expect(done).to_have_count(0)
    assert not can_show(page, small)
    page.get_by_role("combobox", name="Status").select_option("completed")
    has_loaded(thumbnail)


def test_forgetting_the_key_takes_its_images_away(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    newest.finished(newest.submit("probe", {"tag": tag}))
    page = with_key(open_dashboard(expected=(REVOKED,)))
    thumbnail = row(page, "recent", tag).locator("img")
    has_loaded(thumbnail)
    url = str(thumbnail.get_attribute("src"))

    page.get_by_role("button", name="Forget the key").click()

    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.locator("#inside img, dialog img")).to_have_count(0)
    assert blob_urls(page) == []
    assert not can_show(page, url)
    assert page.evaluate("sessionStorage.getItem('unified-api-key')") == ""


def test_a_key_that_is_refused_takes_the_open_window_with_it(
    open_dashboard: Open, newest: ComfyProcess, tag: str
) -> None:
    newest.finished(newest.submit("probe", {"tag": tag}))
    page = with_key(open_dashboard(expected=(REFUSED, REVOKED)))
    row(page, "recent", tag).get_by_role("button", name="probe", exact=True).click()
    dialog = page.get_by_role("dialog")
    has_loaded(dialog.get_by_role("img", name="image"))
    urls = blob_urls(page)
    assert urls

    page.route("**/api/v1/jobs?*", lambda route: route.fulfill(status=401, json={"detail": "No."}))

    expect(dialog).to_be_hidden()
    expect(page.get_by_role("alert").filter(has_text="This key does not open")).to_be_visible()
    expect(page.locator("#inside img, dialog *")).to_have_count(0)
    assert blob_urls(page) == []
    assert not any(can_show(page, url) for url in urls)


@pytest.mark.parametrize("asked", ["**/thumbnail", "**/jobs?*status=cancelled*"])
def test_what_comes_after_the_key_is_forgotten_is_not_shown(
    open_dashboard: Open, newest: ComfyProcess, tag: str, asked: str
) -> None:
    newest.finished(newest.submit("probe", {"tag": tag}))
    page = with_key(open_dashboard())
    expect(row(page, "recent", tag)).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(asked, hold)
    with page.expect_request(asked):
        page.reload()
    page.locator("#forget").dispatch_event("click")

    answer_late(held, page)

    assert held
    assert blob_urls(page) == []
    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.locator("#recent > li")).to_have_count(0)


# How it looks


@pytest.mark.parametrize("dark", DARK_AND_LIGHT)
@pytest.mark.parametrize(
    "width", [320, *(pytest.param(width, marks=pytest.mark.full) for width in (360, 768, 1920))]
)
def test_nothing_is_wider_than_the_page(
    open_dashboard: Open, newest: ComfyProcess, tag: str, width: int, dark: bool
) -> None:
    newest.submit("probe", {"tag": tag * 30, "ending": "fail"})
    page = open_dashboard(width=width, dark=dark)
    opener = row(page, "recent", tag).get_by_role("button", name="probe", exact=True)
    expect(opener).to_be_visible()

    opener.click()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    background = "rgb(15, 18, 23)" if dark else "rgb(246, 247, 249)"
    expect(page.locator("body")).to_have_css("background-color", background)
