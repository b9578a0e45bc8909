"""The docs page in a real Chromium, on a real ComfyUI."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from browser import DARK_AND_LIGHT, OpenPage, blob_urls, record_blob_urls
from comfy_process import ComfyProcess, wait_until
from conftest import StartComfy
from playwright.sync_api import Locator, Page, Route, expect

DOCS = "/api/v1/docs"
SECRET = "uak_of-the-docs-page"
SUBMITTER = "uak_of-one-who-may-not-read"
KEYS = ", ".join(
    f"{scopes[0]}:{'+'.join(scopes)}:{sha256(secret.encode()).hexdigest()}"
    for secret, scopes in ((SECRET, ("submit", "read", "cancel")), (SUBMITTER, ("submit",)))
)
MARKUP = '<img src="nowhere" onerror="document.title = 1"><b>bold</b>'


@pytest.fixture
def docs(open_page: OpenPage, newest: ComfyProcess):
    """Open the page, at a card if it is named."""

    def open_one(card: str = "", **how) -> Page:
        page = open_page(f"{newest.url}{DOCS}#{card}", **how)
        expect(page.locator("#state")).to_be_hidden()
        return page

    return open_one


def card_of(page: Page, name: str) -> Locator:
    return page.locator(f"details[id='{name}']")


def fill_in(card: Locator, **fields: object) -> None:
    card.get_by_label("Body, as JSON").fill(json.dumps(fields))


def send(card: Locator) -> None:
    card.get_by_role("button", name="Send").click()


def natural_width(card: Locator) -> int:
    picture = card.get_by_alt_text("The result")
    expect(picture).to_be_visible(timeout=30_000)
    return int(picture.evaluate("async picture => (await picture.decode(), picture.naturalWidth)"))


def test_every_workflow_is_listed_and_every_other_request(docs, newest: ComfyProcess) -> None:
    document = newest.get("/api/v1/openapi.json").json()

    page = docs()

    operations = [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    ]
    shown = page.evaluate(
        """[...document.querySelectorAll("details.operation > summary")].map(summary =>
            summary.querySelector(".method").textContent + " " +
            summary.querySelector(".path").textContent)"""
    )
    assert sorted(shown) == sorted(operations)
    first = page.locator("#operations > .group").first
    workflows = [path for path in document["paths"] if re.fullmatch(r"/api/v1/[^/{]+/jobs", path)]
    assert "/api/v1/image-resize/jobs" in workflows
    assert first.locator(".path").all_text_contents() == workflows


def test_a_workflow_tells_its_fields_and_what_is_missing(docs) -> None:
    page = docs("image-resize")

    width = card_of(page, "image-resize").locator(".fields > div", has_text="width").first
    expect(width).to_contain_text("integer")
    expect(width).to_contain_text("default 512")
    expect(width).to_contain_text("1 to 8192")
    crop = card_of(page, "image-resize").locator(".fields > div", has_text="crop").first
    expect(crop.locator(".choice")).to_have_text(["disabled", "center"])
    expect(card_of(page, "image-resize").locator(".note.bad").first).to_be_hidden()

    card_of(page, "camera-angle").locator("summary").first.click()
    expect(card_of(page, "camera-angle").locator("summary").first).to_contain_text("unavailable")
    expect(card_of(page, "camera-angle")).to_contain_text("qwen_image_vae.safetensors is missing")


def test_searching_leaves_what_has_all_the_words(docs) -> None:
    page = docs()
    search = page.get_by_role("searchbox")

    search.fill("RESIZE upscale_method")
    assert "image-resize" in visible_cards(page)
    assert not {"camera-angle", "list_jobs"} & set(visible_cards(page))

    search.fill("no such thing")
    assert visible_cards(page) == []
    expect(page.locator("#found")).to_contain_text("none of")
    search.fill("")
    assert {"camera-angle", "list_jobs"} <= set(visible_cards(page))


def visible_cards(page: Page) -> list[str]:
    script = """[...document.querySelectorAll("details.operation")]
        .filter(card => !card.hidden).map(card => card.id)"""
    return list(page.evaluate(script))


def test_examples_carry_the_callers_origin_and_what_was_filled_in(
    docs, newest: ComfyProcess
) -> None:
    card = card_of(docs("image-resize"), "image-resize")
    fill_in(card, image_url="https://example.com/a.png", width=77)

    for language in ("curl", "Python", "JavaScript"):
        card.get_by_role("tab", name=language).click()
        program = card.get_by_role("tabpanel")
        expect(program).to_contain_text(newest.url)
        expect(program).to_contain_text("/api/v1/image-resize/jobs")
        expect(program).to_contain_text('"width": 77')
        expect(program).not_to_contain_text("Authorization")
        # Its name changes when the text is there, and back a while later.
        copy = card.locator("button", has_text=re.compile("^Cop(y|ied)$"))
        copy.click()
        expect(copy).to_have_text("Copied")
        copied = card.page.evaluate("navigator.clipboard.readText()")
        assert copied == program.text_content()


def test_the_python_example_runs(docs, newest: ComfyProcess, capsys) -> None:
    card = card_of(docs("probe"), "probe")
    fill_in(card, tag="from-the-docs")
    card.get_by_role("tab", name="Python").click()
    program = card.get_by_role("tabpanel").text_content()

    exec(compile(str(program), "example", "exec"), {})

    assert capsys.readouterr().out.startswith(newest.url)
    assert newest.runs("from-the-docs")


def test_trying_a_workflow_ends_with_its_picture(docs) -> None:
    card = card_of(docs("image-resize"), "image-resize")
    card.get_by_role("button", name="Use a sample").click()
    expect(card.locator(".try")).to_contain_text("sample.png is sent as image_url")
    fill_in(card, width=333, height=200)

    send(card)

    assert natural_width(card) == 333
    expect(card.locator(".answered")).to_contain_text("202 Accepted")
    expect(card.locator(".job")).to_contain_text("completed")
    expect(card.locator(".answered pre")).to_contain_text('"status": "completed"')
    expect(card.get_by_role("progressbar")).to_have_attribute("value", "100")


def test_the_first_request_works_without_a_picture_at_hand(docs) -> None:
    card = card_of(docs("image-resize"), "image-resize")
    expect(card.get_by_label("Body, as JSON")).to_have_value(re.compile("example.com"))

    send(card)

    assert natural_width(card) == 512
    expect(card.locator(".job")).to_contain_text("completed")
    expect(card.locator(".job")).to_contain_text(re.compile(r"image/\w+, \d[\d.]* kB"))


def test_a_sample_stands_in_for_the_url_of_an_example_only(docs) -> None:
    card = card_of(docs("image-resize"), "image-resize")
    expect(card.locator(".try")).to_contain_text("sample.png is sent as image_url")

    fill_in(card, width=333)
    expect(card.locator(".try")).to_contain_text("sample.png is sent as image_url")
    fill_in(card, image_url="https://pictures.invalid/a.png")
    expect(card.locator(".try")).to_contain_text("Or name a URL as image_url")

    card.get_by_role("button", name="Use a sample").click()
    fill_in(card, image_url="https://pictures.invalid/b.png")
    expect(card.locator(".try")).to_contain_text("sample.png is sent as image_url")


def test_a_job_shows_its_progress_and_can_be_cancelled(docs) -> None:
    card = card_of(docs("probe"), "probe")
    fill_in(card, seconds=60, steps=20)

    send(card)
    expect(card.locator(".job .detail")).to_contain_text("of 20", timeout=30_000)
    card.get_by_role("button", name="Cancel", exact=True).click()

    expect(card.locator(".job .badge")).to_have_text("cancelled", timeout=15_000)
    expect(card.locator(".answered pre")).to_contain_text('"status": "cancelled"')


def test_what_is_refused_says_why(docs) -> None:
    page = docs("image-resize", expected=("422",))
    card = card_of(page, "image-resize")

    card.get_by_label("Body, as JSON").fill("{")
    send(card)
    expect(card.get_by_role("alert")).to_contain_text("no JSON")
    expect(card.get_by_label("Body, as JSON")).to_be_focused()

    fill_in(card, image_url="https://example.com/a.png", colour="red")
    send(card)
    expect(card.locator(".answered")).to_contain_text("422")
    expect(card.locator(".answered pre")).to_contain_text("colour")
    expect(card.get_by_role("alert")).to_be_hidden()


def test_where_keys_are_needed_it_asks_for_one_and_keeps_it_in_the_tab(
    start_comfy: StartComfy, open_page: OpenPage
) -> None:
    comfy = start_comfy(UNIFIED_API_KEYS=KEYS)
    page = open_page(f"{comfy.url}{DOCS}#image-resize", expected=("401", "403"))
    card, key = card_of(page, "image-resize"), page.get_by_label("API key")
    expect(key).to_be_focused()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_role("searchbox")).to_be_hidden()

    key.fill("wrong")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("This key does not open")
    key.fill(SUBMITTER)
    key.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not have the scope")
    key.fill(SECRET)
    key.press("Enter")
    expect(card.get_by_role("tabpanel")).to_contain_text("Bearer $UNIFIED_API_KEY")
    expect(page.locator("#trouble")).to_be_hidden()
    expect(key).to_be_hidden()

    card.get_by_role("button", name="Use a sample").click()
    send(card)
    assert natural_width(card) == 512
    assert SECRET not in str(card.text_content())
    page.reload()
    expect(card.get_by_role("tabpanel")).to_be_visible()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    page.get_by_role("link", name="Dashboard").click()
    expect(page.get_by_role("heading", name="Recent")).to_be_visible()


@pytest.mark.parametrize("name", ["docs", "dashboard"])
def test_the_document_is_saved_with_the_key(
    start_comfy: StartComfy, open_page: OpenPage, name: str
) -> None:
    comfy = start_comfy(UNIFIED_API_KEYS=KEYS)
    page = open_page(f"{comfy.url}/api/v1/{name}", expected=("401",))
    page.get_by_label("API key").fill(SECRET)
    page.get_by_label("API key").press("Enter")
    expect(page.get_by_role("button", name="Forget the key")).to_be_visible()

    with page.expect_download() as saving:
        page.get_by_role("link", name="OpenAPI").click()

    assert saving.value.suggested_filename == "openapi.json"
    headers = {"Authorization": f"Bearer {SECRET}"}
    document = comfy.get("/api/v1/openapi.json", headers=headers)
    assert saving.value.path().read_bytes() == document.content


def test_without_keys_the_link_leads_to_the_document(docs, newest: ComfyProcess) -> None:
    # A browser looks for an icon of what is no page.
    page = docs(expected=("404",))
    expect(page.get_by_role("button", name="Forget the key")).to_be_hidden()

    page.get_by_role("link", name="OpenAPI").click()

    page.wait_for_url(f"{newest.url}/api/v1/openapi.json")
    expect(page.locator("body")).to_contain_text('"openapi": "3.1.0"')


def test_the_picture_of_an_answer_goes_with_the_next_request(docs) -> None:
    page = docs("image-resize")
    record_blob_urls(page)
    card = card_of(page, "image-resize")
    send(card)
    natural_width(card)
    expect(card.get_by_role("link", name="Open")).to_be_visible()
    first = blob_urls(page)
    assert len(first) == 1

    send(card)
    expect(card.get_by_role("link", name="Open")).to_have_count(0)
    expect(card.get_by_role("link", name="Open")).to_be_visible()

    assert len(blob_urls(page)) == 1
    assert blob_urls(page) != first


def test_the_picture_of_an_answer_goes_with_the_key(
    start_comfy: StartComfy, open_page: OpenPage
) -> None:
    comfy = start_comfy(UNIFIED_API_KEYS=KEYS)
    page = open_page(f"{comfy.url}{DOCS}#image-resize", expected=("401",))
    record_blob_urls(page)
    card, key = card_of(page, "image-resize"), page.get_by_label("API key")
    key.fill(SECRET)
    key.press("Enter")
    send(card)
    natural_width(card)
    assert len(blob_urls(page)) == 1

    page.get_by_role("button", name="Forget the key").click()

    expect(key).to_be_focused()
    expect(card).to_have_count(0)
    expect(page.get_by_role("alert")).to_be_hidden()
    assert blob_urls(page) == []
    assert page.evaluate("sessionStorage.getItem('unified-api-key')") == ""


def test_it_works_below_a_prefix_of_a_proxy(docs, newest: ComfyProcess) -> None:
    page = docs()

    def pass_on(route: Route) -> None:
        inside = route.request.url.replace("/behind/a/proxy/", "/")
        route.fulfill(response=route.fetch(url=inside))

    page.route("**/behind/a/proxy/**", pass_on)
    page.goto(f"{newest.url}/behind/a/proxy{DOCS}#image-resize")
    card = card_of(page, "image-resize")
    expect(card.get_by_role("tabpanel")).to_contain_text(
        f"{newest.url}/behind/a/proxy/api/v1/image-resize/jobs"
    )
    card.get_by_role("button", name="Use a sample").click()
    send(card)

    assert natural_width(card) == 512


@pytest.mark.parametrize("dark", DARK_AND_LIGHT)
def test_a_narrow_phone_needs_no_scrolling_to_the_side(docs, tmp_path: Path, dark: bool) -> None:
    page = docs("image-resize", width=360, height=740, dark=dark)
    card = card_of(page, "image-resize")
    for summary in card.locator("details > summary").all():
        summary.evaluate("summary => summary.parentElement.open = true")
    card.get_by_role("button", name="Use a sample").click()
    send(card)
    natural_width(card)
    page.screenshot(path=tmp_path / "phone.png", full_page=True)

    assert page.evaluate("document.documentElement.scrollWidth") == 360
    title = page.get_by_role("heading", name="ComfyUI Unified API Service")
    assert title.evaluate("title => title.scrollWidth <= title.clientWidth")


def test_light_and_dark_differ_and_both_can_be_read(docs, tmp_path: Path) -> None:
    backgrounds = []
    for dark in (False, True):
        page = docs("image-resize", dark=dark)
        page.screenshot(path=tmp_path / f"{'dark' if dark else 'light'}.png")
        expect(page.get_by_text("This server asks for no key.")).to_be_visible()
        for place in ("h1", ".lead", "#open", ".operation .path", ".fields dd", ".tab", ".badge"):
            assert contrast(page, place) >= 4.5, place
        for token in (".token-text", ".method.get", ".method.delete", ".badge.warn", "button.main"):
            assert contrast(page, token) >= 4.5, token
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert luminance(backgrounds[0]) > 0.8
    assert luminance(backgrounds[1]) < 0.05


def contrast(page: Page, place: str) -> float:
    """Between the text of an element and what is behind it, as WCAG counts it."""
    colours = page.locator(place).first.evaluate(
        """element => {
            let behind = element;
            const paint = () => getComputedStyle(behind).backgroundColor;
            while (paint() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
            return [getComputedStyle(element).color, paint()];
        }"""
    )
    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_all_of_it_is_reached_by_the_keyboard(docs) -> None:
    page = docs()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("image-resize")
    page.keyboard.press("Tab")
    expect(card_of(page, "image-resize").locator("summary").first).to_be_focused()

    page.keyboard.press("Enter")
    card = card_of(page, "image-resize")
    card.get_by_role("tab", name="curl").focus()
    page.keyboard.press("ArrowRight")
    expect(card.get_by_role("tab", name="Python")).to_be_focused()
    expect(card.get_by_role("tabpanel")).to_contain_text("import requests")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea")]
            .filter(field => !field.labels?.length).map(field => field.outerHTML)"""
    )
    assert unnamed == []


def test_nothing_jumps_while_it_loads(docs) -> None:
    page = docs("image-resize")
    expect(page.get_by_text("unavailable").first).to_be_visible()

    shift = page.evaluate(
        """new Promise(done => new PerformanceObserver(list =>
            done(list.getEntries().reduce((sum, each) => sum + each.value, 0))
        ).observe({type: "layout-shift", buffered: true}) || setTimeout(done, 500, 0))"""
    )

    assert shift < 0.05


def test_markup_in_a_definition_is_shown_as_text(docs, newest: ComfyProcess) -> None:
    folder = newest.user_folder / "workflows" / "probe"
    definition = json.loads((folder / "workflow.json").read_text())
    texts = {"title": MARKUP, "description": MARKUP}
    files = {
        "graph.json": (folder / "graph.json").read_text(),
        "workflow.json": json.dumps({**definition, **texts}),
    }
    newest.define("markup", files)
    try:
        wait_until(lambda: "markup" in newest.get("/api/v1").json()["workflows"])
        page = docs("markup")
        expect(card_of(page, "markup").get_by_role("heading", level=3)).to_have_text(MARKUP)
        expect(card_of(page, "markup").locator(".told > p").first).to_have_text(MARKUP)
        assert page.locator("#operations b, #operations img").count() == 0
    finally:
        shutil.rmtree(folder.parent / "markup")
