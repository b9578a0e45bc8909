"""What ComfyUI makes of pictures and files: handed over, loaded ahead, saved."""

import asyncio

import pytest
import torch
from unified_api.jobs.prompt import Prompt

from ..fake_host import until
from ..planted_comfyui import ERROR, FOLDER, SUCCESS, entry

# Pictures that are handed over

SAVING = {
    "1": {"class_type": "Draw", "inputs": {}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": FOLDER}},
}


@pytest.fixture
def hand_over(planted):
    """Run the node that hands over, as the worker does, for the first prompt that waits."""

    async def run_node(node_id="9", pictures=1):
        graph = planted.queue.queue[0][2]
        node = planted.node_classes[graph["9"]["class_type"]]()
        given = {"images": torch.zeros((pictures, 4, 6, 3)), "node_id": node_id}
        prompt_id = graph["9"]["inputs"]["prompt_id"]
        return await asyncio.to_thread(node.hand_over, prompt_id=prompt_id, **given)

    return run_node


async def test_pictures_come_as_they_are_instead_of_files(run, finish, hand_over):
    task = await run(graph=SAVING)

    told = await hand_over(pictures=2)
    await finish({"9": told["ui"]})

    first, second = (await task).produced
    assert first.content.size == second.content.size == (6, 4)
    assert (first.node_id, first.is_preview) == ("9", False)


async def test_what_was_handed_over_and_what_was_saved_keep_the_order_of_their_nodes(
    run, finish, hand_over, saved
):
    saved(f"{FOLDER}/a.mp4")
    saved(f"{FOLDER}/b.mp4")
    task = await run(graph=SAVING)

    told = await hand_over()
    films = {
        node_id: {"videos": [entry(name)]} for node_id, name in (("5", "a.mp4"), ("12", "b.mp4"))
    }
    await finish({"5": films["5"], "9": told["ui"], "12": films["12"]})

    assert [each.node_id for each in (await task).produced] == ["5", "9", "12"]


async def test_pictures_of_a_prompt_that_failed_are_not_kept(run, finish, hand_over):
    task = await run(graph=SAVING)

    told = await hand_over()
    await finish({"9": told["ui"]}, status=ERROR)

    assert (await task).produced == ()


async def test_pictures_that_nobody_waits_for_are_dropped(run, hand_over, planted):
    task = await run(graph=SAVING)
    item = planted.queue.begin()
    task.cancel()
    await asyncio.wait({task})

    planted.queue.queue.append(planted.queue.currently_running[item])
    told = await hand_over()

    assert told["ui"]["handed_over"] == [{"width": 6, "height": 4}]


async def test_the_sweep_finds_pictures_too(run, hand_over, planted):
    task = await run(graph=SAVING)
    told = await hand_over()

    item = planted.queue.queue.pop()
    planted.queue.history[item[1]] = {"outputs": {"9": told["ui"]}, "status": SUCCESS._asdict()}

    assert len((await task).produced) == 1


async def test_the_graph_that_was_given_stays_as_it_is(run, planted):
    await run(graph=SAVING)

    assert SAVING["9"]["class_type"] == "SaveImage"
    assert planted.queue.queue[0][2]["9"]["class_type"] == "SaveImage (Unified API)"


async def test_a_saveimage_of_somebody_else_is_left_alone(run, planted):
    planted.node_classes["SaveImage"] = object()

    await run(graph=SAVING)

    assert planted.queue.queue[0][2] == SAVING


async def test_comfyui_saves_itself_where_that_is_wanted(seam, planted):
    host = seam.ComfyUI(hands_over=False)
    host.start()

    task = asyncio.ensure_future(host.run(Prompt("p", SAVING, FOLDER, 60.0), lambda *_: None))
    await until(lambda: planted.queue.queue)

    assert planted.queue.queue[0][2] == SAVING
    task.cancel()


# Pictures that are loaded ahead

PICTURE = "unified_api/a.png"
LOADING = {
    "1": {"class_type": "LoadImage", "inputs": {"image": PICTURE}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "3": {"class_type": "Draw", "inputs": {"image": ["1", 0]}},
}


@pytest.fixture
def input_picture(saved, picture):
    return lambda name=PICTURE: saved(name, "input", picture("teal"))


@pytest.fixture
def given(planted):
    """What the node in LoadImage's place gives, in a thread as the worker is one."""

    async def give(name=PICTURE):
        node = planted.node_classes["LoadImage (Unified API)"]()
        return await asyncio.to_thread(node.give, image=name)

    return give


async def test_pictures_of_ours_are_loaded_ahead(run, given, planted, input_picture):
    input_picture()

    await run(graph=LOADING)

    graph = planted.queue.queue[0][2]
    assert graph["1"] == {"class_type": "LoadImage (Unified API)", "inputs": {"image": PICTURE}}
    assert (graph["2"], graph["3"]) == (LOADING["2"], LOADING["3"])
    assert await given() == (f"pixels of {PICTURE}", f"mask of {PICTURE}")


async def test_a_picture_is_loaded_while_what_comes_first_is_waited_for(
    host, planted, given, input_picture
):
    input_picture()
    gate, is_waited_for = asyncio.Event(), asyncio.Event()

    async def first():
        is_waited_for.set()
        await gate.wait()

    prompt = Prompt("p", LOADING, FOLDER, 60.0)
    task = asyncio.ensure_future(host.run(prompt, lambda *_: None, first=first))
    await is_waited_for.wait()
    await until(lambda: planted.loaded)
    assert not planted.queue.queue

    gate.set()
    await until(lambda: planted.queue.queue)
    assert await given() == (f"pixels of {PICTURE}", f"mask of {PICTURE}")
    task.cancel()


async def test_a_picture_that_cannot_be_loaded_fails_where_it_is_used(run, given, input_picture):
    damaged = input_picture("unified_api/damaged.png").name
    await run(graph={"1": {**LOADING["1"], "inputs": {"image": f"unified_api/{damaged}"}}})

    with pytest.raises(ValueError, match="damaged"):
        await given(f"unified_api/{damaged}")


async def test_a_picture_is_held_no_longer_than_its_job(run, given, finish, input_picture):
    input_picture()
    task = await run(graph=LOADING)
    await finish()
    await task

    with pytest.raises(LookupError):
        await given()


async def test_what_would_take_too_much_memory_is_left_to_comfyui(seam, planted, input_picture):
    input_picture()
    host = seam.ComfyUI(picture_bytes=100)
    host.start()

    task = asyncio.ensure_future(host.run(Prompt("p", LOADING, FOLDER, 60.0), lambda *_: None))
    await until(lambda: planted.queue.queue)

    assert planted.queue.queue[0][2] == LOADING
    task.cancel()


async def test_a_loadimage_of_somebody_else_is_left_alone(run, planted, input_picture):
    input_picture()
    planted.node_classes["LoadImage"] = object()

    await run(graph=LOADING)

    assert planted.queue.queue[0][2] == LOADING


# Files


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"9": {}},
        {"9": None},
        {"9": "text"},
        {"9": {"images": None}},
        {"9": {"images": "a.png"}},
        {"9": {"text": ["a", 1, None, ["a.png"]]}},
        {"9": {"images": [{}]}},
        {"9": {"images": [entry(None)]}},
        {"9": {"images": [entry(7)]}},
        {"9": {"images": [entry("")]}},
        {"9": {"images": [entry("gone.png")]}},
        {"9": {"images": [entry("a\0b.png")]}},
        {"9": {"images": [entry("a" * 5000)]}},
        {"9": {"images": [entry("../../../secret.png")]}},
        {"9": {"images": [entry("secret.png", subfolder="..")]}},
        {"9": {"images": [entry("secret.png", subfolder=None)]}},
        {"9": {"images": [entry("a.png", kind="input", subfolder="")]}},
        {"9": {"images": [entry("a.png", kind="nowhere")]}},
        {"9": {"images": [entry("a.png", kind=["output"])]}},
        {"9": {"images": [entry(FOLDER, subfolder="")]}},
    ],
)
async def test_what_is_no_file_of_comfyuis_is_no_output(run, finish, saved, planted, outputs):
    saved(f"{FOLDER}/a.png")
    saved("a.png", kind="input")
    (planted.folder / "secret.png").write_bytes(b"secret")
    task = await run()

    await finish(outputs)

    assert (await asyncio.wait_for(task, 0.5)).produced == ()


async def test_an_absolute_path_and_a_link_out_of_the_folder_are_no_outputs(
    run, finish, saved, planted
):
    secret = planted.folder / "secret.png"
    secret.write_bytes(b"secret")
    saved(f"{FOLDER}/a.png").with_name("link.png").symlink_to(secret)
    task = await run()

    await finish({"9": {"images": [entry("link.png"), entry(str(secret), subfolder="")]}})

    assert (await task).produced == ()


async def test_files_of_any_kind_and_node_are_outputs(run, finish, saved):
    for name in ("a.png", "b.mp4", "c.glb"):
        saved(f"{FOLDER}/{name}")
    task = await run()

    await finish(
        {
            "9": {"images": [entry("a.png")], "animated": (True,)},
            "10": {"gifs": ({**entry("b.mp4"), "format": "video/h264"},)},
            "5:12": {"3d": [{"filename": f"{FOLDER}/c.glb"}]},
        }
    )

    assert [(file.node_id, file.content.name) for file in (await task).produced] == [
        ("9", "a.png"),
        ("10", "b.mp4"),
        ("5:12", "c.glb"),
    ]


async def test_a_temporary_file_is_a_preview(run, finish, saved):
    saved("a.png", kind="temp")
    task = await run()

    await finish({"9": {"images": [entry("a.png", subfolder="", kind="temp")]}})

    ((file,),) = [(await task).produced]
    assert file.is_preview


async def test_a_file_that_the_next_prompt_may_overwrite_is_copied(run, finish, saved):
    shared = saved("always-the-same.png", content=b"mine")
    task = await run()

    await finish({"9": {"images": [entry(shared.name, subfolder="")]}})

    shared.write_bytes(b"theirs")
    (file,) = (await task).produced
    assert file.content.read_bytes() == b"mine"


async def test_a_failed_prompt_has_no_files(run, finish, saved):
    saved(f"{FOLDER}/a.png")
    task = await run()

    await finish({"9": {"images": [entry("a.png")]}}, ERROR)

    assert (await task).produced == ()
