"""Keys that vanish: whatever became of them, the door stays shut until the key command opens it."""

import json
import shutil

import pytest
from unified_api.jobs.health import State
from unified_api.routes.auth import Keyring

from .door import JOBS, code_of, key, status_for
from .test_auth import filed


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "user" / "unified_api"
    folder.mkdir(parents=True)
    return folder / "keys.json"


def open_by_command(file):
    """As `key open` leaves the disk."""
    file.unlink(missing_ok=True)
    for record in records_of(file):
        record.write_text(json.dumps({"keys_required": False}))


def records_of(file):
    folder = file.parent
    return folder / "keys-required.json", folder.parent / "unified_api.keys-required.json"


def delete(file):
    file.unlink()


def rename(file):
    file.rename(file.with_name("keys.json.bak"))


def delete_folder(file):
    shutil.rmtree(file.parent)


def put_another_folder(file):
    file.parent.rename(file.parent.with_name("away"))
    file.parent.mkdir()


def put_a_file_for_the_folder(file):
    shutil.rmtree(file.parent)
    file.parent.write_text("")


def leave_a_dead_link(file):
    file.unlink()
    file.symlink_to("nothing")


def empty(file):
    file.write_bytes(b"")


def truncate(file):
    file.write_bytes(file.read_bytes()[:-10])


def revoke_all(file):
    filed(file)


def delete_with_its_record(file):
    file.unlink()
    records_of(file)[0].unlink()


WAYS = [
    *(delete, rename, delete_folder, put_another_folder, put_a_file_for_the_folder),
    *(leave_a_dead_link, empty, truncate, revoke_all, delete_with_its_record),
]


@pytest.mark.parametrize("vanish", WAYS)
@pytest.mark.parametrize("is_restarted", [False, True])
async def test_keys_that_vanish_leave_the_door_shut(door, file, vanish, is_restarted):
    filed(file, key("ann"))
    keyring = Keyring(file=file)
    client = await door(keyring=keyring, is_local=True, is_open=False)
    assert await status_for(client, "ann") == 200

    vanish(file)
    if is_restarted:
        keyring = Keyring(file=file)
        client = await door(keyring=keyring, is_local=True, is_open=False, parts=(keyring,))
    reply = await client.get(JOBS)

    assert await code_of(reply) == (503, "auth_not_configured")
    assert "./install.sh key" in (await reply.json())["detail"]
    assert (await client.get("/ready")).status == 503
    assert keyring.component.state is State.DEGRADED


async def test_keys_that_vanish_are_no_way_round_what_anonymous_callers_may(door, file):
    filed(file, key("ann"))
    client = await door(keyring=Keyring(file=file), is_open=True)
    assert (await client.get(JOBS)).status == 401

    file.unlink()

    assert await code_of(await client.get(JOBS)) == (503, "auth_not_configured")


async def test_why_nobody_comes_in_is_told_by_the_health_to_everybody(door, file):
    filed(file, key("ann"))
    keyring = Keyring(file=file)
    client = await door(keyring=keyring, is_local=True, is_open=False, parts=(keyring,))
    await client.get(JOBS)
    file.unlink()

    health = await (await client.get("/health")).json()

    assert health["status"] == "degraded"
    assert "keys.json is missing" in health["components"]["keys"]["reason"]


@pytest.mark.parametrize("later", [[], [key("bob")]])
async def test_keys_of_the_settings_are_remembered_when_they_are_taken_away(door, file, later):
    await Keyring([key("ann")], file).refresh()

    client = await door(keyring=Keyring(later, file), is_local=True, is_open=False)

    assert (await client.get(JOBS)).status == (401 if later else 503)


async def test_a_file_that_comes_back_counts_again(door, file):
    filed(file, key("ann"))
    client = await door(keyring=Keyring(file=file))
    assert await status_for(client, "ann") == 200
    content = file.read_bytes()
    file.unlink()
    assert await status_for(client, "ann") == 503

    file.write_bytes(content)

    assert await status_for(client, "ann") == 200
    assert await status_for(client, "bob") == 401


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_the_command_opens_the_door_again(door, file, is_restarted):
    filed(file, key("ann"))
    client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)
    assert (await client.get(JOBS)).status == 401

    open_by_command(file)
    if is_restarted:
        client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)

    assert (await client.get(JOBS)).status == 200


async def test_an_opening_of_long_ago_opens_nothing_after_new_keys(door, file):
    open_by_command(file)
    filed(file, key("ann"))
    client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)
    assert (await client.get(JOBS)).status == 401

    file.unlink()

    assert (await client.get(JOBS)).status == 503


async def test_one_record_of_two_keeps_the_door_shut(door, file):
    for kept in (0, 1):
        open_by_command(file)
        records_of(file)[kept].write_text('{"keys_required": true}')

        client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)

        assert (await client.get(JOBS)).status == 503


@pytest.mark.parametrize("content", ["", "{", "null", "[]", '{"keys_required": 0}', "[" * 100_000])
async def test_a_record_that_says_nothing_clear_keeps_the_door_shut(door, file, content):
    records_of(file)[0].write_text(content)

    client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)

    assert (await client.get(JOBS)).status == 503


async def test_a_record_that_cannot_be_made_is_told(door, file):
    for record in records_of(file):
        (record / "full").mkdir(parents=True)
    filed(file, key("ann", ["admin"]))
    keyring = Keyring(file=file)
    client = await door(keyring=keyring, parts=(keyring,))
    assert await status_for(client, "ann") == 200

    assert keyring.component.state is State.DEGRADED
    assert "could not be recorded" in keyring.component.reason


async def test_a_record_that_could_not_be_renewed_opens_nothing(door, file):
    for record in records_of(file):
        (record / "full").mkdir(parents=True)
    filed(file, key("ann"))
    client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)
    assert (await client.get(JOBS)).status == 401

    for record in records_of(file):
        shutil.rmtree(record)
    open_by_command(file)

    # What says that no key is required may be older than the keys.
    assert (await client.get(JOBS)).status == 503


async def test_a_server_that_never_had_keys_is_open_to_its_own_machine(door, file):
    client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)

    assert (await client.get(JOBS)).status == 200
    assert list(file.parent.iterdir()) == []


async def test_a_disk_that_is_away_for_a_moment_closes_nothing_for_good(door, file):
    client = await door(keyring=Keyring(file=file), is_local=True, is_open=False)
    file.symlink_to(file)
    assert (await client.get(JOBS)).status == 503

    file.unlink()

    assert (await client.get(JOBS)).status == 200
