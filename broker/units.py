"""This module holds the values that go into and come out of the store's units of work.

What goes in is tuples with names: they cross to the writer's process as plain tuples. Nothing changes the others
either; they are not frozen because Python makes frozen dataclasses five times slower, and several are made for every
message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.delivery import Delivery
from broker.limits import Limits

if TYPE_CHECKING:
    from asyncio import Future


def _brief(unit: Any) -> str:
    """Say which unit it is, without the body that it carries."""
    return f"{type(unit).__name__}(id={unit.id})"


class NewMessage(NamedTuple):
    """A message to commit; ``hashes`` are its search hashes.

    ``sender`` is the hash of its key, ``digest`` that of its bytes, or of none where the key alone decides what is a
    duplicate.
    """

    id: int
    channel: int
    received_at: float
    type: str
    peer: str
    sender: int
    digest: int
    body: bytes
    hashes: tuple[int, ...] = ()

    def __repr__(self) -> str:  # noqa: D105 - see `_brief`
        return _brief(self)


@dataclass(slots=True)
class Accepted:
    """What became of a `NewMessage`: its id (the first one's, for a duplicate) and what was noticed."""

    id: int
    duplicate: bool = False
    reused: bool = False  # its control id was used before, for other content


class NewDelivery(NamedTuple):
    """A delivery to insert; ``eager`` says that it may begin at once if its lanes are free.

    ``instead`` names those for which it stands by: it comes to be once one of them cannot be had. Without any, at once.
    What concerns two records, such as a merge, stands in the lanes of both.
    """

    id: int
    route: int
    lane: int
    after: int | None
    eager: bool
    request: bytes
    instead: tuple[int, ...] = ()
    other_lane: int | None = None

    def __repr__(self) -> str:  # noqa: D105 - see `_brief`
        return _brief(self)


class Finished(NamedTuple):
    """What the steps made of a message: its new state, where it stopped, and its deliveries."""

    id: int
    channel: int
    revision: int
    state: str  # processed, filtered, failed
    at: float
    step: str | None = None
    location: str | None = None
    reason: str | None = None
    deliveries: tuple[NewDelivery, ...] = ()

    def __repr__(self) -> str:  # noqa: D105 - see `_brief`
        return _brief(self)


@dataclass(slots=True)
class Placed:
    """Where a new delivery went: ``sending`` (begin it now), else waiting, and whether it is due."""

    delivery: NewDelivery
    state: str
    due: bool


class Recorded(NamedTuple):
    """How an attempt ended, and the state that follows from it."""

    id: int
    channel: int
    route: int
    lane: int
    number: int
    started_at: float
    ended_at: float
    outcome: str  # delivered, retry, unknown, rejected, suppressed
    state: str  # delivered, waiting, held, dead, suppressed
    open: bool
    due_at: float | None = None
    reason: str | None = None
    location: str | None = None
    detail: bytes = b""
    via: tuple[str, ...] | None = None  # a `broker.delivery.Via`, as a plain tuple
    away: int = 0  # attempts of the present budget that reached nobody, with this one

    def __repr__(self) -> str:  # noqa: D105 - see `_brief`
        return _brief(self)


class Passed(NamedTuple):
    """A delivery to another channel, and the message there that it becomes: both are committed, or neither is."""

    recorded: Recorded
    message: NewMessage

    def __repr__(self) -> str:  # noqa: D105 - see `_brief`
        return _brief(self.message)


# Commits a record together with what the delivery did in the store. Resolves with the record as it is there, and what
# `broker.store.Store.record` would say of it; never fails.
Commit = Callable[[Recorded], "Future[tuple[Recorded, Sequence[int] | Exception]]"]


@dataclass(slots=True)
class Claimed:
    """A delivery that is now in state sending, with its lane and the attempts of its present budget.

    ``away`` of them reached nobody, and do not count against it.
    """

    delivery: Delivery
    lane: int
    spent: int
    away: int = 0


class Claim(NamedTuple):
    """A request for work of one route: up to ``limit`` heads of lanes that are due; what is past its age expires."""

    channel: int
    route: int
    limit: int
    now: float
    expire: float  # seconds: the age at which a delivery is not sent any more


@dataclass(slots=True)
class Claims:
    """What a `Claim` got, and when the route's next head is due (None: none waits).

    ``expired`` is how many had, and ``routes`` have work due because of that.
    """

    claimed: tuple[Claimed, ...]
    next_due: float | None
    expired: int = 0
    routes: frozenset[int] = frozenset()


class Quarantine(NamedTuple):
    """Bytes that never became a message; its channel keeps ``room`` bytes of such."""

    id: int
    channel: int
    at: float
    peer: str
    reason: str
    size: int
    body: bytes
    room: int = Limits().quarantine

    def __repr__(self) -> str:  # noqa: D105 - see `_brief`
        return _brief(self)


@dataclass(slots=True, kw_only=True)
class Act:
    """Something that an operator did to deliveries or dead letters; it is audited in the same transaction."""

    act: str  # replay, discard, cancel
    ids: tuple[int, ...]
    actor: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Pause:
    """What an operator has stopped: what goes to a destination or (None) what comes in; since when, who, and why."""

    channel: str
    destination: str | None
    asked_at: float
    actor: str
    reason: str


@dataclass(slots=True)
class Done:
    """What an `Act` changed: how many, the messages to process again, and the routes with work due."""

    count: int
    messages: tuple[int, ...] = ()
    routes: frozenset[int] = frozenset()
