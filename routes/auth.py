"""Who calls: the keys in force, and the key that a request carries."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter

from ..jobs.counted_log import CountedLog
from ..jobs.health import Component, State
from ..jobs.keys import Key, Scope
from ..jobs.threads import in_daemon
from ..workflows import is_passing

log = logging.getLogger(__name__)
failures = CountedLog(log)

Stamp = tuple[int, ...]

READ_SECONDS = 5.0
#: Waited for one after another: a stop of the whole process costs only one of them.
SLICES = 10
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


@dataclass(frozen=True)
class _KeyFile:
    """What was found at the path of the key file. Without a stamp there is no file."""

    stamp: Stamp | None = None
    keys: tuple[Key, ...] = ()
    problem: str | None = None
    #: It could not be read for want of something else, as it may be a moment later.
    is_away: bool = False


UNREADABLE = _KeyFile(stamp=(), problem=PROBLEM)


class Keyring:
    """The keys of the settings and of a file. A change of the file counts from the next request.

    A file without keys, or one that cannot be read, still means that keys are asked for.
    """

    name = "keys"

    def __init__(
        self,
        given: Iterable[Key] = (),
        file: Path | None = None,
        *,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._given = tuple(given)
        self._path = file
        self._read_seconds = read_seconds
        self._file = _KeyFile()
        self._begun: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        #: A read that its disk did not answer in time.
        self._late: asyncio.Future[_KeyFile] | None = None

    @property
    def is_required(self) -> bool:
        """Whether callers need a key at all."""
        return bool(self._given) or self._file.stamp is not None

    @property
    def is_away(self) -> bool:
        """Whether nobody can tell now which keys there are."""
        return self._file.is_away

    @property
    def component(self) -> Component:
        problem = self._file.problem
        return Component(State.DEGRADED, problem) if problem else Component()

    def find(self, secret: bytes) -> Caller | None:
        """Whose key it is. It takes equally long for every key that is not known."""
        digest = sha256(secret).hexdigest()
        found = None
        for key in (*self._given, *self._file.keys):
            if hmac.compare_digest(key.sha256.encode(), digest.encode()):
                found = Caller(key.name, key.scopes)
        return found

    async def refresh(self) -> None:
        """Read the file, if it has changed. Callers at the same moment share one look at it.

        A file whose disk does not answer in time counts as unreadable until it does.
        """
        if self._path is None:
            return
        # Not one that has begun: it may have looked at the file before the latest change.
        if self._next is None:
            self._next = asyncio.ensure_future(self._read_after(self._begun, self._path))
        await asyncio.shield(self._next)

    async def _read_after(self, earlier: asyncio.Task[None] | None, path: Path) -> None:
        if earlier and not earlier.done():
            await asyncio.wait({earlier})
        self._begun, self._next = self._next, None
        self._file = await self._read(path)

    async def _read(self, path: Path) -> _KeyFile:
        if self._late and not await _ends(self._late, seconds=self._read_seconds):
            return UNREADABLE
        # Not what a late read found: the file may have changed since.
        reading = asyncio.ensure_future(in_daemon("unified-api-keys", _key_file, path, self._file))
        is_in_time = await _ends(reading, seconds=self._read_seconds)
        self._late = None if is_in_time else reading
        return reading.result() if is_in_time else UNREADABLE


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


async def _ends(reading: asyncio.Future[_KeyFile], *, seconds: float) -> bool:
    """Whether a read ends in this time. A process that was stopped meanwhile is not its fault."""
    for _ in range(SLICES):
        done, _ = await asyncio.wait({reading}, timeout=seconds / SLICES)
        if done:
            return True
    return False


def _key_file(path: Path, known: _KeyFile) -> _KeyFile:
    """What is at the path now; blocks while its disk is slow."""
    stamp = _stamp(path)
    if stamp == known.stamp:
        return known
    if stamp is None:
        return _KeyFile()
    try:
        return _KeyFile(stamp, _file_format.validate_json(path.read_bytes()))
    except OSError as error:
        failures.log(logging.WARNING, "the key file cannot be read: %s", error.strerror)
        # It is read again, whether it changes or not.
        return replace(UNREADABLE, is_away=is_passing(error))
    except ValueError as error:
        # Not the message: it may quote a key that somebody put there by mistake.
        log.warning("the key file cannot be read: %s", type(error).__name__)
        return _KeyFile(stamp, problem=PROBLEM)


def _stamp(file: Path) -> Stamp | None:
    """Different after every change of a file, its permissions included; None without one."""
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return ()
    return (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
