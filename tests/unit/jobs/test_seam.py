"""The seam to ComfyUI: how a prompt is queued, what is refused, and the process around it."""

import asyncio
import threading
from types import SimpleNamespace

import pytest
from unified_api.jobs.errors import (
    WorkflowInvalid,
)

from ..fake_host import until
from ..planted_comfyui import GRAPH, OldQueue, Planted, until_swept

# The queue


async def test_a_queue_item_has_six_fields_where_secrets_are_kept_apart(run, planted):
    await run()

    ((number, prompt_id, graph, extra, outputs, secrets),) = planted.queue.queue
    assert (number, prompt_id, graph, outputs, secrets) == (7, "p", GRAPH, ["1"], {})
    assert extra["create_time"] > 1_600_000_000_000


class TestBeforeSecretsWereKeptApart:
    @pytest.fixture
    def planted(self, tmp_path):
        for name in ("output", "temp", "input"):
            (tmp_path / name).mkdir()
        return Planted(tmp_path, OldQueue())

    async def test_a_queue_item_has_five_fields(self, run, planted):
        await run()

        assert [len(item) for item in planted.queue.queue] == [5]

    async def test_a_server_without_metadata_of_its_clients_is_fine(self, planted, seam):
        del planted.server.sockets_metadata
        host = seam.ComfyUI()

        host.start()

        assert len(planted.server.sockets) == 1

    async def test_an_end_is_told(self, run, finish):
        task = await run()
        await finish()

        assert (await task).failure is None


async def test_every_prompt_gets_the_next_number(run, planted):
    await run("a")
    await run("b")

    assert [item[0] for item in planted.queue.queue] == [7, 8]
    assert planted.server.number == 9


async def test_we_are_the_client_of_our_prompts(run, planted):
    await run()

    (client_id,) = planted.server.sockets
    assert planted.queue.queue[0][3]["client_id"] == client_id
    assert client_id in planted.server.sockets_metadata


async def test_comfyui_is_idle_when_it_has_nothing_to_run(run, host, planted):
    assert host.is_idle
    await run()
    assert not host.is_idle
    planted.queue.begin()
    assert not host.is_idle


# What ComfyUI accepts


NODE_ERROR = {
    "class_type": "Draw",
    "dependent_outputs": ["9"],
    "errors": [
        {
            "type": "value_not_in_list",
            "message": "Value not in list",
            "details": "vae: 'a' not in ['/models/secret.pt']",
            "extra_info": {"input_config": ["/models/secret.pt"]},
        }
    ],
}


@pytest.mark.parametrize(
    "verdict",
    [
        (False, {"message": "Prompt outputs failed", "details": "secret"}, [], {"1": NODE_ERROR}),
        # ComfyUI would run the rest and call that a success.
        (True, None, ["9"], {"1": NODE_ERROR}),
    ],
)
async def test_a_refused_node_is_named_without_the_details(run, planted, verdict):
    planted.verdict = verdict

    with pytest.raises(WorkflowInvalid) as refused:
        await (await run())

    assert (refused.value.node_id, refused.value.node_class) == ("1", "Draw")
    assert str(refused.value) == "ComfyUI refused node 1 (Draw): Value not in list."
    assert planted.queue.queue == []


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ((False, {"message": "Prompt has no outputs", "details": "secret"}, [], {}), "no outputs"),
        ((False, "a text", [], []), "ComfyUI refused the workflow"),
        ((False, None, [], {}), "ComfyUI refused the workflow"),
        (RecursionError("secret"), "ComfyUI refused the workflow"),
        (TypeError("secret"), "ComfyUI refused the workflow"),
    ],
)
async def test_a_refused_graph_is_told_without_the_details(run, planted, verdict, text):
    planted.verdict = verdict

    with pytest.raises(WorkflowInvalid, match=text) as refused:
        await (await run())

    assert "secret" not in str(refused.value)


async def test_replacements_of_nodes_are_applied_where_comfyui_has_them(run, planted):
    replaced = []
    planted.server.node_replace_manager = SimpleNamespace(apply_replacements=replaced.append)

    await run()

    assert replaced == [GRAPH]


# The process


@pytest.mark.parametrize(
    ("listen", "url", "is_local"),
    [
        ("127.0.0.1", "http://127.0.0.1:8188", True),
        ("127.0.0.2", "http://127.0.0.1:8188", True),
        ("localhost", "http://127.0.0.1:8188", True),
        ("::1", "http://127.0.0.1:8188", True),
        ("127.0.0.1,::1", "http://127.0.0.1:8188", True),
        ("0.0.0.0", "http://127.0.0.1:8188", False),
        ("0.0.0.0,::", "http://127.0.0.1:8188", False),
        ("10.0.0.1", "http://10.0.0.1:8188", False),
        ("127.0.0.1, 10.0.0.1", "http://127.0.0.1:8188", False),
        ("fd00::1", "http://[fd00::1]:8188", False),
        ("gpu.example", "http://gpu.example:8188", False),
        ("", "http://:8188", False),
    ],
)
def test_the_address_tells_who_can_reach_us(seam, planted, listen, url, is_local):
    planted.args.listen = listen

    host = seam.ComfyUI()

    assert host.is_local == is_local
    if listen:
        assert host.url == url


def test_with_a_certificate_the_address_is_https(seam, planted):
    planted.args.tls_keyfile, planted.args.tls_certfile = "key", "certificate"

    assert seam.ComfyUI().url == "https://127.0.0.1:8188"


def test_without_its_worker_comfyui_has_a_problem(seam):
    stop = threading.Event()
    worker = threading.Thread(target=stop.wait, name="Thread-1 (prompt_worker)")
    host = seam.ComfyUI()
    assert "Restart ComfyUI" in host.problem

    worker.start()
    problem = host.problem
    stop.set()
    worker.join()

    assert problem is None


class TestAHopelessProcess:
    """Its worker thread is dead from the start."""

    @pytest.fixture
    def hopeless(self, seam):
        """Start one; the statuses that it would end with."""

        def start(release, *, exit_on_hang=True, seconds=60.0):
            statuses = []
            host = seam.ComfyUI(exit_on_hang=exit_on_hang, sweep_seconds=0.01)
            host.on_hopeless(release, seconds=seconds, leave=statuses.append)
            host.start()
            return host, statuses

        return start

    async def test_is_ended_for_its_supervisor_after_what_it_holds_is_handed_back(
        self, hopeless, caplog
    ):
        released = []

        async def release():
            released.append(list(statuses))

        host, statuses = hopeless(release)
        await until(lambda: statuses)

        assert statuses[0] == 70
        assert released[0] == []
        assert "supervisor" in host.problem
        assert host.problem in caplog.text

    @pytest.mark.parametrize("failure", ["raises", "hangs"])
    async def test_is_ended_also_if_nothing_can_be_handed_back(self, hopeless, failure):
        async def release():
            if failure == "raises":
                raise RuntimeError("no network")
            await asyncio.Event().wait()

        _, statuses = hopeless(release, seconds=0.05)
        await until(lambda: statuses)

        assert statuses[0] == 70

    async def test_is_ended_also_if_comfyui_cannot_be_read_any_more(self, hopeless, planted):
        async def release():
            pass

        del planted.queue.history
        _, statuses = hopeless(release)
        await until(lambda: statuses)

        assert statuses[0] == 70

    async def test_is_left_alone_where_nobody_would_start_it_again(self, hopeless, caplog, planted):
        async def release():
            pass

        host, statuses = hopeless(release, exit_on_hang=False)
        await until(lambda: "worker thread has died" in caplog.text)
        for _ in range(5):
            await until_swept(planted)

        assert statuses == []
        assert caplog.text.count("worker thread has died") == 1
        assert "UNIFIED_API_EXIT_ON_HANG" in host.problem


async def test_a_start_that_fails_does_not_stop_comfyui(seam, planted, aiohttp_client, caplog):
    async def fail():
        raise RuntimeError("our own fault")

    seam.ComfyUI().on_startup(fail)

    await aiohttp_client(planted.server.app)

    assert "could not start" in caplog.text


async def test_a_start_is_called_once_before_anything_is_served(seam, planted, aiohttp_client):
    calls = []

    async def start():
        calls.append(1)

    seam.ComfyUI().on_startup(start)
    await aiohttp_client(planted.server.app)

    assert calls == [1]


@pytest.mark.parametrize("last", [True, False])
async def test_what_is_to_come_last_does_and_what_is_not_keeps_its_place(
    seam, planted, aiohttp_client, last
):
    calls, app = [], planted.server.app

    async def start():
        calls.append("ours")

    async def other(_app):
        calls.append("theirs")

    seam.ComfyUI().on_startup(start, last=last)
    app.on_startup.append(other)
    await asyncio.sleep(2 * seam.LOADING_LOOK_SECONDS)
    await aiohttp_client(app)

    assert calls == (["theirs", "ours"] if last else ["ours", "theirs"])


async def test_the_plugin_has_no_nodes(seam):
    assert await seam.extension_without_nodes().get_node_list() == []


def test_the_folders_are_comfyuis(seam, planted):
    host = seam.ComfyUI()

    folders = [host.user_folder, host.input_folder, host.output_folder]
    assert folders == [planted.folder / name for name in ("user", "input", "output")]
