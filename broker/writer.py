"""This module is the one writer of the store: it takes everything that waits and commits it as a group.

It runs in a process of its own at the other end of a `broker.link`, and is the only place that writes to the store's
database: SQLite allows no more, and on PostgreSQL it keeps the order of a lane free of the trap that sequence numbers
become visible out of order. While one group commits the next one gathers.
"""

import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from broker import writes, writes_passing
from broker.crash import crash_point
from broker.errors import NotReady, StoreError, StoreFatal, StoreUnavailable
from broker.keys import Keys
from broker.line import Line
from broker.seal import Sealer
from broker.sql import Connection, connect
from broker.units import Claim, Finished, NewDelivery, NewMessage, Passed, Quarantine, Recorded
from broker.writes_quarantine import Rooms

_GROUP: Final = 512  # most items in one transaction
# Nobody waits for these, so they gather for a moment while others commit: far fewer and larger groups under load, and
# acknowledgments do not wait for their work.
_PATIENT: Final = frozenset({"finish", "record"})
_QUIET: Final = 0.003  # seconds that they wait for somebody else's commit where little happens …
_BUSY: Final = 0.02  # … and where commits follow each other closer than this
_MANY: Final = 256  # of them that wait no longer
_PAUSE: Final = 0.5  # seconds between attempts to reach a database that is away


class _Entry(NamedTuple):
    """One item of a unit of work: the unit's number and the item's place in it say whose answer it gets."""

    number: int
    place: int
    kind: str
    item: Any


# What goes back: (number, place, value) of each item, (number, place, pickled exception) of those that failed, and how
# many were committed in how many seconds.
Answer = tuple[list[tuple[int, int, Any]], list[tuple[int, int, bytes]], int, float]


def serve(line: Line) -> None:
    """Open the store that the first frame names, and write what comes until the line ends."""
    frames = line.take()
    if frames is None:
        return
    url, key = frames.pop(0)
    writer = Writer(url, Sealer(key), line.send)
    try:
        writer.open()
    except (NotReady, StoreError) as error:
        line.send(([], [(0, 0, pickle.dumps(error))], 0, 0.0))
        return
    line.send(([(0, 0, None)], [], 0, 0.0))
    try:
        _write(line, writer, frames)
    finally:
        writer.close()


def _write(line: Line, writer: "Writer", frames: list[Any] | None) -> None:
    waiting: list[_Entry] = []
    until = before = last = 0.0  # when those that wait have waited enough; the last two times that somebody could not
    while frames is not None:
        entries = _entries(frames)
        group = [entry for entry in entries if entry.kind not in _PATIENT]
        waiting += [entry for entry in entries if entry.kind in _PATIENT]
        now = time.monotonic()
        if group:
            before, last = last, now
        if waiting and not until:
            until = now + (_BUSY if now - before < _BUSY else _QUIET)
        if waiting and (now >= until or len(waiting) >= _MANY):
            group, waiting, until = group + waiting, [], 0.0
        _commit(writer, group)
        frames = line.take(max(until - time.monotonic(), 0.0) if waiting else None)
    _commit(writer, waiting)


def _commit(writer: "Writer", group: Sequence[_Entry]) -> None:
    for start in range(0, len(group), _GROUP):
        writer.commit(group[start : start + _GROUP])


def _entries(frames: Sequence[Any]) -> list[_Entry]:
    return [
        _Entry(number, place, kind, _READ[kind](item))
        for frame in frames
        for number, kind, items in frame
        for place, item in enumerate(items)
    ]


def _finished(values: tuple[Any, ...]) -> Finished:
    return Finished._make((*values[:-1], tuple(map(NewDelivery._make, values[-1]))))


def _passed(values: tuple[Any, ...]) -> Passed:
    return Passed(Recorded._make(values[0]), NewMessage._make(values[1]))


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "accept": NewMessage._make,
    "finish": _finished,
    "pass": _passed,
    "record": Recorded._make,
    "claim": Claim._make,
    "quarantine": Quarantine._make,
    "call": pickle.loads,
}


class Writer:
    """Commits groups; used by one thread."""

    def __init__(self, url: str, sealer: Sealer, answer: Callable[[Answer], None]) -> None:
        self._url = url
        self._sealer = sealer
        self._answer = answer
        self._keys = Keys()
        self._rooms = Rooms()
        self._fatal: StoreFatal | None = None
        self._fresh: list[NewMessage] = []

    def open(self) -> None:
        """Connect; the database has been migrated. Raises `NotReady`."""
        self._connection: Connection = connect(self._url, alone=True)
        self._keys.load(self._connection)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def commit(self, group: Sequence[_Entry]) -> None:
        """Commit a group and answer each of its items, whatever becomes of it."""
        began = time.monotonic()
        try:
            values = self._apply(group)
        except StoreFatal as error:
            self._fatal = error
            self._refuse(group, error)
        except StoreUnavailable as error:
            self._wait(group, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others of the group must not suffer from it
            self._rooms.forget()
            if len(group) == 1:
                self._refuse(group, error)
            else:
                for entry in group:
                    self.commit([entry])
        else:
            done = [(entry.number, entry.place, value) for entry, value in zip(group, values, strict=True)]
            self._answer((done, [], len(group), time.monotonic() - began))
            if self._keys.is_full():
                self._guard(self._sort_keys)

    def _refuse(self, group: Sequence[_Entry], error: Exception) -> None:
        data = pickle.dumps(error)
        self._answer(([], [(entry.number, entry.place, data) for entry in group], 0, 0.0))

    def _guard(self, work: Callable[[], None]) -> None:
        """Do work of our own that nobody waits for; what fails is done again at the next occasion."""
        try:
            work()
        except StoreFatal as error:
            self._fatal = error
            self._answer(([], [(0, 0, pickle.dumps(error))], 0, 0.0))
        except StoreError:
            time.sleep(_PAUSE)

    def _wait(self, group: Sequence[_Entry], error: StoreUnavailable) -> None:
        # Senders keep what was not acknowledged and send it again; everything else waits here for the database.
        self._refuse([entry for entry in group if entry.kind == "accept"], error)
        self._rooms.forget()
        time.sleep(_PAUSE)
        self._guard(lambda: self._keys.load(self._connection))  # what was passed on may be there already
        rest = [entry for entry in group if entry.kind != "accept"]
        if rest:
            self.commit(rest)
        self._guard(lambda: self._keys.load(self._connection))

    def _apply(self, group: Sequence[_Entry]) -> list[Any]:
        if self._fatal is not None:
            raise self._fatal  # what comes later must not overtake what failed: a lane would get out of order
        kinds: dict[str, list[int]] = {}
        for place, entry in enumerate(group):
            kinds.setdefault(entry.kind, []).append(place)
        counts = writes.Counts()
        values: list[Any] = [None] * len(group)
        self._fresh = []
        with self._connection.transaction():
            for kind, apply in self._KINDS:
                if places := kinds.get(kind):
                    found = apply(self, [group[place].item for place in places], counts)
                    for place, value in zip(places, found, strict=True):
                        values[place] = value
            writes.count(self._connection, counts, time.time())
        # Only what is committed may be known: a duplicate is acknowledged without being stored.
        self._keys.add(self._fresh)
        for kind in kinds:
            crash_point(_COMMITTED.get(kind, ""))
        return values

    def _sort_keys(self) -> None:
        with self._connection.transaction():
            self._keys.sort(self._connection)
        self._keys.forget()

    def _accept(self, items: list[NewMessage], counts: writes.Counts) -> Sequence[Any]:
        accepted, self._fresh = writes.accept(self._connection, self._sealer, self._keys, items, counts)
        return [tuple(one) for one in accepted]

    def _finish(self, items: list[Finished], counts: writes.Counts) -> Sequence[Any]:
        return writes.finish(self._connection, self._sealer, items, counts)

    def _pass(self, items: list[Passed], counts: writes.Counts) -> Sequence[Any]:
        accepted, fresh, due = writes_passing.pass_on(self._connection, self._sealer, self._keys, items, counts)
        self._fresh = [*self._fresh, *fresh]
        return [(tuple(one), tuple(due)) for one in accepted]

    def _record(self, items: list[Recorded], counts: writes.Counts) -> Sequence[Any]:
        due = tuple(writes.record(self._connection, self._sealer, items, counts))
        return [due] * len(items)

    def _claim(self, items: list[Claim], counts: writes.Counts) -> Sequence[Any]:
        return [writes.claim(self._connection, self._sealer, item, counts) for item in items]

    def _quarantine(self, items: list[Quarantine], counts: writes.Counts) -> Sequence[int]:
        for item in items:
            counts[item.channel, 0, "quarantined"] += 1
        return self._rooms.keep(self._connection, self._sealer, items)

    def _call(self, items: list[Any], _counts: writes.Counts) -> Sequence[bytes]:
        return [pickle.dumps(function(self._connection, self._sealer, *args)) for function, args in items]

    # The order in which a group is applied: what an attempt's end sets free can be claimed in the same group.
    _KINDS: Final = (
        ("accept", _accept),
        ("pass", _pass),
        ("finish", _finish),
        ("record", _record),
        ("claim", _claim),
        ("quarantine", _quarantine),
        ("call", _call),
    )


_COMMITTED: Final = {
    "accept": "accept.committed",
    "finish": "finish.committed",
    "pass": "pass.committed",
    "claim": "claim.committed",
    "record": "record.committed",
}
