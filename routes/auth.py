"""Who calls: the keys in force, and the key that a request carries."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter

from ..jobs.health import Component, State
from ..jobs.keys import Key, Scope

log = logging.getLogger(__name__)

Stamp = tuple[int, ...]

UNREADABLE: Stamp = ()
PROBLEM = "keys.json cannot be read, so none of its keys opens. `./install.sh key list` says why."

_file_format = TypeAdapter(tuple[Key, ...])


@dataclass(frozen=True)
class Caller:
    """Somebody who came in, and what they may do. Without a name it is anybody."""

    name: str | None = None
    scopes: frozenset[Scope] = frozenset(Scope)

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, owner: str | None) -> bool:
        """Whether the jobs of an owner exist for this caller."""
        return self.may(Scope.ADMIN) or owner == self.name


ANYBODY = Caller()


class Keyring:
    """The keys of the settings and of a file. A change of the file counts from the next request.

    A file without keys, or one that cannot be read, still means that keys are asked for.
    """

    name = "keys"

    def __init__(self, given: Iterable[Key] = (), file: Path | None = None) -> None:
        self._given = tuple(given)
        self._file = file
        self._stamp: Stamp | None = None
        self._filed: tuple[Key, ...] = ()
        self._problem: str | None = None

    @property
    def is_required(self) -> bool:
        """Whether callers need a key at all."""
        self._refresh()
        return bool(self._given) or self._stamp is not None

    @property
    def component(self) -> Component:
        self._refresh()
        return Component(State.DEGRADED, self._problem) if self._problem else Component()

    def find(self, secret: bytes) -> Caller | None:
        """Whose key it is. It takes equally long for every key that is not known."""
        self._refresh()
        digest = sha256(secret).hexdigest()
        found = None
        for key in (*self._given, *self._filed):
            if hmac.compare_digest(key.sha256.encode(), digest.encode()):
                found = Caller(key.name, key.scopes)
        return found

    def _refresh(self) -> None:
        # On the loop: asking a local file for its age is quicker than any way around.
        stamp = _stamp(self._file) if self._file else None
        if stamp == self._stamp or self._file is None:
            return
        self._stamp, self._filed, self._problem = stamp, (), None
        if stamp is not None:
            self._read(self._file)

    def _read(self, file: Path) -> None:
        try:
            self._filed = _file_format.validate_json(file.read_bytes())
        except (OSError, ValueError) as error:
            # Not the message: it may quote a key that somebody put there by mistake.
            log.warning("the key file cannot be read: %s", type(error).__name__)
            self._problem = PROBLEM


def bearer_of(request: web.Request) -> bytes | None:
    """The key in the one Authorization header of a request."""
    found = _credentials(request)
    return found[1] if found and found[0] == "bearer" else None


def basic_of(request: web.Request) -> bytes | None:
    """The password that a browser sent, still encoded together with the user's name."""
    found = _credentials(request)
    return found[1] if found and found[0] == "basic" else None


def _credentials(request: web.Request) -> tuple[str, bytes] | None:
    given = request.headers.getall("Authorization", [])
    if len(given) != 1:
        return None
    scheme, _, rest = given[0].partition(" ")
    return scheme.lower(), rest.strip().encode("utf-8", "replace")


def _stamp(file: Path) -> Stamp | None:
    """Different after every change of a file, its permissions included; None without one."""
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return UNREADABLE
    return (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
