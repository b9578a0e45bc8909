"""Definitions on disk: what is accepted, what is refused in which words, and what a change does."""

import copy
import json
import os
import re
import shutil

import pytest
from unified_api.workflows import Catalog

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "3": {"class_type": "Loader", "inputs": {"file": "base.safetensors", "strength": 1}},
    "4": {
        "class_type": "Edit",
        "inputs": {"image1": ["1", 0], "image2": ["2", 0], "model": ["3", 0], "text": "", "n": 1},
    },
    "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
}
CONTENT = {
    "title": "Edit",
    "description": "Edits a picture.",
    "parameters": {
        "type": "object",
        "additionalProperties": False,
        "required": ["image_url"],
        "properties": {
            "image_url": {"type": "string"},
            "image2_url": {"type": "string"},
            "text": {"type": "string", "maxLength": 20},
            "turn": {"type": "integer", "minimum": -1, "maximum": 1, "default": 0},
            "n": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1, "examples": [2]},
        },
    },
    "bindings": {
        "image_url": [{"node": "1", "class_type": "LoadImage", "input": "image"}],
        "image2_url": [{"node": "2", "class_type": "LoadImage", "input": "image"}],
        "text": [{"node": "4", "class_type": "Edit", "input": "text"}],
        "n": [{"node": "4", "class_type": "Edit", "input": "n"}],
    },
    "images": {"image_url": {}, "image2_url": {"disconnect": ["2"]}},
    "phrases": {
        "into": "text",
        "parts": [{"parameter": "turn", "says": {"-1": "left", "1": "right"}}],
        "otherwise": "as it is",
    },
    "outputs": {"image": {"node": "5", "class_type": "SaveImage"}},
    "models": {
        "base": {"node": "3", "class_type": "Loader", "input": "file", "folder": "checkpoints"}
    },
}


def changed(document, path, value):
    """A copy in which one member, found by "a/b/0", has another value; None removes it."""
    document = copy.deepcopy(document)
    *parents, last = path.split("/")
    place = document
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if value is None:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return document


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "workflows"


@pytest.fixture
def define(folder):
    def write(slug="edit", content=CONTENT, graph=GRAPH, below=folder):
        place = below / slug
        place.mkdir(parents=True, exist_ok=True)
        (place / "workflow.json").write_bytes(encoded(content))
        (place / "graph.json").write_bytes(encoded(graph))
        return place

    return write


def encoded(content):
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def touch_later(file):
    """As if the file was written a second after it was."""
    later = file.stat().st_mtime_ns + 10**9
    os.utime(file, ns=(later, later))


def nested(levels):
    """A list in a list, and so on."""
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [65, 200, 900])
def test_a_graph_that_is_nested_too_deeply_harms_no_other_workflow(define, folder, levels):
    define("good")
    define("deep", graph=changed(GRAPH, "4/inputs/n", nested(levels)))

    catalog = Catalog([folder])

    assert catalog.broken == {"deep": "graph.json is not valid JSON: it is nested too deeply."}
    assert catalog.get("good")


def test_a_graph_may_be_nested_as_graphs_are(define, folder):
    define(graph=changed(GRAPH, "4/inputs/strokes", nested(40)))

    assert Catalog([folder]).get("edit")


def test_a_good_definition_becomes_a_workflow(define, folder):
    define()

    workflow = Catalog([folder]).get("edit")

    assert (workflow.slug, workflow.title, workflow.extension) == ("edit", "Edit", "png")
    assert workflow.graph == GRAPH
    assert workflow.outputs == {"image": "5"}
    assert workflow.images == {"image_url": (), "image2_url": ("2",)}
    assert workflow.models["base"].folder == "checkpoints"
    assert workflow.warmup is None
    assert workflow.complete({"image_url": "a", "turn": 1}, seed=0)["text"] == "right"


def test_a_required_picture_never_takes_nodes_away(define, folder):
    define(content=changed(CONTENT, "images/image_url/disconnect", ["1"]))

    assert Catalog([folder]).get("edit").images["image_url"] == ()


def test_a_byte_order_mark_does_no_harm(define, folder):
    define(content=b"\xef\xbb\xbf" + encoded(CONTENT))

    assert Catalog([folder]).get("edit")


BROKEN_CONTENT = [
    ("title", None, ["title"]),
    ("titel", "x", ["titel"]),
    ("outputs", {}, ["outputs"]),
    ("extension", ".png", ["extension", ".png"]),
    ("parameters/additionalProperties", True, ["additionalProperties"]),
    ("parameters/properties/n/type", "array", ["properties/n/type", "array"]),
    ("parameters/properties/n/type", None, ["properties/n", "type"]),
    ("parameters/properties/n/minimum", "one", ["properties/n/minimum", "one"]),
    ("parameters/properties/n/maximun", 9, ["properties/n", "maximun"]),
    ("parameters/properties/n/default", 10, ["default", "parameter n", "at most 9"]),
    ("parameters/properties/n/default", "1", ["default", "parameter n", "whole number"]),
    ("parameters/properties/n/default", [1], ["properties/n/default"]),
    ("parameters/properties/n/examples", [2, 0], ["example", "parameter n", "at least 1"]),
    ("parameters/properties/n/minimum", 10, ["parameter n", "minimum above its maximum"]),
    ("parameters/properties/text/pattern", "(", ["properties/text/pattern", "regex"]),
    ("parameters/properties/unbound", {"type": "string"}, ["parameter unbound", "no binding"]),
    ("parameters/required", ["image_url", "ghost"], ["parameter ghost", "required"]),
    ("bindings/ghost", [{"node": "4", "class_type": "Edit", "input": "n"}], ["parameter ghost"]),
    ("bindings/n", [], ["bindings/n"]),
    ("bindings/n/0/node", "99", ["parameter n", "node 99"]),
    ("bindings/n/0/class_type", "Other", ["parameter n", "node 4", "Edit", "Other"]),
    ("bindings/n/0/input", "absent", ["parameter n", "absent", "node 4"]),
    ("bindings/n/0/input", "model", ["parameter n", "model", "fed by node 3"]),
    ("bindings/n/0/input", "text", ["input text", "node 4", "2 times"]),
    (
        "bindings/n/0",
        {"node": "5", "class_type": "SaveImage", "input": "filename_prefix"},
        ["parameter n", "filename_prefix", "node 5"],
    ),
    ("images/image2_url", {}, ["image2_url", "disconnect", "node 2"]),
    ("images/image2_url/disconnect", ["4"], ["image2_url", "disconnect", "node 2"]),
    ("images/image2_url/disconnect", ["2", "99"], ["image2_url", "node 99"]),
    ("images/image2_url/disconnect", ["2", "5"], ["image2_url", "node 5", "output"]),
    ("images/ghost", {}, ["ghost", "not a bound text parameter"]),
    ("images/n", {"disconnect": ["4"]}, ["n is not a bound text parameter"]),
    ("outputs/image/node", "99", ["output image", "node 99"]),
    ("outputs/image/class_type", "Other", ["output image", "node 5", "Other"]),
    ("models/base/node", "99", ["model base", "node 99"]),
    ("models/base/class_type", "Other", ["model base", "node 3", "Other"]),
    ("models/base/input", "absent", ["model base", "absent", "node 3"]),
    ("models/base/input", "strength", ["model base", "strength", "no file name"]),
    ("phrases/into", "ghost", ["phrases", "ghost"]),
    ("phrases/into", "n", ["phrases", "n is not a text parameter"]),
    ("phrases/parts/0/parameter", "ghost", ["phrases", "ghost"]),
    ("phrases/parts/0/says/2", "far right", ["phrase", "parameter turn", "at most 1"]),
    ("phrases/parts/0/says/one", "right", ["phrase", "parameter turn", "whole number"]),
    ("phrases/parts/0/says/1", "x" * 21, ["longest text", "parameter text", "at most 20"]),
    ("phrases/otherwise", "x" * 21, ["no phrase", "parameter text", "at most 20"]),
    ("warmup", {"n": 10}, ["warm-up", "parameter n", "at most 9"]),
    ("warmup", {"ghost": 10}, ["warm-up", "ghost"]),
]


@pytest.mark.parametrize(("path", "value", "words"), BROKEN_CONTENT)
def test_a_broken_definition_says_where_it_is_broken(define, folder, path, value, words):
    define(content=changed(CONTENT, path, value))

    catalog = Catalog([folder])

    assert catalog.get("edit") is None
    assert [word for word in ["workflow.json", *words] if word not in catalog.broken["edit"]] == []


BROKEN_GRAPHS = [
    ({"nodes": [], "links": [], "version": 0.4}, ["editor's own format", "Export (API)"]),
    ({}, ["Export (API)"]),
    ([], ["Export (API)"]),
    ({**GRAPH, "6": {"inputs": {}}}, ["node 6", "class_type"]),
    ({**GRAPH, "6": "x"}, ["node 6", "class_type"]),
    ({**GRAPH, "6": {"class_type": "X", "inputs": {"a": ["77", 0]}}}, ["node 6", "a", "77"]),
]


@pytest.mark.parametrize(("graph", "words"), BROKEN_GRAPHS)
def test_a_broken_graph_says_where_it_is_broken(define, folder, graph, words):
    define(graph=graph)

    broken = Catalog([folder]).broken["edit"]

    assert [word for word in ["graph.json", *words] if word not in broken] == []


#: Words of Python's, for whoever wrote the program.
INTERPRETERS = re.compile(r"set_int_max|codec|Expecting|recursion|compliant|surrogates not allowed")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"1": NaN}', "not valid JSON"),
        (b'{"1": 1e999}', "not valid JSON"),
        (b'{"1": "\\ud800"}', "lone surrogate"),
        (b'{"1": 1, "1": 2}', "the key 1 stands twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b"9" * 5_000, "more than 400 digits"),
        ('{"1": "é"}'.encode("latin-1"), "not encoded as UTF-8"),
    ],
)
def test_what_is_no_clean_json_is_refused(define, folder, text, words):
    define(graph=text)

    broken = Catalog([folder]).broken["edit"]

    assert broken.startswith("graph.json")
    assert words in broken
    assert not INTERPRETERS.search(broken)


@pytest.mark.parametrize("name", ["workflow.json", "graph.json"])
def test_a_missing_file_is_named(define, folder, name):
    (define() / name).unlink()

    assert Catalog([folder]).broken == {"edit": f"{name} is missing."}


def test_a_file_that_cannot_be_read_is_named(define, folder):
    place = define()
    (place / "graph.json").unlink()
    (place / "graph.json").mkdir()

    assert Catalog([folder]).broken["edit"].startswith("graph.json cannot be read")


@pytest.mark.parametrize("slug", ["Edit", "my edit", "-edit", "edit_2", "e" * 64])
def test_a_name_that_does_not_fit_a_url_is_refused(define, folder, slug):
    define(slug)

    assert "cannot be part of a URL" in Catalog([folder]).broken[slug]


@pytest.mark.parametrize(
    "slug",
    ["jobs", "workflows", "health", "ready", "docs", "dashboard", "metrics", "openapi.json"],
)
def test_a_reserved_name_is_refused(define, folder, slug):
    define(slug)

    assert "reserved" in Catalog([folder]).broken[slug]


def test_every_fault_is_told_at_once(define, folder):
    content = changed(CONTENT, "bindings/n/0/node", "99")
    define(content=changed(content, "outputs/image/node", "98"))

    broken = Catalog([folder]).broken["edit"]

    assert "node 99" in broken
    assert "node 98" in broken


def test_drawn_seeds_that_break_the_bounds_are_refused(define, folder):
    seed = {"type": "integer", "exclusiveMaximum": 100}
    bound = [{"node": "4", "class_type": "Edit", "input": "text"}]
    content = changed(CONTENT, "parameters/properties/seed", seed)
    content = changed(content, "parameters/properties/text", None)
    content = changed(changed(content, "bindings/seed", bound), "bindings/text", None)
    content = changed(changed(content, "phrases", None), "parameters/properties/turn", None)
    define(content=content)

    assert "drawn value of parameter seed" in Catalog([folder]).broken["edit"]


def test_a_broken_definition_harms_no_other(define, folder):
    define("good")
    define("bad", graph=b"{")

    catalog = Catalog([folder])

    assert list(catalog.workflows) == ["good"]
    assert list(catalog.broken) == ["bad"]


def test_files_and_folders_without_a_definition_are_not_looked_at(define, folder):
    define(".hidden")
    (folder / "notes").mkdir()
    (folder / "README.md").write_text("hello")

    catalog = Catalog([folder])

    assert (dict(catalog.workflows), dict(catalog.broken)) == ({}, {})


def test_a_later_folder_wins(define, folder, tmp_path):
    define(content={**CONTENT, "title": "shipped"})
    define(content={**CONTENT, "title": "own"}, below=tmp_path / "own")

    catalog = Catalog([folder, tmp_path / "own"])

    assert catalog.get("edit").title == "own"


def test_the_folders_are_one_catalog(define, folder, tmp_path):
    define("shipped")
    define("own", below=tmp_path / "own")

    assert set(Catalog([folder, tmp_path / "own"]).workflows) == {"shipped", "own"}


def test_a_missing_folder_is_an_empty_one(define, folder, tmp_path):
    define()

    catalog = Catalog([folder, tmp_path / "absent"])

    assert list(catalog.workflows) == ["edit"]
    assert catalog.problems == ()


def test_a_folder_that_cannot_be_read_is_a_problem_and_harms_no_other(define, folder, tmp_path):
    define()
    (tmp_path / "file").write_text("")

    catalog = Catalog([folder, tmp_path / "file"])

    assert list(catalog.workflows) == ["edit"]
    assert [problem for problem in catalog.problems if "file cannot be read" in problem]


def test_nothing_new_is_nothing_changed(define, folder):
    define()
    catalog = Catalog([folder])
    before = catalog.get("edit")

    assert not catalog.refresh()
    assert catalog.get("edit") is before


def test_a_new_definition_appears(define, folder):
    catalog = Catalog([folder])
    define()

    assert catalog.refresh()
    assert catalog.get("edit")


@pytest.mark.parametrize("name", ["workflow.json", "graph.json"])
def test_a_changed_file_is_read_again_and_only_that_definition(define, folder, name):
    define("other")
    place = define()
    catalog = Catalog([folder])
    before, other = catalog.get("edit"), catalog.get("other")
    (place / name).write_text((place / name).read_text() + "\n")

    assert catalog.refresh()
    assert catalog.get("edit").revision != before.revision
    assert catalog.get("other") is other


def test_a_change_that_keeps_the_size_is_seen_by_its_time(define, folder):
    place = define(content={**CONTENT, "title": "one"})
    catalog = Catalog([folder])
    define(content={**CONTENT, "title": "two"})
    touch_later(place / "workflow.json")

    assert catalog.refresh()
    assert catalog.get("edit").title == "two"


def test_a_mended_definition_works_again(define, folder):
    define(graph=b"{")
    catalog = Catalog([folder])
    define()

    catalog.refresh()

    assert catalog.get("edit")
    assert catalog.broken == {}


def test_a_definition_that_is_gone_leaves_the_catalog(define, folder):
    place = define()
    catalog = Catalog([folder])
    shutil.rmtree(place)

    assert catalog.refresh()
    assert catalog.get("edit") is None
    assert dict(catalog.workflows) == {}


def test_what_was_handed_out_stays_whole_during_a_refresh(define, folder):
    define()
    catalog = Catalog([folder])
    handed_out = catalog.workflows
    define("other")

    catalog.refresh()

    assert list(handed_out) == ["edit"]
    assert list(catalog.workflows) == ["edit", "other"]


def test_the_operators_model_takes_the_place_of_the_default(define, folder):
    define()

    workflow = Catalog([folder], {"edit": {"base": "sub/mine.safetensors"}}).get("edit")

    assert workflow.graph["3"]["inputs"]["file"] == "sub/mine.safetensors"


def test_the_revision_tells_definitions_and_models_apart(define, folder):
    define()
    plain = Catalog([folder]).get("edit").revision

    again = Catalog([folder]).get("edit").revision
    overridden = Catalog([folder], {"edit": {"base": "mine"}}).get("edit").revision

    assert plain == again != overridden
    assert len(plain) == 12


def test_models_for_what_does_not_exist_are_problems(define, folder):
    define()

    catalog = Catalog([folder], {"edit": {"vae": "a"}, "ghost": {"vae": "b"}})

    assert catalog.problems == (
        "The workflow edit has no model called vae.",
        "A model is set for the workflow ghost, which does not exist.",
    )
    assert catalog.get("edit")


def test_models_for_a_broken_workflow_are_no_problem_of_their_own(define, folder):
    define(graph=b"{")

    assert Catalog([folder], {"edit": {"base": "a"}}).problems == ()
