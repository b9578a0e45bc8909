"""What the nodes of a ComfyUI lack for a graph, and what their inputs take."""

import errno
import math

import pytest
from unified_api.jobs.prompt import Lack
from unified_api.workflows import Takes

# What ComfyUI lacks


def node_class(**inputs):
    return type("Node", (), {"INPUT_TYPES": classmethod(lambda cls: inputs)})


@pytest.fixture
def lacks(seam, planted):
    """What is missing for one node, given its class and its inputs in the graph."""

    def ask(node, **inputs):
        if node:
            planted.node_classes["Draw"] = node
        return seam.ComfyUI().lacks({"1": {"class_type": "Draw", "inputs": inputs}})

    return ask


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (node_class(), {}),
        (node_class(required={"n": ("INT", {"default": 1})}), {"n": 1}),
        (node_class(required={"vae": (["a.pt", "b.pt"],)}), {"vae": "b.pt"}),
        (node_class(required={"vae": (["a.pt"],)}), {"vae": ["2", 0]}),
        (node_class(required={"vae": ("COMBO", {"options": ["a.pt"]})}), {"vae": "a.pt"}),
        (node_class(required={"vae": ("COMBO", {})}), {"vae": "a.pt"}),
        (node_class(required={"vae": ("COMBO",)}), {"vae": "a.pt"}),
        (node_class(required={"vae": ("COMBO", None)}), {"vae": "a.pt"}),
        (node_class(optional={"vae": (["a.pt"],)}), {}),
        (node_class(required={"images": ("COMFY_AUTOGROW_V3", {})}), {"images.image0": ["2", 0]}),
        (node_class(required={}), {"from an older version": 1}),
    ],
)
def test_what_a_node_offers_is_not_lacking(lacks, node, inputs):
    assert lacks(node, **inputs) == []


@pytest.mark.parametrize(
    ("node", "inputs", "name", "word"),
    [
        (None, {}, None, "not installed"),
        (node_class(required={"n": ("INT",)}), {}, "n", "needs an input 'n'"),
        (node_class(required={"vae": (["a.pt"],)}), {"vae": "b.pt"}, "vae", "'b.pt'"),
        (node_class(optional={"vae": (["a.pt"],)}), {"vae": "b.pt"}, "vae", "'b.pt'"),
        (node_class(required={"v": ("COMBO", {"options": []})}), {"v": "b.pt"}, "v", "'b.pt'"),
        (type("Broken", (), {}), {}, None, "is broken"),
        (node_class(required=None), {}, None, "is broken"),
        (node_class(required={"n": ()}), {}, None, "is broken"),
    ],
)
def test_what_a_node_does_not_offer_is_lacking_by_name(lacks, node, inputs, name, word):
    (lack,) = lacks(node, **inputs)

    assert (lack.node_id, lack.input) == ("1", name)
    assert word in lack.text


def test_a_lack_does_not_list_what_there_is_instead(lacks):
    (lack,) = lacks(node_class(required={"vae": (["secret.pt"],)}), vae="b.pt")

    assert isinstance(lack, Lack)
    assert "secret" not in lack.text


# What ComfyUI takes


@pytest.fixture
def takes(seam, planted):
    """What the inputs of a node class take, given the class."""

    def ask(node):
        planted.node_classes["Draw"] = node
        return seam.ComfyUI().takes("Draw")

    return ask


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (("INT", {"min": 1, "max": 10000, "step": 1}), Takes("integer", None, 1, 10000)),
        (("INT", {"min": 0, "max": 2**64 - 1}), Takes("integer", None, 0, 2**64 - 1)),
        (("FLOAT", {"min": 0.0, "max": 1.0, "step": 0.01}), Takes("number", None, 0.0, 1.0)),
        (("FLOAT", {"max": 2.5}), Takes("number", maximum=2.5)),
        (("INT", {"default": 1}), Takes("integer")),
        (("INT",), Takes("integer")),
        (("INT", None), Takes("integer")),
        (["INT", {"min": 1}], Takes("integer", minimum=1)),
        (("STRING", {"multiline": True}), Takes("string")),
        (("BOOLEAN", {"default": True}), Takes("boolean")),
        (("MODEL",), Takes()),
        ((["euler", "beta"],), Takes(choices=("euler", "beta"))),
        ((["a"], {"default": "a"}), Takes(choices=("a",))),
        (([],), Takes(choices=())),
        (("COMBO", {"options": ["a", "b"]}), Takes(choices=("a", "b"))),
        (("COMBO", {"options": [1, 2]}), Takes(choices=(1, 2))),
        (("COMBO", {"remote": {"route": "/x"}}), Takes()),
        (("COMBO",), Takes()),
        (("FLOAT", {"min": -math.inf, "max": math.inf}), Takes("number")),
        (("FLOAT", {"min": math.inf, "max": -math.inf}), Takes("number")),
        (("FLOAT", {"min": math.nan, "max": "9"}), Takes("number")),
        (("BOOLEAN", {"min": False, "max": True}), Takes("boolean")),
        (("COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a"}]}), Takes()),
    ],
)
def test_an_input_takes_what_its_class_declares(takes, kind, expected):
    assert takes(node_class(required={"x": kind})) == {"x": expected}
    assert takes(node_class(optional={"x": kind})) == {"x": expected}


def test_a_class_that_is_not_there_or_broken_tells_nothing(seam, takes, caplog):
    assert seam.ComfyUI().takes("Draw") == {}
    assert caplog.text == ""

    assert takes(type("Broken", (), {})) == {}
    assert "node class Draw could not tell its inputs" in caplog.text


def test_a_fault_of_a_class_is_logged_once_and_a_new_one_again(seam, planted, caplog):
    host = seam.ComfyUI()
    errors = [ValueError("a"), ValueError("a"), ValueError("b")]

    for error in errors:
        for name in ("Draw", "Other"):
            planted.node_classes[name] = failing_with(error)
            assert host.takes(name) == {}

    assert [record.args for record in caplog.records] == [("Draw",), ("Other",)] * 2
    assert "ValueError: b" in caplog.text


def failing_with(error):
    """A node class that cannot tell its inputs."""

    def input_types():
        raise error

    return type("Failing", (), {"INPUT_TYPES": input_types})


def test_a_class_whose_folder_cannot_be_listed_for_a_while_is_not_judged(seam, planted):
    planted.node_classes["Draw"] = failing_with(OSError(errno.EMFILE, "too many"))
    host = seam.ComfyUI()

    with pytest.raises(OSError, match="too many"):
        host.takes("Draw")
    with pytest.raises(OSError, match="too many"):
        host.lacks({"1": {"class_type": "Draw", "inputs": {}}})


DECLARED = {"required": {"model": (["a"],), "steps": ("INT", {"min": 1})}}


def test_what_a_node_judges_itself_is_not_told(takes):
    class Loader:
        INPUT_TYPES = classmethod(lambda cls: DECLARED)
        VALIDATE_INPUTS = classmethod(lambda cls, model: True)

    class Lenient(Loader):
        VALIDATE_INPUTS = classmethod(lambda cls, **inputs: True)

    assert takes(Loader) == {"steps": Takes("integer", minimum=1)}
    assert takes(Lenient) == {}


def test_what_a_node_of_the_newer_kind_judges_itself_is_not_told(takes):
    class Base:
        INPUT_TYPES = classmethod(lambda cls: DECLARED)
        GET_BASE_CLASS = classmethod(lambda cls: Base)
        validate_inputs = classmethod(lambda cls, **inputs: True)

    class Plain(Base):
        pass

    class Loader(Base):
        validate_inputs = classmethod(lambda cls, model: True)

    assert set(takes(Plain)) == {"model", "steps"}
    assert set(takes(Loader)) == {"steps"}
