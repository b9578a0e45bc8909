"""The key command, as a user calls it, and the service that reads what it wrote."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from unified_api.jobs.keys import Key, Scope
from unified_api.routes.auth import Keyring

from .machine import SOMEBODY, needs_root

ROOT = Path(__file__).resolve().parents[3]


class Clone:
    """A clone of ours in some folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        shutil.copy(ROOT / "install.sh", folder)

    def key(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
        return subprocess.run(
            [self.folder / "install.sh", "key", *arguments],
            cwd=self.folder.parent,
            env={**inherited, **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    return tmp_path / "user"


def make_comfyui(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("main.py", "nodes.py"):
        (folder / name).touch()
    return folder


def keys_in(user_folder: Path) -> Path:
    return user_folder / "unified_api" / "keys.json"


def keyring_of(user_folder: Path) -> Keyring:
    """As the service has it after its next request."""
    keyring = Keyring(file=keys_in(user_folder))
    asyncio.run(keyring.refresh())
    return keyring


def test_a_key_is_printed_alone_and_opens(clone: Clone, user_folder: Path) -> None:
    made = clone.key("add", "ci", "--user-folder", str(user_folder))

    secret = made.stdout.removesuffix("\n")
    assert made.returncode == 0
    assert re.fullmatch(r"uak_[A-Za-z0-9_-]{43}", secret)
    caller = keyring_of(user_folder).find(secret.encode())
    assert caller is not None
    assert (caller.name, caller.scopes) == ("ci", {Scope.SUBMIT, Scope.READ, Scope.CANCEL})


def test_a_key_is_kept_as_a_hash_and_for_the_owner_alone(clone: Clone, user_folder: Path) -> None:
    secret = clone.key("add", "ci", "--user-folder", str(user_folder)).stdout.strip()

    file = keys_in(user_folder)
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in file.parent.iterdir()} == {"keys.json", "keys-required.json"}


def test_the_folder_of_the_first_key_is_for_its_owner_alone(
    clone: Clone, user_folder: Path
) -> None:
    clone.key("add", "ci", "--user-folder", str(user_folder))

    assert stat.S_IMODE(keys_in(user_folder).parent.stat().st_mode) == 0o700


@needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_user_folder(
    clone: Clone, user_folder: Path
) -> None:
    user_folder.mkdir()
    os.chown(user_folder, SOMEBODY, SOMEBODY)

    clone.key("add", "ci", "--user-folder", str(user_folder))

    file = keys_in(user_folder)
    assert [path.stat().st_uid for path in (file.parent, file)] == [SOMEBODY, SOMEBODY]


def test_the_template_takes_keys_of_every_scope() -> None:
    template = (ROOT / "deploy" / "cloudformation.yaml").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'ApiKeys:\n.*\n.*\n    AllowedPattern: "(.*)"', template)

    for scope in (*(one.value for one in Scope), "read+read-all"):
        assert re.fullmatch(pattern, f"a:{scope}:{'0' * 64}, b:{scope}:{'1' * 64}")


def test_the_list_shows_keys_as_the_setting_takes_them(clone: Clone, user_folder: Path) -> None:
    at = ("--user-folder", str(user_folder))
    secret = clone.key("add", "a", *at, "--scopes", "admin").stdout.strip()
    clone.key("add", "b", *at, "--scopes", "read, submit,read")
    clone.key("add", "c", *at, "--scopes", "read-all,cancel")

    listed = clone.key("list", *at).stdout

    parsed = [Key.parse(line) for line in listed.splitlines()]
    assert [(key.name, key.scopes) for key in parsed] == [
        ("a", {Scope.ADMIN}),
        ("b", {Scope.READ, Scope.SUBMIT}),
        ("c", {Scope.READ_ALL, Scope.CANCEL}),
    ]
    assert secret not in listed
    found = Keyring(parsed).find(secret.encode())
    assert found is not None
    assert found.name == "a"


def test_a_revoked_key_opens_nothing_and_the_others_stay(clone: Clone, user_folder: Path) -> None:
    at = ("--user-folder", str(user_folder))
    kept, gone = [clone.key("add", n, *at).stdout.strip().encode() for n in ("kept", "gone")]
    assert keyring_of(user_folder).find(gone)

    done = clone.key("revoke", "gone", *at)

    keyring = keyring_of(user_folder)
    assert done.returncode == 0
    assert keyring.find(gone) is None
    assert keyring.find(kept)


def test_a_renewed_key_opens_beside_the_former_until_that_is_revoked(
    clone: Clone, user_folder: Path
) -> None:
    at = ("--user-folder", str(user_folder))
    clone.key("add", "other", *at)
    former = clone.key("add", "ci", *at, "--scopes", "read").stdout.strip().encode()

    new = clone.key("renew", "ci", *at).stdout.strip().encode()
    keyring = keyring_of(user_folder)
    both = [keyring.find(former), keyring.find(new)]
    clone.key("revoke", "ci", *at, "--former")
    keyring = keyring_of(user_folder)
    after = [keyring.find(former), keyring.find(new)]

    assert both[0] == both[1] == after[1]
    assert (both[0].name, both[0].scopes) == ("ci", {Scope.READ})  # type: ignore[union-attr]
    assert after[0] is None
    assert len(json.loads(keys_in(user_folder).read_text())) == 2


def test_without_its_last_key_the_door_stays_shut(clone: Clone, user_folder: Path) -> None:
    at = ("--user-folder", str(user_folder))
    clone.key("add", "ci", *at)

    done = clone.key("revoke", "ci", *at)

    assert "every request is refused" in done.stdout
    assert "key open" in done.stdout
    assert keyring_of(user_folder).is_required


@pytest.mark.parametrize("verb", [("add", "ci"), ("add", "ci", "--scopes", "admin")])
def test_a_file_that_vanishes_leaves_keys_required(
    clone: Clone, user_folder: Path, verb: tuple[str, ...]
) -> None:
    at = ("--user-folder", str(user_folder))
    clone.key(*verb, *at)
    keys_in(user_folder).unlink()

    listed = clone.key("list", *at)

    assert "every request is refused" in listed.stderr
    assert keyring_of(user_folder).lack


def test_a_folder_that_vanishes_leaves_keys_required(clone: Clone, user_folder: Path) -> None:
    clone.key("add", "ci", "--user-folder", str(user_folder))
    shutil.rmtree(keys_in(user_folder).parent)

    assert keyring_of(user_folder).lack


def test_one_command_does_away_with_keys(clone: Clone, user_folder: Path) -> None:
    at = ("--user-folder", str(user_folder))
    clone.key("add", "ci", *at)

    told = clone.key("open", *at)
    before = keyring_of(user_folder)
    done = clone.key("open", "--yes", *at)
    after = keyring_of(user_folder)

    assert (told.returncode, told.stdout) == (1, "")
    assert "deletes all keys" in told.stderr
    assert "--yes" in told.stderr
    assert (before.is_required, before.lack) == (True, None)
    assert done.returncode == 0
    assert not after.is_required
    assert "No keys remain" not in clone.key("list", *at).stderr


def test_a_key_that_is_made_after_that_is_remembered_again(clone: Clone, user_folder: Path) -> None:
    at = ("--user-folder", str(user_folder))
    clone.key("add", "ci", *at)
    clone.key("open", "--yes", *at)

    clone.key("add", "ci", *at)
    keys_in(user_folder).unlink()

    assert keyring_of(user_folder).lack


def test_a_server_cannot_be_opened_where_there_is_none(clone: Clone, tmp_path: Path) -> None:
    done = clone.key("open", "--yes", "--user-folder", str(tmp_path / "mistyped"))

    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no folder" in done.stderr
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--help"),
        (("make",), "--help"),
        (("add",), "NAME"),
        (("add", "a", "b"), "--help"),
        (("add", "a b"), "letters"),
        (("add", "a:b"), "letters"),
        (("add", ""), "letters"),
        (("add", "a\n"), "letters"),
        (("add", "x" * 65), "letters"),
        (("add", "a", "--scopes", "root"), "--scopes"),
        (("add", "a", "--scopes", ""), "--scopes"),
        (("add", "known"), "renew it"),
        (("renew", "unknown"), "no key"),
        (("revoke", "unknown"), "no key"),
        (("revoke", "known", "--former"), "one key known only"),
        (("open",), "run it again with --yes"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    clone: Clone, user_folder: Path, arguments: tuple[str, ...], word: str
) -> None:
    at = ("--user-folder", str(user_folder))
    clone.key("add", "known", *at)
    before = keys_in(user_folder).read_bytes()

    done = clone.key(*arguments, *(at if arguments else ()))

    assert (done.returncode, done.stdout) == (1, "")
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert keys_in(user_folder).read_bytes() == before


@pytest.mark.parametrize("content", ["{", "null", "[1]", '[{"name": "a"}]', '{"a": 1}'])
@pytest.mark.parametrize("verb", [("list",), ("add", "a"), ("renew", "a"), ("revoke", "a")])
def test_a_damaged_file_is_left_as_it_is(
    clone: Clone, user_folder: Path, content: str, verb: tuple[str, ...]
) -> None:
    keys_in(user_folder).parent.mkdir(parents=True)
    keys_in(user_folder).write_text(content)

    done = clone.key(*verb, "--user-folder", str(user_folder))

    assert (done.returncode, done.stdout) == (1, "")
    assert "is damaged: mend it" in done.stderr
    assert keys_in(user_folder).read_text() == content


def test_a_folder_that_cannot_be_written_is_named(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = clone.key("add", "a", "--user-folder", str(tmp_path / "file"))

    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be" in done.stderr


def test_a_clone_in_custom_nodes_makes_keys_for_that_comfyui(tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "Comfy UI")
    clone = Clone(comfyui / "custom_nodes" / "our plugin")

    clone.key("add", "a")

    assert len(json.loads(keys_in(comfyui / "user").read_text())) == 1


def test_comfyui_path_names_the_comfyui(clone: Clone, tmp_path: Path) -> None:
    comfyui = make_comfyui(tmp_path / "elsewhere")

    clone.key("add", "a", COMFYUI_PATH=str(comfyui))

    assert keys_in(comfyui / "user").exists()


def test_comfyui_path_goes_before_the_comfyui_around(tmp_path: Path) -> None:
    around, named = make_comfyui(tmp_path / "around"), make_comfyui(tmp_path / "named")
    clone = Clone(around / "custom_nodes" / "plugin")

    clone.key("add", "a", COMFYUI_PATH=str(named))

    assert keys_in(named / "user").exists()
    assert not keys_in(around / "user").exists()


def test_a_clone_that_stands_alone_makes_keys_for_serve(clone: Clone) -> None:
    clone.key("add", "a")

    assert keys_in(clone.folder / ".comfyui" / "base" / "user").exists()


SECRET = "uak_" + "x" * 43


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"a:read:{SECRET}",
        f"{SECRET}:read",
        f"a:read:{'0' * 63}",
        f"a:read:{'G' * 64}",
        f"a::{'0' * 64}",
        f"a:read:{'0' * 64}:",
        f"a b:read:{'0' * 64}",
        f"a:read+:{'0' * 64}",
    ],
)
def test_a_key_that_is_none_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="name:scope") as refused:
        Key.parse(text)

    assert SECRET not in str(refused.value)
