"""This module holds the values that go into and come out of the store's units of work.

Nothing changes them once they are made; they are not frozen because Python makes frozen ones five times slower, and
several are made for every message.
"""

from dataclasses import dataclass, field

from broker.delivery import Delivery


@dataclass(slots=True, kw_only=True)
class NewMessage:
    """A message to commit; ``hashes`` are its search hashes."""

    id: int
    channel: int
    received_at: float
    type: str
    peer: str
    sender: int
    digest: int
    body: bytes = field(repr=False)
    hashes: tuple[int, ...] = ()


@dataclass(slots=True)
class Accepted:
    """What became of a `NewMessage`: its id (the first one's, for a duplicate) and what was noticed."""

    id: int
    duplicate: bool = False
    reused: bool = False  # its control id was used before, for other content


@dataclass(slots=True, kw_only=True)
class NewDelivery:
    """A delivery to insert; ``eager`` says that it may begin at once if its lane is free."""

    id: int
    route: int
    lane: int
    after: int | None
    eager: bool
    request: bytes = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Finished:
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


@dataclass(slots=True)
class Placed:
    """Where a new delivery went: ``sending`` (begin it now), else waiting, and whether it is due."""

    delivery: NewDelivery
    state: str
    due: bool


@dataclass(slots=True, kw_only=True)
class Recorded:
    """How an attempt ended, and the state that follows from it."""

    id: int
    route: int
    lane: int
    number: int
    started_at: float
    ended_at: float
    outcome: str  # delivered, retry, unknown, rejected
    state: str  # delivered, waiting, held, dead
    open: bool
    due_at: float | None = None
    reason: str | None = None
    location: str | None = None
    detail: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Claimed:
    """A delivery that is now in state sending, with its lane and the attempts of its present budget."""

    delivery: Delivery
    lane: int
    spent: int


@dataclass(slots=True, kw_only=True)
class Claim:
    """A request for work of one route: up to ``limit`` heads of lanes that are due; what is past its age expires."""

    route: int
    limit: int
    now: float
    oldest: int  # ids below this are past their age


@dataclass(slots=True)
class Claims:
    """What a `Claim` got, and when the route's next head is due (None: none waits)."""

    claimed: tuple[Claimed, ...]
    next_due: float | None


@dataclass(slots=True, kw_only=True)
class Quarantine:
    """Bytes that never became a message."""

    id: int
    channel: int
    at: float
    peer: str
    reason: str
    size: int
    body: bytes = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Act:
    """Something that an operator did to dead letters; it is audited in the same transaction."""

    act: str  # replay, discard
    ids: tuple[int, ...]
    actor: str
    reason: str
    at: float


@dataclass(slots=True)
class Done:
    """What an `Act` changed: how many, the messages to process again, and the routes with work due."""

    count: int
    messages: tuple[int, ...] = ()
    routes: frozenset[int] = frozenset()
