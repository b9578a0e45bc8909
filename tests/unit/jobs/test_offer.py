"""The catalog held against what a machine has and takes."""

import asyncio
import json
import threading

import pytest
from unified_api.jobs.errors import UnhealthyWorkflow
from unified_api.jobs.offer import Offer
from unified_api.workflows import Catalog, Takes, TextInputs

from ..fake_host import until


class Machine:
    """A machine that takes what it is told to take."""

    def __init__(self, definitions):
        self.taking = {}
        #: The node classes that were asked for.
        self.asked = []
        self.catalog = Catalog([definitions])
        self.offer = Offer(self.catalog, takes=self.takes)

    def takes(self, class_type):
        self.asked.append(class_type)
        return self.taking.get(class_type, {})

    def later(self, slug="draw"):
        """What is offered when it has been looked at again."""
        self.offer.refresh()
        return self.offer.find(slug)


@pytest.fixture
def machine(definitions):
    return Machine(definitions)


def size(offered):
    return offered.workflow.schema["properties"]["size"]


def test_without_a_machine_definitions_are_offered_as_they_are(definitions):
    catalog = Catalog([definitions])

    offer = Offer(catalog)
    offer.refresh()

    offered = offer.find("draw")
    assert offered.workflow is catalog.get("draw")
    assert offered.is_healthy


def test_what_is_offered_is_what_the_machine_takes(machine):
    machine.taking = {"Draw": {"size": Takes("integer", maximum=32), "text": Takes("string")}}

    assert size(machine.later()) == {"type": "integer", "minimum": 1, "maximum": 32, "default": 8}
    assert size(machine.offer.all()[0])["maximum"] == 32
    assert machine.offer.healthy("draw").violations({"size": 33})


def test_what_cannot_agree_is_unhealthy_with_the_reason(machine):
    machine.taking = {"Draw": {"size": Takes("integer", maximum=7)}}

    offered = machine.later()

    (problem,) = offered.problems
    assert "parameter size" in problem
    assert "input size of node 1 (Draw) does not take the default 8" in problem
    assert size(offered)["maximum"] == 64
    with pytest.raises(UnhealthyWorkflow, match="does not take the default 8"):
        machine.offer.healthy("draw")


def test_what_changes_on_the_machine_is_seen_by_itself(machine):
    assert size(machine.later())["maximum"] == 64

    machine.taking = {"Draw": {"size": Takes("integer", maximum=32)}}
    assert size(machine.later())["maximum"] == 32

    machine.taking = {"Draw": {"size": Takes("integer", maximum=7)}}
    assert not machine.later().is_healthy

    machine.taking = {}
    assert size(machine.later())["maximum"] == 64


def test_what_does_not_change_is_not_made_again(machine):
    machine.taking = {"Draw": {"size": Takes("integer", maximum=32)}}
    first = machine.later().workflow

    machine.taking = {"Draw": {"size": Takes("integer", maximum=32)}}

    assert machine.later().workflow is first


def test_a_changed_definition_is_narrowed_anew(machine, definitions):
    machine.taking = {"Draw": {"size": Takes("integer", maximum=32)}}
    machine.later()
    file = definitions / "draw" / "workflow.json"
    content = json.loads(file.read_text())
    content["parameters"]["properties"]["size"]["minimum"] = 2
    file.write_text(json.dumps(content, indent=2))

    assert (size(machine.later())["minimum"], size(machine.later())["maximum"]) == (2, 32)


def test_each_node_class_is_asked_once_for_all_workflows_and_loaders_of_pictures_never(machine):
    machine.later()
    machine.asked.clear()

    machine.later()

    assert machine.asked == ["Draw"]


async def test_a_machine_that_is_slow_to_answer_holds_the_loop_up_for_nobody(machine):
    asked, answer = threading.Event(), threading.Event()

    def slow(class_type):
        asked.set()
        answer.wait(10)
        return {"size": Takes("integer", maximum=32)}

    offer = Offer(machine.catalog, takes=slow, refresh_seconds=0.01)
    keeping = asyncio.ensure_future(offer.keep_fresh())
    await until(asked.is_set)
    assert offer.all() == []

    answer.set()

    await until(offer.all)
    assert size(offer.find("draw"))["maximum"] == 32
    keeping.cancel()


def test_a_caller_who_could_name_any_file_finds_the_workflow_unhealthy(definitions):
    inputs = {"Draw": TextInputs(frozenset({"text"}), frozenset({"text"}))}
    offer = Offer(Catalog([definitions]), text_inputs=lambda name: inputs.get(name, TextInputs()))
    offer.refresh()

    (problem,) = offer.find("draw").problems

    assert "parameter text: input text of node 1 (Draw) names a file" in problem
    assert offer.find("edit").is_healthy
    with pytest.raises(UnhealthyWorkflow, match="names a file"):
        offer.healthy("draw")


def test_a_name_out_of_a_list_has_one_line_and_the_workflow_stays_the_same(definitions):
    inputs = {"Draw": TextInputs(names=frozenset({"text"}))}
    offer = Offer(Catalog([definitions]), text_inputs=lambda name: inputs.get(name, TextInputs()))
    offer.refresh()
    first = offer.healthy("draw")

    offer.refresh()

    assert first.violations({"text": "a\nb"})
    assert offer.healthy("draw") is first


@pytest.mark.parametrize(
    "name",
    [
        f"unified_api/{'ab' * 32}.png",
        f"unified_api/{'ab' * 40}.png [input]",
        f"./unified_api//x/../{'AB' * 40}.jpg",
        "unified_api\\0b0e7c6e-0000-4000-8000-000000000000\\1\\9_00001_.png [output]",
        "unified_api",
        "unified_api/",
    ],
)
def test_a_definition_that_names_a_file_of_a_job_is_unhealthy(definitions, name):
    file = definitions / "draw" / "graph.json"
    graph = json.loads(file.read_text())
    graph["3"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    file.write_text(json.dumps(graph))
    offer = Offer(Catalog([definitions]))
    offer.refresh()

    (problem,) = offer.find("draw").problems

    assert "node 3: input image names a file that belongs to a job" in problem


def test_a_choice_that_is_a_file_of_a_job_is_unhealthy_and_an_image_in_the_graph_is_replaced(
    definitions,
):
    for slug in ("draw", "edit"):
        file = definitions / slug / "workflow.json"
        content = json.loads(file.read_text())
        if slug == "draw":
            text = {"type": "string", "enum": ["a", f"unified_api/{'ab' * 32}.png"]}
            content["parameters"]["properties"]["text"] = text
            file.write_text(json.dumps(content))
    graph = definitions / "edit" / "graph.json"
    graph.write_text(graph.read_text().replace("example.png", f"unified_api/{'ab' * 32}.png"))
    offer = Offer(Catalog([definitions]))
    offer.refresh()

    assert "parameter text" in offer.find("draw").problems[0]
    assert offer.find("edit").is_healthy
