"""Scheduler: which notices may be sent now, so that no tenant and no site delays the others.

A tenant is the owner of jobs, or the server itself with its own receiver. A receiver is a site
as one tenant uses it: how fast it answers one of them says nothing of how it answers another.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from ..settings import Settings
from .outbox import Due, Filter

#: So many receivers are remembered of each kind, those heard of last.
MOST_RECEIVERS = 1024
#: So many tenants are remembered with the time of their last turn.
MOST_TENANTS = 10_000


class Kind(Enum):
    """What the last try says of a receiver.

    The kinds with the fewest deliveries come first: what they may not have is left for the others.
    """

    SLOW = auto()
    #: Nothing is known of it, or it could not be reached.
    NEW = auto()
    ANSWERING = auto()


@dataclass(frozen=True)
class Limits:
    """How many deliveries may be under way at a time."""

    total: int = 64
    per_tenant: int = 16
    per_site: int = 8
    #: To slow receivers.
    slow: int = 16
    #: Kept for receivers that answer.
    reserved: int = 16
    #: A try that takes longer shows that a receiver is slow.
    slow_seconds: float = 3.0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            total=settings.webhook_slots,
            per_tenant=settings.webhook_slots_per_key,
            per_site=settings.webhook_slots_per_site,
            slow=settings.webhook_slow_slots,
            reserved=settings.webhook_reserved_slots,
            slow_seconds=min(settings.webhook_slow_seconds, settings.webhook_timeout),
        )

    def of_kind(self, kind: Kind) -> int:
        """Those to receivers of a kind."""
        new = max(1, self.total - self.slow - self.reserved)
        return {Kind.SLOW: self.slow, Kind.NEW: new, Kind.ANSWERING: self.total}[kind]

    def of_tenant(self, kind: Kind) -> int:
        """The same among those of one tenant."""
        return max(1, self.per_tenant * self.of_kind(kind) // self.total)

    def of_receiver(self, kind: Kind) -> int:
        """To one of them: the rest is for other receivers of the tenant, and others at the site."""
        return max(1, min(self.per_site, self.of_tenant(kind)) // 2)


class Scheduler:
    """Knows what is under way, who was served when, and how receivers answered."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._under_way: dict[int, Due] = {}
        self._slow, self._answering = _Recent(MOST_RECEIVERS), _Recent(MOST_RECEIVERS)
        #: Tenants, the one whose last turn is longest ago first.
        self._turns = _Recent(MOST_TENANTS)

    def filters(self) -> Iterator[Filter]:
        """What to look for, one after the other until something is found."""
        if len(self._under_way) < self._limits.total:
            for kind in Kind:
                yield from self._filter(kind)

    def in_turn(self, found: Iterable[Due]) -> list[Due]:
        """Those first whose tenants were served longest ago, or never."""
        turns = {tenant: turn for turn, tenant in enumerate(self._turns)}
        return sorted(found, key=lambda due: (turns.get(due.tenant, -1), due.sequence))

    def admits(self, due: Due) -> bool:
        """Whether this one may be sent now."""
        return any(wanted.takes(due) for wanted in self.filters())

    def begin(self, due: Due) -> None:
        self._under_way[due.sequence] = due
        self._turns.add(due.tenant)

    def end(self, due: Due) -> None:
        del self._under_way[due.sequence]

    def note(self, due: Due, *, seconds: float, has_answered: bool) -> None:
        """How a try went: whatever the answer was, what counts is how long it took."""
        is_slow = seconds >= self._limits.slow_seconds
        self._slow.put(due.receiver, is_in=is_slow)
        self._answering.put(due.receiver, is_in=has_answered and not is_slow)

    def _filter(self, kind: Kind) -> Iterator[Filter]:
        """What to look for among receivers of a kind, unless there can be nothing."""
        under_way = list(self._under_way.values())
        alike = [due for due in under_way if self._kind(due) is kind]
        only = {Kind.SLOW: self._slow, Kind.NEW: None, Kind.ANSWERING: self._answering}[kind]
        if len(alike) >= self._limits.of_kind(kind) or (only is not None and not only):
            return
        full = _reached((due.tenant for due in under_way), self._limits.per_tenant)
        full |= _reached((due.tenant for due in alike), self._limits.of_tenant(kind))
        crowded = _reached((due.receiver for due in alike), self._limits.of_receiver(kind))
        yield Filter(
            but_sequences=frozenset(self._under_way),
            but_tenants=full,
            but_sites=_reached((due.site for due in under_way), self._limits.per_site),
            but_receivers=crowded.union(*(() if only else (self._slow, self._answering))),
            only_receivers=frozenset(only) if only else None,
        )

    def _kind(self, due: Due) -> Kind:
        if due.receiver in self._slow:
            return Kind.SLOW
        return Kind.ANSWERING if due.receiver in self._answering else Kind.NEW


class _Recent:
    """A few names, in the order in which they were added last. The oldest are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: OrderedDict[str, None] = OrderedDict()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, name: str) -> None:
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._most:
            self._names.popitem(last=False)

    def put(self, name: str, *, is_in: bool) -> None:
        if is_in:
            self.add(name)
        else:
            self._names.pop(name, None)


def _reached(names: Iterable[str], limit: int) -> frozenset[str]:
    """Those that are there as often as they may be."""
    return frozenset(name for name, count in Counter(names).items() if count >= limit)
