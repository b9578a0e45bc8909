"""The graph that comes out: values in place, absent pictures gone, nothing dangling."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st
from unified_api.workflows import Binding, Workflow, render


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


GRAPH = {
    "1": node("LoadImage", image="example.png"),
    "2": node("LoadImage", image="example.png"),
    "3": node("Scale", image=["2", 0], size=["8", 0]),
    "4": node("Encode", image1=["1", 0], image2=["3", 0], text=""),
    "5": node("SaveImage", images=["4", 0], filename_prefix="ComfyUI"),
    "6": node("Note", text="nobody asks for this"),
    "7:1": node("SaveImage", images=["1", 0], filename_prefix="ComfyUI"),
    "8": node("Size", value=64),
}


def workflow(graph=GRAPH, images=None, outputs=None):
    return Workflow(
        slug="test",
        title="Test",
        description="A test.",
        schema={},
        graph=graph,
        bindings={
            "image_url": (Binding("1", "LoadImage", "image"),),
            "image2_url": (Binding("2", "LoadImage", "image"),),
            "text": (Binding("4", "Encode", "text"), Binding("6", "Note", "text")),
        },
        images={"image_url": (), "image2_url": ("2",)} if images is None else images,
        phrases=None,
        outputs=outputs or {"image": "5"},
        extension="png",
        models={},
        warmup=None,
        revision="0" * 12,
    )


BOTH = {"image_url": "a.png", "image2_url": "b.png"}
ONE = {"image_url": "a.png"}


def rendered(parameters=None, images=None, **definition):
    return render(
        workflow(**definition),
        parameters or {},
        images=BOTH if images is None else images,
        prefix="jobs/17",
    )


def sources(graph):
    return {
        value[0]
        for each in graph.values()
        for value in each["inputs"].values()
        if isinstance(value, list)
    }


def test_a_value_goes_to_every_input_it_is_bound_to():
    graph = rendered({"text": "hello"})

    assert graph["4"]["inputs"]["text"] == graph["6"]["inputs"]["text"] == "hello"


def test_a_parameter_without_a_value_leaves_what_the_graph_says():
    assert rendered()["6"]["inputs"]["text"] == "nobody asks for this"


def test_a_picture_is_bound_as_its_file_and_never_as_its_reference():
    references = {"image_url": "https://example.com/a.png", "image2_url": "https://b"}

    fetched, forgotten = rendered(references, BOTH), rendered(references, {})

    assert fetched["1"]["inputs"]["image"] == "a.png"
    assert forgotten["1"]["inputs"]["image"] == "example.png"


def test_a_picture_that_was_given_keeps_its_nodes():
    graph = rendered()

    assert graph["4"]["inputs"]["image2"] == ["3", 0]
    assert graph.keys() == GRAPH.keys()


def test_an_absent_picture_leaves_with_every_link_to_it():
    graph = rendered(images=ONE)

    assert "2" not in graph
    assert graph["3"]["inputs"] == {"size": ["8", 0]}


def test_what_only_dropped_nodes_needed_is_pruned_back_to_its_root():
    absent = {"image_url": (), "image2_url": ("2", "3")}

    graph = render(workflow(images=absent), {}, images=ONE, prefix="p")

    assert graph.keys() == GRAPH.keys() - {"2", "3", "8"}
    assert graph["4"]["inputs"] == {"image1": ["1", 0], "text": ""}


def test_pruning_goes_on_until_nothing_useless_is_left():
    chain = {
        **GRAPH,
        "8": node("Size", value=["9", 0]),
        "9": node("Size", value=["10", 0]),
        "10": node("Size", value=1),
    }
    absent = {"image_url": (), "image2_url": ("2", "3")}

    graph = render(workflow(chain, absent), {}, images=ONE, prefix="p")

    assert not {"8", "9", "10"} & graph.keys()


def test_what_others_still_need_is_not_pruned():
    shared = {**GRAPH, "11": node("Save", size=["8", 0])}
    absent = {"image_url": (), "image2_url": ("2", "3")}

    graph = render(workflow(shared, absent), {}, images=ONE, prefix="p")

    assert "8" in graph


def test_a_node_that_nobody_used_from_the_start_stays():
    assert "6" in rendered(images=ONE)


def test_an_output_stays_even_when_its_last_consumer_goes():
    absent = {"image_url": (), "image2_url": ("2", "3")}

    graph = render(workflow(images=absent, outputs={"size": "8"}), {}, images=ONE, prefix="p")

    assert "8" in graph


def test_every_node_that_saves_has_a_prefix_of_its_own():
    graph = rendered()

    assert graph["5"]["inputs"]["filename_prefix"] == "jobs/17/5"
    assert graph["7:1"]["inputs"]["filename_prefix"] == "jobs/17/7_1"
    assert "filename_prefix" not in graph["4"]["inputs"]


def test_rendering_leaves_the_workflow_untouched_and_shares_nothing_with_it():
    recipe = workflow(deepcopy(GRAPH))

    graph = render(recipe, {"text": "hello"}, images=ONE, prefix="p")
    graph["4"]["inputs"]["image1"][0] = "changed"

    assert recipe.graph == GRAPH


@st.composite
def workflows(draw):
    """Random graphs without cycles: each node may link to the nodes before it."""
    count = draw(st.integers(2, 9))
    graph = {}
    for n in range(1, count + 1):
        used = draw(st.sets(st.integers(1, n - 1))) if n > 1 else set()
        graph[str(n)] = node("Node", image="x", **{f"in{u}": [str(u), 0] for u in sorted(used)})
    some_nodes = st.sets(st.integers(1, count - 1).map(str), min_size=1)
    absent = {name: tuple(sorted(draw(some_nodes))) for name in ("image2_url", "image3_url")}
    return workflow_of(graph, absent, str(count))


def workflow_of(graph, images, output):
    return Workflow(
        "test", "Test", "A test.", {}, graph,
        {name: (Binding(nodes[0], "Node", "image"),) for name, nodes in images.items()},
        images, None, {"image": output}, "png", {}, None, "0" * 12,
    )  # fmt: skip


@given(workflows(), st.sets(st.sampled_from(["image2_url", "image3_url"])))
def test_no_link_dangles_and_nothing_useless_stays_whichever_pictures_are_absent(recipe, given_):
    graph = render(recipe, {}, images=dict.fromkeys(given_, "f.png"), prefix="p")

    gone = {n for name, nodes in recipe.images.items() if name not in given_ for n in nodes}
    served = sources(recipe.graph) - set(recipe.outputs.values())
    assert sources(graph) <= graph.keys() <= recipe.graph.keys() - gone
    assert graph.keys() & served <= sources(graph)
    assert set(recipe.outputs.values()) <= graph.keys()


@given(workflows())
def test_nothing_leaves_the_graph_when_every_picture_is_given(recipe):
    graph = render(recipe, {}, images=dict.fromkeys(recipe.images, "f.png"), prefix="p")

    assert graph.keys() == recipe.graph.keys()
    assert sources(graph) == sources(recipe.graph)
