"""Makes, shows and revokes API keys. Only the hash of a key is kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

from .existing import from_users_folder, named_tree, surrounding_tree
from .places import SERVE_BASE
from .report import Failure, Parser, is_root, note, say

SCOPES = ("submit", "read", "cancel", "read-all", "admin")
USUAL_SCOPES = "submit,read,cancel"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
PREFIX = "uak_"
RECORD, REQUIRED = "keys-required.json", "keys_required"
NO_KEYS_REMAIN = (
    "No keys remain: every request is refused until you add one."
    " ./install.sh key open allows requests without keys again."
)
OPENING = (
    "./install.sh key open deletes all keys. Everybody on this machine may then use the API without"
    " one, and with UNIFIED_API_ALLOW_ANONYMOUS=1 everybody who can reach it."
)
SECRET_BYTES = 32

Key = dict[str, Any]


def keys(options: list[str]) -> None:
    """`key add NAME`, `key list`, `key renew NAME`, `key revoke NAME` or `key open --yes`."""
    asked = parser().parse_args(options)
    file = user_folder(asked.user_folder) / "unified_api" / "keys.json"
    if asked.verb == "add":
        add(file, asked.name, scopes_of(asked.scopes))
    elif asked.verb == "list":
        show(file)
    elif asked.verb == "renew":
        renew(file, asked.name)
    elif asked.verb == "open":
        open_server(file, is_confirmed=asked.yes)
    else:
        revoke(file, asked.name, only_former=asked.former)


def add(file: Path, name: str, scopes: list[str]) -> None:
    """Prints the key: the one line on standard output, now and never again."""
    if not NAME.fullmatch(name):
        raise Failure("A key's name has up to 64 letters, digits, dots, dashes and underscores.")
    known = read(file)
    if any(key["name"] == name for key in known):
        raise Failure(f"There is a key {name} already: renew it, or take another name.")
    give(file, known, name, scopes)


def renew(file: Path, name: str) -> None:
    """Prints another key of that name, for the same jobs; the former opens until it is revoked."""
    known = read(file)
    *_, newest = named_in(known, name, file)
    give(file, known, name, newest["scopes"])
    note(f"The former opens too, until ./install.sh key revoke {name} --former")


def give(file: Path, known: list[Key], name: str, scopes: list[str]) -> None:
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    sha256 = hashlib.sha256(secret.encode()).hexdigest()
    made = {"name": name, "scopes": scopes, "sha256": sha256, "created_at": int(time.time())}
    write(file, [*known, made])
    note(f"The key {name} ({', '.join(scopes)}) counts from now on. Keep it: it is shown once.")
    note(f"Its hash is in {file}")
    say(secret)


def show(file: Path) -> None:
    """The keys without their secrets, one a line, as UNIFIED_API_KEYS takes them."""
    known = read(file)
    note(f"{file}: {len(known)} keys")
    if not known and keys_are_required(file):
        note(NO_KEYS_REMAIN)
    for key in known:
        say(f"{key['name']}:{'+'.join(key['scopes'])}:{key['sha256']}")


def revoke(file: Path, name: str, *, only_former: bool) -> None:
    """All keys of that name, or all but the newest."""
    known = read(file)
    named = named_in(known, name, file)
    revoked = named[:-1] if only_former else named
    if not revoked:
        raise Failure(f"There is one key {name} only: ./install.sh key renew {name} makes another.")
    kept = [key for key in known if key not in revoked]
    write(file, kept)
    say(f"The {'former key' if only_former else 'key'} {name} opens nothing any more.")
    if not kept:
        say(NO_KEYS_REMAIN)


def open_server(file: Path, *, is_confirmed: bool) -> None:
    """Delete all keys, and let in callers without one as before the first."""
    if not is_confirmed:
        raise Failure(f"{OPENING} To do it, run it again with --yes.")
    if not file.parent.parent.is_dir():
        raise Failure(f"There is no folder {file.parent.parent}: --user-folder names ComfyUI's.")
    try:
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{file} cannot be deleted: {error.strerror}.") from error
    # Last, so that the server stays closed if one of these fails.
    for record in records_of(file):
        replace(record, {REQUIRED: False})
    say("All keys are deleted, and no key is required any more.")
    note("Keys in UNIFIED_API_KEYS still count: unset it before.")


def named_in(known: list[Key], name: str, file: Path) -> list[Key]:
    """One at least, the newest last."""
    named = [key for key in known if key["name"] == name]
    if not named:
        raise Failure(f"There is no key {name} in {file}: ./install.sh key list shows them.")
    return named


def read(file: Path) -> list[Key]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        if all(key["name"] and key["scopes"] and key["sha256"] for key in known):
            return list(known)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError):
        pass  # The sentence below fits all of them.
    raise Failure(f"{file} is damaged: mend it, or delete it and make the keys again.")


def write(file: Path, known: list[Key]) -> None:
    """Write the keys, and record that they are required whatever becomes of this file."""
    try:
        make_folder(file.parent)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}.") from error
    replace(file, known)
    for record in records_of(file):
        try:
            replace(record, {REQUIRED: True})
        except Failure as failure:
            # The key counts all the same, and the server tries again.
            note(str(failure))


def keys_are_required(file: Path) -> bool:
    """Whether a server without keys refuses everybody, by its key file or a record."""
    return os.path.lexists(file) or any(map(says_required, records_of(file)))


def says_required(record: Path) -> bool:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return os.path.lexists(record)
    return not (isinstance(known, dict) and known.get(REQUIRED) is False)


def records_of(file: Path) -> tuple[Path, Path]:
    """One copy beside the key file, one beside its folder. The server has the same names."""
    folder = file.parent
    return folder / RECORD, folder.parent / f"{folder.name}.{RECORD}"


def replace(file: Path, content: Any) -> None:
    """All or nothing, and for the owner's eyes only."""
    try:
        number, name = tempfile.mkstemp(dir=file.parent, prefix="keys.", suffix=".part")
        with contextlib.closing(os.fdopen(number, "w", encoding="utf-8")) as part:
            json.dump(content, part, indent=2)
            part.flush()
            os.fsync(part.fileno())
        give_to_owner_of(file.parent, Path(name))
        Path(name).replace(file)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}.") from error


def make_folder(folder: Path) -> None:
    """For its owner alone, if it is not there."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        give_to_owner_of(folder.parent, folder)


def give_to_owner_of(folder: Path, made: Path) -> None:
    """ComfyUI could not read what root has made for root alone."""
    if is_root():
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


def user_folder(named: str | None) -> Path:
    """The one that is named, else that of the user's own ComfyUI, else that of `serve`."""
    if named:
        return from_users_folder(named)
    tree = named_tree() or surrounding_tree()
    return (tree or SERVE_BASE) / "user"


def scopes_of(text: str) -> list[str]:
    scopes = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not scopes or not set(scopes) <= set(SCOPES):
        raise Failure(f"--scopes takes some of {', '.join(SCOPES)}, separated by commas.")
    return scopes


def parser() -> Parser:
    shared = Parser(add_help=False, allow_abbrev=False)
    shared.add_argument("--user-folder", metavar="DIR")
    command = Parser("./install.sh key", allow_abbrev=False)
    verbs = command.add_subparsers(dest="verb", required=True)
    adding = verbs.add_parser("add", parents=[shared], allow_abbrev=False)
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("--scopes", default=USUAL_SCOPES)
    verbs.add_parser("list", parents=[shared], allow_abbrev=False)
    renewing = verbs.add_parser("renew", parents=[shared], allow_abbrev=False)
    renewing.add_argument("name", metavar="NAME")
    revoking = verbs.add_parser("revoke", parents=[shared], allow_abbrev=False)
    revoking.add_argument("name", metavar="NAME")
    revoking.add_argument("--former", action="store_true")
    opening = verbs.add_parser("open", parents=[shared], allow_abbrev=False)
    opening.add_argument("--yes", action="store_true")
    return command
