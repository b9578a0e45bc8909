"""The shipped workflows keep the contract of their callers and render sound graphs."""

from itertools import chain, combinations

import pytest
from unified_api.workflows import LIBRARY, Catalog, render

IMAGE = {"image_url": "https://example.com/a.png"}
CAMERA, EDIT, RESIZE = "camera-angle", "qwen-image-edit", "image-resize"


@pytest.fixture(scope="module")
def catalog():
    return Catalog([LIBRARY])


def rendered(workflow, parameters, images):
    complete = workflow.complete(parameters, seed=7)
    assert workflow.violations(complete) == []
    files = {name: f"unified_api/{name}.png" for name in images}
    return render(workflow, complete, images=files, prefix="unified_api/job")


def of_class(graph, class_type):
    return {n: each["inputs"] for n, each in graph.items() if each["class_type"] == class_type}


def only(graph, class_type):
    (inputs,) = of_class(graph, class_type).values()
    return inputs


def sources(graph):
    values = [value for each in graph.values() for value in each["inputs"].values()]
    return {value[0] for value in values if isinstance(value, list)}


def test_all_shipped_definitions_are_sound(catalog):
    assert dict(catalog.broken) == {}
    assert set(catalog.workflows) == {CAMERA, EDIT, RESIZE}


@pytest.mark.parametrize(
    ("slug", "fields", "required", "defaults"),
    [
        (
            CAMERA,
            ["image_url", "prompt", "vertical", "horizontal", "zoom", "seed", "steps"],
            ["image_url"],
            {"vertical": 0, "horizontal": 0, "zoom": 0, "steps": 8},
        ),
        (
            EDIT,
            [
                *["image_url", "image2_url", "image3_url", "prompt", "seed", "steps", "cfg"],
                *["sampler_name", "scheduler", "denoise"],
            ],
            ["image_url", "prompt"],
            {"steps": 4, "cfg": 1, "sampler_name": "sa_solver", "scheduler": "beta", "denoise": 1},
        ),
        (
            RESIZE,
            ["image_url", "width", "height", "upscale_method", "crop"],
            ["image_url"],
            {"width": 512, "height": 512, "upscale_method": "lanczos", "crop": "disabled"},
        ),
    ],
)
def test_a_shipped_workflow_takes_the_fields_of_its_contract(
    catalog, slug, fields, required, defaults
):
    schema = catalog.get(slug).schema

    properties = schema["properties"]
    found = {name: each["default"] for name, each in properties.items() if "default" in each}
    assert list(properties) == fields
    assert schema["required"] == required
    assert found == defaults


@pytest.mark.parametrize("slug", [CAMERA, EDIT, RESIZE])
def test_every_field_explains_itself(catalog, slug):
    properties = catalog.get(slug).schema["properties"]

    assert [name for name, each in properties.items() if not each.get("description")] == []


@pytest.mark.parametrize("slug", [CAMERA, EDIT, RESIZE])
def test_callers_that_send_null_for_every_optional_field_are_served(catalog, slug):
    workflow = catalog.get(slug)
    nulls = dict.fromkeys(workflow.schema["properties"])

    assert (
        workflow.violations({**nulls, **IMAGE, **({"prompt": "x"} if slug == EDIT else {})}) == []
    )


@pytest.mark.parametrize("slug", [CAMERA, EDIT, RESIZE])
def test_no_link_dangles_whichever_optional_pictures_are_given(catalog, slug):
    workflow = catalog.get(slug)
    optional = [name for name, nodes in workflow.images.items() if nodes]
    subsets = chain.from_iterable(combinations(optional, n) for n in range(len(optional) + 1))

    for given in subsets:
        graph = rendered(workflow, {**IMAGE, "prompt": "x"}, ["image_url", *given])

        assert sources(graph) <= graph.keys()
        assert graph.keys() - sources(graph) == set(workflow.outputs.values())
        assert len(of_class(graph, "LoadImage")) == 1 + len(given)


@pytest.mark.parametrize(
    ("given", "encoded"),
    [
        ([], {"image1"}),
        (["image2_url"], {"image1", "image2"}),
        (["image3_url"], {"image1", "image3"}),
        (["image2_url", "image3_url"], {"image1", "image2", "image3"}),
    ],
)
def test_qwen_image_edit_encodes_exactly_the_pictures_that_were_given(catalog, given, encoded):
    workflow = catalog.get(EDIT)

    graph = rendered(workflow, {**IMAGE, "prompt": "a garden"}, ["image_url", *given])

    encoders = of_class(graph, "TextEncodeQwenImageEditPlus")
    positive, negative = (encoders[only(graph, "KSampler")[n][0]] for n in ("positive", "negative"))
    loaded = {n: graph[positive[n][0]]["inputs"]["image"] for n in encoded}
    assert positive["prompt"] == "a garden"
    assert {name for name in positive if name.startswith("image")} == encoded
    assert loaded["image1"] == "unified_api/image_url.png"
    assert all(file.startswith(f"unified_api/{n}_url") for n, file in loaded.items() if n[-1] > "1")
    assert (negative["prompt"], {"image1", "image2", "image3"} & negative.keys()) == ("", set())
    assert positive["vae"] == negative["vae"]


def test_qwen_image_edit_hands_the_sampler_what_was_asked(catalog):
    asked = {"seed": 2**64 - 1, "steps": 6, "cfg": 2.5, "denoise": 0.5}
    asked |= {"sampler_name": "euler", "scheduler": "simple"}

    graph = rendered(catalog.get(EDIT), {**IMAGE, "prompt": "x", **asked}, ["image_url"])

    assert {name: only(graph, "KSampler")[name] for name in asked} == asked
    assert only(graph, "ImageScaleToTotalPixels")["resolution_steps"] == 1


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"horizontal": -2}, "将镜头向左旋转90度"),
        ({"horizontal": -1}, "将镜头向左旋转45度"),
        ({"horizontal": 1}, "将镜头向右旋转45度"),
        ({"horizontal": 2}, "将镜头向右旋转90度"),
        ({"vertical": -2}, "extreme low angle"),
        ({"vertical": -1}, "slightly low"),
        ({"vertical": 1}, "slightly high"),
        ({"vertical": 2}, "将镜头转为俯视"),
        ({"zoom": -1}, "将镜头拉远"),
        ({"zoom": 1}, "将镜头向前移动"),
        ({}, "保持原样"),
    ],
)
def test_camera_numbers_become_words(catalog, numbers, words):
    graph = rendered(catalog.get(CAMERA), {**IMAGE, **numbers}, ["image_url"])

    encoders = of_class(graph, "TextEncodeQwenImageEditPlus")
    assert words in encoders[only(graph, "KSampler")["positive"][0]]["prompt"]
    assert encoders[only(graph, "KSampler")["negative"][0]]["prompt"] == ""


def test_camera_words_come_in_a_fixed_order(catalog):
    prompt = catalog.get(CAMERA).complete(
        {**IMAGE, "zoom": 1, "vertical": 2, "horizontal": -1}, seed=0
    )["prompt"]

    assert prompt.index("旋转") < prompt.index("俯视") < prompt.index("向前")


def test_a_prompt_for_the_camera_wins_over_its_numbers(catalog):
    values = catalog.get(CAMERA).complete({**IMAGE, "prompt": "up", "zoom": 1}, seed=0)

    assert values["prompt"] == "up"


def test_the_camera_scales_once_for_latent_and_both_encoders(catalog):
    graph = rendered(catalog.get(CAMERA), IMAGE, ["image_url"])

    (scale,) = of_class(graph, "ImageScaleToTotalPixels")
    encoders = of_class(graph, "TextEncodeQwenImageEditPlus").values()
    assert [encoder["image1"][0] for encoder in encoders] == [scale, scale]
    assert only(graph, "VAEEncode")["pixels"][0] == scale


def test_image_resize_needs_no_model_and_binds_what_was_asked(catalog):
    asked = {"width": 64, "height": 32, "upscale_method": "area", "crop": "center"}

    graph = rendered(catalog.get(RESIZE), {**IMAGE, **asked}, ["image_url"])

    assert catalog.get(RESIZE).models == {}
    assert {name: only(graph, "ImageScale")[name] for name in asked} == asked
    assert only(graph, "SaveImage")["filename_prefix"].startswith("unified_api/job/")


@pytest.mark.parametrize("slug", [CAMERA, EDIT])
def test_whoever_lacks_a_model_learns_its_file_folder_and_source(catalog, slug):
    workflow = catalog.get(slug)

    for slot in workflow.models.values():
        file = workflow.graph[slot.binding.node]["inputs"][slot.binding.input]
        assert file.endswith(".safetensors")
        assert slot.source.endswith(file)
        assert slot.folder
