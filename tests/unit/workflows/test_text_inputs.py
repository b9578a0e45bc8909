"""Where callers could name files of the machine."""

import pytest
from unified_api.workflows import Binding, TextInputs, file_faults, names_in

from .bare import bare

TEXT = {"type": "string"}
FILES = {
    "LoadImage": TextInputs(frozenset({"image"}), frozenset({"image"})),
    "KSampler": TextInputs(names=frozenset({"sampler"})),
}
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "2": {"class_type": "Primitive", "inputs": {"value": "a.png", "mode": "x"}},
    "3": {"class_type": "Join", "inputs": {"a": ["2", 0], "b": "x"}},
    "4": {"class_type": "LoadImage", "inputs": {"image": ["3", 0]}},
    "5": {"class_type": "KSampler", "inputs": {"sampler": "euler", "image": ["4", 0]}},
}
LOADER = Binding("1", "LoadImage", "image")
VALUE = Binding("2", "Primitive", "value")


def inputs_of(class_type):
    return FILES.get(class_type, TextInputs())


def faults(schema, *places, images=None, graph=GRAPH):
    workflow = bare(
        {"name": schema},
        graph=graph,
        bindings={"name": places},
        images=images or {},
        outputs={"image": "5"},
    )
    return list(file_faults(workflow, inputs_of))


def test_free_text_that_names_a_file_is_a_fault_that_says_what_to_do():
    (fault,) = faults(TEXT, LOADER)

    assert "parameter name: input image of node 1 (LoadImage) names a file" in fault
    assert "`images`" in fault
    assert "`enum`" in fault


@pytest.mark.parametrize(
    "schema",
    [{**TEXT, "pattern": "^a"}, {**TEXT, "maxLength": 5}, {**TEXT, "default": "a.png"}],
)
def test_rules_for_a_text_do_not_make_it_a_choice(schema):
    assert faults(schema, LOADER)


def test_an_image_and_an_enum_are_no_fault():
    assert faults(TEXT, LOADER, images={"name": ()}) == []
    assert faults({**TEXT, "enum": ["a.png", "b.png"]}, LOADER) == []


def test_a_file_beside_another_input_is_a_fault_too():
    assert faults(TEXT, Binding("5", "KSampler", "sampler"), LOADER)


def test_text_that_reaches_a_file_through_other_nodes_is_a_fault():
    (fault,) = faults(TEXT, VALUE)

    assert "parameter name: through node 3, input image of node 4 (LoadImage)" in fault
    assert faults({**TEXT, "enum": ["a.png"]}, VALUE) == []
    assert faults({"type": "integer"}, VALUE) == []


def test_links_in_a_ring_come_to_an_end():
    graph = {
        "1": {"class_type": "Join", "inputs": {"a": ["2", 0], "b": ""}},
        "2": {"class_type": "Join", "inputs": {"a": ["1", 0]}},
    }

    assert faults(TEXT, Binding("1", "Join", "b"), graph=graph) == []


def test_what_goes_to_a_list_is_a_name_of_one_line():
    workflow = bare(
        {"name": TEXT, "text": TEXT},
        graph=GRAPH,
        bindings={"name": (Binding("5", "KSampler", "sampler"),), "text": (VALUE,)},
        outputs={"image": "5"},
    )

    assert names_in(workflow, inputs_of) == {"name"}


CONTROLS = [
    "\n",
    "\r",
    "\t",
    "\0",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\x9b",
    "\u2028",
    "\u202e",
    "\u2066",
]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_name_has_no_control_characters(control):
    workflow = bare(
        {"name": TEXT, "image": TEXT, "text": TEXT},
        graph={},
        bindings={},
        images={"image": ()},
        outputs={},
        names=frozenset({"name"}),
    )

    for name in ("name", "image"):
        (violation,) = workflow.violations({name: f"a{control}b"})
        assert violation.message == f"{name} must not have control characters in it."
    assert workflow.violations({"name": "猫 é-1", "image": "https://a.example/b?c"}) == []


@pytest.mark.parametrize("control", ["\x1b[2J", "\x9b2J", "\x08", "\x7f"])
def test_no_text_gives_orders_to_a_terminal(control):
    workflow = bare({"text": TEXT}, graph={}, bindings={}, outputs={})

    assert workflow.violations({"text": f"a{control}"})
    assert workflow.violations({"text": "a\r\n\tb\v\f\x85\u2028 \u200d"}) == []
