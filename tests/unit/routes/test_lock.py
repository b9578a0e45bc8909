"""The lock comes first, whatever custom nodes put into ComfyUI's application, or says that not."""

import functools

import aiohttp
import pytest
from aiohttp import web
from unified_api.jobs.health import Component, State
from unified_api.routes import Lock, mount
from unified_api.routes.service import Surface

from .test_listener import KEYRING, SECRET, bearer


@web.middleware
async def hasty(_request, handler):
    return web.Response(text="the editor")


@web.middleware
async def hasty_websocket(request, handler):
    if request.path != "/ws":
        return await handler(request)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("hello")
    await socket.close()
    return socket


@pytest.fixture
def comfyui(engine):
    """An application that is locked and has not started, and its lock."""
    app = web.Application()
    lock = Lock(lambda: app)
    mount(app, engine, Surface("1", keyring=KEYRING, is_locked=True, parts=(lock,)))
    return app, lock


@pytest.fixture
def serve_locked(aiohttp_client, comfyui):
    """Start it, with the lock put first at the end of the startup, as the seam does it."""

    async def start(*later):
        app, lock = comfyui

        async def settle(_app):
            await lock.settle()

        app.on_startup.extend([settle, *later])
        return await aiohttp_client(app)

    return start


async def lock_of(client):
    reply = await client.get("/health", headers=bearer(SECRET))
    return (await reply.json())["components"]["lock"]


async def test_a_middleware_that_was_put_first_comes_after_the_lock(comfyui, serve_locked):
    app, lock = comfyui
    app.middlewares.insert(0, hasty)

    client = await serve_locked()

    assert (await client.get("/")).status == 401
    assert (await client.get("/", headers=bearer(SECRET))).status == 200
    assert lock.component == Component()


async def test_so_does_one_that_answers_a_websocket(comfyui, serve_locked):
    app, _ = comfyui
    app.middlewares.insert(0, hasty_websocket)
    client = await serve_locked()

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws")
    async with client.ws_connect("/ws", headers=bearer(SECRET)) as connection:
        assert await connection.receive_str() == "hello"

    assert refused.value.status == 401


async def test_a_middleware_that_a_startup_puts_first_comes_after_the_lock(comfyui, serve_locked):
    app, _ = comfyui

    async def intrude(app):
        app.middlewares.insert(0, hasty)

    app.on_startup.append(intrude)
    client = await serve_locked()

    assert (await client.get("/")).status == 401


async def test_a_lock_that_was_removed_is_there_again(comfyui, serve_locked):
    app, _ = comfyui
    app.middlewares.clear()

    client = await serve_locked()

    assert (await client.get("/")).status == 401


async def test_the_routes_of_a_sub_application_are_behind_the_lock(comfyui, serve_locked):
    app, _ = comfyui
    inner = web.Application(middlewares=[hasty])
    app.add_subapp("/inner", inner)
    client = await serve_locked()

    assert (await client.get("/inner/x")).status == 401
    assert (await client.get("/inner/x", headers=bearer(SECRET))).status == 200


async def test_what_comes_first_after_all_is_named_in_health_and_log(serve_locked, caplog):
    async def intrude(app):
        app.middlewares.insert(0, hasty_websocket)

    client = await serve_locked(intrude)
    told = await lock_of(client)

    assert told["status"] == "degraded"
    assert "test_lock.hasty_websocket comes before the lock" in told["reason"]
    assert "UNIFIED_API_PROTECT=all does not hold" in caplog.text


async def test_a_lock_that_holds_is_logged(serve_locked, caplog):
    caplog.set_level("INFO")

    await serve_locked()

    assert "ComfyUI is locked" in caplog.text


async def test_a_wrapper_around_all_requests_is_named(comfyui, serve_locked, monkeypatch):
    original = web.Application._handle

    @functools.wraps(original)
    async def wrapper(self, request):
        return await original(self, request)

    monkeypatch.setattr(web.Application, "_handle", wrapper)
    told = await lock_of(await serve_locked())

    assert told["status"] == "degraded"
    assert "comes before the lock" in told["reason"]


async def test_an_application_around_the_locked_one_is_told(engine, aiohttp_client):
    app, outer = web.Application(), web.Application(middlewares=[hasty_websocket])
    served = [app]
    lock = Lock(lambda: served[0])
    mount(app, engine, Surface("1", keyring=KEYRING, is_locked=True, parts=(lock,)))
    outer.add_subapp("/comfyui", app)
    served[0] = outer
    lock.put_first()

    client = await aiohttp_client(outer)

    assert (await client.get("/comfyui/prompt")).status == 401
    assert lock.component.state is State.DEGRADED
    assert "another web application" in lock.component.reason


@pytest.mark.parametrize(
    "module", ["/a/secret place/custom_nodes/a_node", r"C:\a\custom_nodes\a_node", "a_node"]
)
async def test_no_path_is_told_of_what_comes_first(serve_locked, module):
    async def intrude(app):
        @web.middleware
        async def middleware(request, handler):
            return await handler(request)

        middleware.__module__ = module
        middleware.__qualname__ = "middleware\r\x1b[2J"
        app.middlewares.insert(0, middleware)

    told = await lock_of(await serve_locked(intrude))

    assert r" a_node.middleware\r\x1b[2J comes before the lock" in told["reason"]
