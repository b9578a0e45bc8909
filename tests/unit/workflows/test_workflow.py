"""What a workflow refuses, and how it completes what it accepts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unified_api.workflows import Binding, Phrases

from .bare import bare

LARGEST_SEED = 2**64 - 1
PROPERTIES = {
    "image_url": {"type": "string", "minLength": 1},
    "prompt": {"type": "string", "maxLength": 20},
    "turn": {"type": "integer", "minimum": -2, "maximum": 2, "default": 0},
    "zoom": {"type": "integer", "minimum": -1, "maximum": 1, "default": 0},
    "cfg": {"type": "number", "minimum": 0, "maximum": 30},
    "crop": {"type": "string", "enum": ["disabled", "center"]},
    "seed": {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED},
    "tiled": {"type": "boolean"},
}
PHRASES = Phrases(
    into="prompt",
    separator=", ",
    parts=(("turn", {"-1": "left", "1": "right"}), ("zoom", {"1": "nearer"})),
    otherwise="as it is",
)


def workflow(properties=PROPERTIES, required=("image_url",), phrases=None):
    return bare(
        properties,
        required=required,
        graph={"1": {"class_type": "Node", "inputs": dict.fromkeys(properties)}},
        bindings={name: (Binding("1", "Node", name),) for name in properties},
        phrases=phrases,
        outputs={"image": "1"},
    )


def judged(**parameters):
    return workflow().violations({"image_url": "a.png", **parameters})


def completed(parameters=None, *, seed=7, **definition):
    return workflow(**definition).complete({"image_url": "a.png", **(parameters or {})}, seed=seed)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("image_url", "", "image_url must have a length of at least 1."),
        ("prompt", "x" * 21, "prompt must have a length of at most 20."),
        ("prompt", 5, "prompt must be text."),
        ("prompt", ["4", 0], "prompt must be text."),
        ("prompt", {"__value__": "x"}, "prompt must be text."),
        ("turn", 3, "turn must be at most 2."),
        ("turn", -3, "turn must be at least -2."),
        ("turn", 1.5, "turn must be a whole number."),
        ("turn", "1", "turn must be a whole number."),
        ("turn", True, "turn must be a whole number."),
        ("cfg", False, "cfg must be a number."),
        ("tiled", 1, "tiled must be true or false."),
        ("seed", 2**64, f"seed must be at most {LARGEST_SEED}."),
    ],
)
def test_an_unacceptable_value_is_explained_in_a_sentence(parameter, value, message):
    violations = judged(**{parameter: value})

    assert [v.message for v in violations] == [message]
    assert (violations[0].parameter, violations[0].pointer) == (parameter, f"/{parameter}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
@pytest.mark.parametrize("parameter", ["cfg", "turn"])
def test_a_number_that_is_not_finite_is_refused(parameter, value):
    violations = judged(**{parameter: value})

    assert [v.message for v in violations] == [f"{parameter} must be a finite number."]


def test_a_lone_surrogate_is_refused():
    violations = judged(prompt="\ud800")

    assert "surrogate" in violations[0].message


def test_a_missing_parameter_is_named():
    violations = workflow().violations({})

    assert [(v.pointer, v.message) for v in violations] == [
        ("/image_url", "image_url is required.")
    ]


def test_null_for_a_required_parameter_counts_as_missing():
    violations = workflow().violations({"image_url": None})

    assert [v.message for v in violations] == ["image_url is required."]


def test_null_for_every_optional_parameter_is_accepted():
    violations = judged(**dict.fromkeys(PROPERTIES.keys() - {"image_url"}))

    assert violations == []


def test_an_unknown_parameter_is_refused_with_the_name_that_was_probably_meant():
    violations = judged(promt="a cat")

    assert violations[0].message == (
        "promt is not a parameter of this workflow; did you mean prompt?"
    )


def test_null_does_not_make_an_unknown_parameter_acceptable():
    violations = judged(strange=None)

    assert [v.message for v in violations] == ["strange is not a parameter of this workflow."]


def test_a_pointer_escapes_what_json_pointers_escape():
    violations = judged(**{"a/b~c": 1})

    assert violations[0].pointer == "/a~1b~0c"


def test_choices_are_listed_and_offered():
    violations = judged(crop="top")

    assert violations[0].allowed == ("disabled", "center")
    assert violations[0].message == "crop must be one of disabled, center."


def test_at_most_ten_of_many_choices_are_offered():
    many = {"size": {"type": "string", "enum": [f"s{n}" for n in range(25)]}}

    violation = workflow(many, required=()).violations({"size": "x"})[0]

    assert len(violation.allowed) == 10
    assert violation.message.endswith("s9 and 15 more.")


def test_one_parameter_is_blamed_once():
    violations = judged(crop=5)

    assert [v.message for v in violations] == ["crop must be text."]


def test_a_flood_of_unknown_parameters_gets_a_short_answer():
    long_names = {f"{n}{'x' * 10_000}": n for n in range(100)}

    violations = judged(**long_names)

    assert len(violations) <= 20
    assert all(len(v.message + v.pointer) < 400 for v in violations)


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n]], ids=["alone", "in a list"])
def test_a_number_too_long_to_be_quoted_is_refused(wrap):
    violations = judged(turn=wrap(10**5000))

    assert [v.parameter for v in violations] == ["turn"]


odd_text = st.text(st.sampled_from("aZ9 ~/{}%\0\ud800é镜"), max_size=12)
scalar = st.none() | st.booleans() | st.integers() | st.floats() | odd_text
anything = scalar | st.lists(scalar, max_size=3) | st.dictionaries(odd_text, scalar, max_size=3)


@given(st.dictionaries(st.sampled_from([*PROPERTIES, "other"]) | odd_text, anything, max_size=6))
def test_whatever_is_sent_is_judged_without_a_crash_and_in_printable_words(parameters):
    violations = workflow().violations(parameters)

    assert all((v.message + v.pointer).encode() for v in violations)


@given(
    st.fixed_dictionaries(
        {"image_url": st.just("a.png")},
        optional={
            "prompt": st.none() | st.text("ab é镜", max_size=10),
            "turn": st.none() | st.integers(-2, 2) | st.sampled_from([-1.0, 2.0]),
            "zoom": st.none() | st.integers(-1, 1),
            "cfg": st.none() | st.floats(0, 30),
            "seed": st.none() | st.integers(0, LARGEST_SEED),
        },
    ),
    st.integers(0, LARGEST_SEED),
    st.integers(0, LARGEST_SEED),
)
def test_what_is_complete_is_acceptable_and_stays_as_it_is(parameters, seed, other_seed):
    recipe = workflow(phrases=PHRASES)

    once = recipe.complete(parameters, seed=seed)

    assert recipe.violations(once) == []
    assert recipe.complete(once, seed=other_seed) == once


def test_defaults_are_filled_in_and_nulls_left_out():
    assert completed({"turn": None, "cfg": None, "zoom": 1}) == {
        "image_url": "a.png",
        "turn": 0,
        "zoom": 1,
        "seed": 7,
    }


def test_a_whole_float_becomes_an_integer_where_one_is_expected():
    values = completed({"turn": 1.0, "cfg": 2.0})

    assert (type(values["turn"]), type(values["cfg"])) == (int, float)


def test_a_given_seed_wins_over_the_drawn_one():
    assert completed({"seed": 0}, seed=9)["seed"] == 0


def test_a_default_seed_wins_over_the_drawn_one():
    properties = {**PROPERTIES, "seed": {"type": "integer", "default": 3}}

    assert completed(seed=9, properties=properties)["seed"] == 3


def test_a_workflow_without_a_seed_gets_none():
    properties = {"image_url": {"type": "string"}}

    assert completed(properties=properties) == {"image_url": "a.png"}


def test_a_seed_that_is_text_is_not_drawn():
    properties = {"image_url": {"type": "string"}, "seed": {"type": "string"}}

    assert "seed" not in completed(properties=properties)


@given(st.integers(0, LARGEST_SEED))
def test_a_drawn_seed_keeps_within_its_bounds(seed):
    properties = {**PROPERTIES, "seed": {"type": "integer", "minimum": 5, "maximum": 8}}

    assert 5 <= completed(seed=seed, properties=properties)["seed"] <= 8


@pytest.mark.parametrize(
    ("numbers", "prompt"),
    [
        ({"turn": 1}, "right"),
        ({"turn": -1.0, "zoom": 1}, "left, nearer"),
        ({"zoom": 1}, "nearer"),
        ({"turn": 2}, "as it is"),
        ({}, "as it is"),
        ({"turn": 1, "prompt": None}, "right"),
        ({"turn": 1, "prompt": "  "}, "right"),
        ({"turn": 1, "prompt": "a cat"}, "a cat"),
    ],
)
def test_numbers_make_the_prompt_unless_one_is_given(numbers, prompt):
    assert completed(numbers, phrases=PHRASES)["prompt"] == prompt


def test_completing_leaves_what_was_sent_untouched():
    sent = {"image_url": "a.png", "turn": 1.0, "cfg": None}

    workflow(phrases=PHRASES).complete(sent, seed=1)

    assert sent == {"image_url": "a.png", "turn": 1.0, "cfg": None}
    assert isinstance(sent["turn"], float)
