"""Who calls: the keys in force, and the key that a request carries."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter

from ..jobs.counted_log import CountedLog
from ..jobs.health import Component, State, unless
from ..jobs.keys import Key, Scope
from ..jobs.threads import in_daemon
from ..workflows import is_passing
from .key_record import KeyRecord

log = logging.getLogger(__name__)
failures = CountedLog(log)

Stamp = tuple[int, ...]

READ_SECONDS = 5.0
#: Waited for one after another: a stop of the whole process costs only one of them.
SLICES = 10
PROBLEM = "keys.json cannot be read, so none of its keys opens. `./install.sh key list` says why."
NO_KEYS_LEFT = (
    "No API keys remain: every request is refused until you add one with"
    " `./install.sh key add NAME`. `./install.sh key open` allows requests without keys again."
)
KEYS_ARE_GONE = (
    "This server has had API keys but has none now: keys.json is missing, or UNIFIED_API_KEYS is"
    " not set."
    " Every request is refused until you restore them, or add a key with"
    " `./install.sh key add NAME`. `./install.sh key open` allows requests without keys again."
)
NOT_RECORDED = (
    "That this server asks for keys could not be recorded (keys-required.json, see the log):"
    " without its keys, a restart would open it to callers on this machine."
)

_file_format = TypeAdapter(tuple[Key, ...])


@dataclass(frozen=True)
class Caller:
    """Somebody who came in, and what they may do. Without a name it is anybody."""

    name: str | None = None
    scopes: frozenset[Scope] = frozenset(Scope)

    def may(self, scope: Scope) -> bool:
        implying = {Scope.ADMIN, Scope.READ_ALL} if scope is Scope.READ else {Scope.ADMIN}
        return not self.scopes.isdisjoint({scope, *implying})

    @property
    def sees_all(self) -> bool:
        return self.may(Scope.READ_ALL)

    def sees(self, owner: str | None) -> bool:
        """Whether the jobs of an owner exist for this caller."""
        return self.sees_all or owner == self.name

    def may_change(self, owner: str | None) -> bool:
        """Whether this caller may cancel and delete jobs of an owner, given the scope for it."""
        return self.may(Scope.ADMIN) or owner == self.name


#: Without keys: those on this machine, and those who come from elsewhere.
ANYBODY = Caller()
ANONYMOUS = Caller(scopes=frozenset({Scope.SUBMIT, Scope.READ, Scope.CANCEL}))


@dataclass(frozen=True)
class _KeyFile:
    """What was found at the path of the key file. Without a stamp there is no file."""

    stamp: Stamp | None = None
    keys: tuple[Key, ...] = ()
    problem: str | None = None
    #: It could not be read for want of something else, as it may be a moment later.
    is_away: bool = False


UNREADABLE = _KeyFile(stamp=(), problem=PROBLEM)


@dataclass(frozen=True)
class _Found:
    """What the latest look at the disk found."""

    file: _KeyFile = _KeyFile()
    #: Whether there have been keys since the key command last did away with them.
    had_keys: bool = False
    is_recorded: bool = True


class Keyring:
    """The keys of the settings and of a file. A change of the file counts from the next request.

    Once there were keys, they are required until the key command says otherwise, whatever becomes
    of the file and of the settings. A record beside the file tells later processes so.
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
        self._record = KeyRecord.beside(file) if file else KeyRecord()
        self._read_seconds = read_seconds
        self._found = _Found()
        self._looked_at = -math.inf
        self._begun: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        #: A read that its disk did not answer in time.
        self._late: asyncio.Future[_Found] | None = None

    @property
    def is_required(self) -> bool:
        """Whether callers need a key at all."""
        found = self._found
        return bool(self._given) or found.file.stamp is not None or found.had_keys

    @property
    def lack(self) -> str | None:
        """Why there is no key at all although one is required; None if there is, or none is."""
        if self._given or self._found.file.keys or not self.is_required:
            return None
        if self._found.file.stamp is None:
            return KEYS_ARE_GONE
        return self._found.file.problem or NO_KEYS_LEFT

    @property
    def is_away(self) -> bool:
        """Whether nobody can tell now which keys there are."""
        return self._found.file.is_away

    @property
    def component(self) -> Component:
        problem = self.lack or self._found.file.problem
        return unless(problem or self._recording_problem, State.DEGRADED)

    @property
    def _recording_problem(self) -> str | None:
        return None if self._found.is_recorded else NOT_RECORDED

    def find(self, secret: bytes) -> Caller | None:
        """Whose key it is. It takes equally long for every key that is not known."""
        digest = sha256(secret).hexdigest()
        found = None
        for key in (*self._given, *self._found.file.keys):
            if hmac.compare_digest(key.sha256.encode(), digest.encode()):
                found = Caller(key.name, key.scopes)
        return found

    async def refresh(self, *, max_age: float = 0.0) -> None:
        """Read the file, if it has changed. Callers at the same moment share one look at it.

        A look that began less than `max_age` seconds ago will do. A file whose disk does not answer
        in time counts as unreadable until it does.
        """
        if self._path is None or time.monotonic() - self._looked_at < max_age:
            return
        # Not one that has begun: it may have looked at the file before the latest change.
        if self._next is None:
            self._next = asyncio.ensure_future(self._read_after(self._begun, self._path))
        await asyncio.shield(self._next)

    async def _read_after(self, earlier: asyncio.Task[None] | None, path: Path) -> None:
        if earlier and not earlier.done():
            await asyncio.wait({earlier})
        self._begun, self._next = self._next, None
        self._looked_at = time.monotonic()
        self._found = await self._look(path)

    async def _look(self, path: Path) -> _Found:
        unreadable = replace(self._found, file=UNREADABLE)
        if self._late and not await _ends(self._late, seconds=self._read_seconds):
            return unreadable
        # Not what a late look found: the file may have changed since.
        looking = asyncio.ensure_future(in_daemon("unified-api-keys", self._find_keys, path))
        is_in_time = await _ends(looking, seconds=self._read_seconds)
        self._late = None if is_in_time else looking
        return looking.result() if is_in_time else unreadable

    def _find_keys(self, path: Path) -> _Found:
        """What is on the disk now; blocks while the disk is slow."""
        known, record = self._found, self._record
        file = _key_file(path, known.file)
        # A file that cannot even be looked at, with an empty stamp, may never have been there.
        if self._given or file.stamp:
            is_recorded = known.had_keys and known.is_recorded
            return _Found(file, had_keys=True, is_recorded=is_recorded or record.write())
        recorded = record.read()
        # A record that could not be renewed is older than the keys.
        if recorded is False and known.is_recorded:
            return _Found(file)
        if recorded is None and not known.had_keys:
            return _Found(file)
        return _Found(file, had_keys=True, is_recorded=bool(recorded) or record.write())


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


async def _ends(reading: asyncio.Future[_Found], *, seconds: float) -> bool:
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
