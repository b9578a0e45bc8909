"""What a workflow accepts where its inputs take less than its definition says."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unified_api.workflows import Binding, Takes, inputs_of, narrow

from .bare import bare

LARGEST_SEED = 2**64 - 1
TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
PLACE = Binding("9", "KSampler", "value")
OTHER = Binding("10", "Upscale", "value")


def workflow(*, required=(), images=None, places=(PLACE,), stands=0, **properties):
    """Every parameter is bound to all the places; `stands` is what the graph has there."""
    return bare(
        properties,
        required=required,
        graph={p.node: {"class_type": p.class_type, "inputs": {"value": stands}} for p in places},
        bindings=dict.fromkeys(properties, tuple(places)),
        images=images or {},
        outputs={"image": "9"},
    )


def narrowed(schema, *takes, **more):
    """The schema of one parameter that goes to an input of each of these kinds."""
    places = (PLACE, OTHER)[: len(takes)]
    before = workflow(value=schema, required=["value"], places=places, **more)
    after, faults = narrow(before, dict(zip(places, takes, strict=True)))
    assert faults == ()
    return after.schema["properties"]["value"]


def faults(schema, takes, **more):
    return narrow(workflow(value=schema, **more), {PLACE: takes})[1]


def accepts(recipe, value):
    return recipe.violations({"value": value}) == []


# What is left


def test_the_choices_of_an_input_are_those_of_its_parameter():
    assert narrowed(TEXT, Takes(choices=("euler", "beta"))) == {**TEXT, "enum": ["euler", "beta"]}


def test_a_definition_keeps_those_of_its_choices_that_are_offered_in_its_own_order():
    schema = {**TEXT, "enum": ["lanczos", "area", "bicubic"]}

    assert narrowed(schema, Takes(choices=("bicubic", "nearest", "lanczos"))) == {
        **TEXT,
        "enum": ["lanczos", "bicubic"],
    }


def test_choices_that_break_the_rules_of_the_definition_are_left_out():
    schema = {**TEXT, "pattern": "^style/", "maxLength": 9}

    left = narrowed(schema, Takes(choices=("style/a", "secret/b", "style/too-long", "style/a")))

    assert left["enum"] == ["style/a"]


@pytest.mark.parametrize(
    ("schema", "takes", "bounds"),
    [
        (WHOLE, Takes(minimum=1, maximum=9), (1, 9)),
        ({**WHOLE, "minimum": 2, "maximum": 8}, Takes(minimum=1, maximum=9), (2, 8)),
        ({**WHOLE, "minimum": 0, "maximum": 10}, Takes(minimum=1, maximum=9), (1, 9)),
        ({**NUMBER, "minimum": 0}, Takes(minimum=-0.5, maximum=0.5), (0, 0.5)),
        ({**WHOLE, "maximum": 5}, Takes(), (None, 5)),
        (WHOLE, Takes("integer", None, 0, LARGEST_SEED), (0, LARGEST_SEED)),
    ],
)
def test_the_tighter_bound_counts(schema, takes, bounds):
    left = narrowed(schema, takes)

    assert (left.get("minimum"), left.get("maximum")) == bounds


def test_values_of_a_definition_beyond_the_bounds_of_the_input_are_dropped():
    assert narrowed({**WHOLE, "enum": [1, 64, 512]}, Takes(maximum=100))["enum"] == [1, 64]


def test_bounds_say_nothing_of_text_and_switches():
    for schema in (TEXT, {"type": "boolean"}):
        assert narrowed(schema, Takes(minimum=0, maximum=1)) == schema


def test_a_number_that_goes_where_fractions_are_cut_off_must_be_whole():
    assert narrowed(NUMBER, Takes("integer")) == WHOLE
    assert narrowed(WHOLE, Takes("number")) == WHOLE


def test_a_parameter_that_goes_to_several_inputs_is_what_all_of_them_take():
    left = narrowed(TEXT, Takes(choices=("a", "b", "c")), Takes(choices=("c", "d", "b")))

    assert left["enum"] == ["b", "c"]
    assert narrowed(WHOLE, Takes(minimum=1), Takes(maximum=4)) == {
        **WHOLE,
        "minimum": 1,
        "maximum": 4,
    }


def test_examples_that_are_not_taken_are_not_shown():
    schema = {**TEXT, "examples": ["euler", "gone"]}

    assert narrowed(schema, Takes(choices=("euler",)))["examples"] == ["euler"]
    assert "examples" not in narrowed(schema, Takes(choices=("beta",)))


def test_choices_that_no_caller_can_send_are_left_out():
    odd = ("good", "bad \udcff name", None, 5, True, ["a"], {"key": "a"}, object())

    assert narrowed(TEXT, Takes(choices=odd))["enum"] == ["good"]
    assert narrowed(NUMBER, Takes(choices=(math.nan, math.inf, 1.5, "2", False)))["enum"] == [1.5]


def test_what_is_shown_is_json_that_everybody_reads():
    left = narrowed(NUMBER, Takes(maximum=2.5))

    assert json.loads(json.dumps(left, allow_nan=False)) == {**NUMBER, "maximum": 2.5}


def test_pictures_are_files_that_the_service_names():
    recipe = workflow(image_url=TEXT, text=TEXT, images={"image_url": ()})

    assert list(inputs_of(recipe)) == [("text", PLACE)]
    after, _ = narrow(recipe, {PLACE: Takes(choices=(0, "a"))})
    assert after.schema["properties"]["image_url"] == TEXT


@pytest.mark.parametrize("takes", [{}, {OTHER: Takes("integer")}, {PLACE: Takes(maximum=9)}])
def test_a_workflow_that_is_taken_as_it_is_stays_the_same_object(takes):
    recipe = workflow(value={**WHOLE, "maximum": 9})

    assert narrow(recipe, takes) == (recipe, ())
    assert narrow(recipe, takes)[0] is recipe


def test_the_definition_itself_is_not_changed():
    schema = {**TEXT, "enum": ["a", "b"], "examples": ["b"]}
    recipe = workflow(value=schema)

    narrow(recipe, {PLACE: Takes(choices=("a", 0))})

    assert schema == {**TEXT, "enum": ["a", "b"], "examples": ["b"]}
    assert recipe.schema["properties"]["value"] is schema


def test_requests_are_judged_by_what_is_left():
    after, _ = narrow(workflow(value=TEXT, stands="euler"), {PLACE: Takes(choices=("euler",))})

    (violation,) = after.violations({"value": "nonsense"})

    assert violation.message == "value must be one of euler."
    assert violation.allowed == ("euler",)


# Seeds


@pytest.mark.parametrize("drawn", [0, 5, 2**53])
@pytest.mark.parametrize(
    ("takes", "low", "high"),
    [
        (Takes("integer", None, 0, 2**32 - 1), 0, 2**32 - 1),
        (Takes("integer", None, 3, 7), 3, 7),
        (Takes("integer", None, -1, LARGEST_SEED), 0, 2**53),
        (Takes("integer", None, -LARGEST_SEED, LARGEST_SEED), 0, 2**53),
        (Takes("integer", None, -9, -5), -9, -5),
    ],
)
def test_a_drawn_seed_is_one_that_the_input_takes_and_small(takes, low, high, drawn):
    after, found = narrow(workflow(seed=WHOLE), {PLACE: takes})

    seed = after.complete({}, seed=drawn)["seed"]

    assert found == ()
    assert low <= seed <= high
    assert after.violations({"seed": seed}) == []


# Where they cannot agree


@pytest.mark.parametrize(
    ("schema", "takes", "words"),
    [
        (TEXT, Takes("integer"), "takes a whole number, not text"),
        (TEXT, Takes("number"), "takes a number, not text"),
        (TEXT, Takes("boolean"), "takes true or false, not text"),
        (TEXT, Takes(choices=()), "takes no value"),
        (WHOLE, Takes(choices=("a", "b")), "takes no value"),
        ({**TEXT, "enum": ["a"]}, Takes(choices=("b",)), "takes no value"),
        ({**WHOLE, "minimum": 10}, Takes(maximum=9), "takes no value"),
        ({**WHOLE, "maximum": 0}, Takes(minimum=1), "takes no value"),
        ({**NUMBER, "exclusiveMinimum": 1}, Takes(maximum=1), "takes no value"),
        ({**NUMBER, "exclusiveMaximum": 1}, Takes(minimum=1), "takes no value"),
        ({**TEXT, "default": "gone"}, Takes(choices=("a",)), "the default gone"),
        ({**TEXT, "default": "b", "enum": ["a", "b"]}, Takes(choices=("a",)), "the default b"),
        ({**WHOLE, "default": 99}, Takes(maximum=9), "the default 99"),
        ({**NUMBER, "default": 0.5}, Takes("integer"), "the default 0.5"),
    ],
)
def test_a_disagreement_names_parameter_class_and_input(schema, takes, words):
    (fault,) = faults(schema, takes, required=["value"])

    assert fault.startswith("parameter value: on this machine input value of node 9 (KSampler) ")
    assert words in fault


def test_a_disagreement_does_not_list_what_there_is_instead():
    (fault,) = faults({**TEXT, "default": "a"}, Takes(choices=("hidden.pt",)))

    assert "hidden" not in fault


def test_every_disagreement_is_told_and_nothing_narrowed():
    recipe = workflow(one={**WHOLE, "default": 5}, two=TEXT, three=WHOLE)

    after, found = narrow(recipe, {PLACE: Takes("integer", maximum=4)})

    assert [fault.split(":")[0] for fault in found] == ["parameter one", "parameter two"]
    assert after is recipe


@pytest.mark.parametrize(
    ("stands", "takes"),
    [("gone", Takes(choices=("a",))), (0, Takes(minimum=1)), (2, Takes(maximum=1))],
)
def test_what_the_graph_has_must_be_taken_where_a_parameter_may_be_left_out(stands, takes):
    schema = TEXT if takes.choices else WHOLE
    of_its_own = {**schema, "default": "a" if takes.choices else 1}

    (fault,) = faults(schema, takes, stands=stands)

    assert f"does not take {stands}, as graph.json has it" in fault
    assert faults(schema, takes, stands=stands, required=["value"]) == ()
    assert faults(of_its_own, takes, stands=stands) == ()


@pytest.mark.parametrize(
    ("stands", "takes"),
    [
        ("a", Takes(choices=("a",))),
        ("5", Takes("integer", minimum=1)),
        (1, Takes(minimum=1, maximum=1)),
        ({"__value__": [1]}, Takes(minimum=1)),
        (None, Takes(minimum=1)),
    ],
)
def test_what_the_graph_has_is_otherwise_no_matter(stands, takes):
    assert faults(TEXT if takes.choices else WHOLE, takes, stands=stands) == ()


# Whatever they are

bounds = st.none() | st.integers(-20, 20)


@given(bounds, bounds, bounds, bounds, st.integers(-25, 25))
def test_a_number_is_accepted_if_definition_and_input_both_take_it(low, high, least, most, value):
    known = {"minimum": low, "maximum": high}
    schema = {**WHOLE, **{key: bound for key, bound in known.items() if bound is not None}}
    takes = Takes(
        "integer",
        minimum=-math.inf if least is None else least,
        maximum=math.inf if most is None else most,
    )
    recipe = workflow(value=schema, required=["value"])

    after, found = narrow(recipe, {PLACE: takes})

    is_taken = accepts(recipe, value) and takes.minimum <= value <= takes.maximum
    assert accepts(after, value) == is_taken or found
    assert not (found and is_taken)


names = st.lists(st.sampled_from("abcdef"), unique=True)


@given(st.none() | names.filter(bool), names, st.sampled_from("abcdefg"))
def test_a_choice_is_accepted_if_definition_and_input_both_offer_it(known, offered, value):
    recipe = workflow(value={**TEXT, **({"enum": known} if known else {})}, required=["value"])

    after, found = narrow(recipe, {PLACE: Takes(choices=tuple(offered))})

    is_taken = accepts(recipe, value) and value in offered
    assert accepts(after, value) == is_taken or found
    assert not (found and is_taken)
