"""This module keeps bytes that never became a message, as much of them as there is room for.

Anybody who reaches a port can send what is no message, so what is kept of it is bounded for each channel. When there is
more, those who hold most of it lose their oldest, until all that must go is gone: who floods a channel pushes out what
it sent itself. None of it is the only copy, because its sender was told that it was not taken, or never finished it.

Who has many addresses is kept from taking many shares: told apart are those who hold most and those who were there
first, and all others share as if they were one. What came from no address (files, mail, tables) is one as well: there,
the oldest goes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from broker.hosts import source_of
from broker.seal import Sealer
from broker.sql import Connection, Row
from broker.units import Quarantine

ENTRY: Final = 512  # bytes that an entry counts besides its body: its row, who sent it, and why it was refused
LARGEST: Final = 32  # sources that are told apart because they hold most …
FIRST: Final = 32  # … and because they were there first
_SHARE: Final = 8  # one part in so many is made free at once, so that it is not done for every entry
_PAGE: Final = 512  # entries that are looked at in one go

_INSERT: Final = (
    "INSERT INTO quarantine (id, channel_id, at, peer, reason, size, body) {v} ON CONFLICT DO NOTHING",
    "bigint integer double text text integer bytea",
)
_HELD: Final = f"SELECT channel_id, CAST(sum(length(body) + {ENTRY}) AS BIGINT) FROM quarantine GROUP BY channel_id"  # noqa: S608 - text of this module only
_DIGITS: Final = "0123456789"  # of the port, which is another one with each connection
_BY_HOST: Final = (
    f"SELECT rtrim(peer, '{_DIGITS}') AS host, CAST(sum(length(body) + {ENTRY}) AS BIGINT) "  # noqa: S608 - text of this module only
    "FROM quarantine WHERE channel_id = ? GROUP BY host ORDER BY min(id)"
)
_ENTRIES: Final = (
    f"SELECT id, peer, length(body) + {ENTRY} FROM quarantine WHERE channel_id = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608 - text of this module only
)
_DROP: Final = "DELETE FROM quarantine WHERE id IN ({v})"


class Rooms:
    """How much the quarantine of each channel holds; the writer's own, which alone changes it."""

    def __init__(self) -> None:
        self._held: Counter[int] = Counter()  # bytes by channel
        self._is_known = False

    def forget(self) -> None:
        """Look again before the next entry: what was noted since may have been rolled back."""
        self._is_known = False

    def keep(self, connection: Connection, sealer: Sealer, units: Sequence[Quarantine]) -> list[int]:
        """Insert what never became a message; return how many entries of its channel had to go for each."""
        if not self._is_known:
            self._held = Counter(dict(connection.rows(_HELD)))
            self._is_known = True
        rows = [
            (u.id, u.channel, u.at, u.peer, u.reason, u.size, sealer.seal("quarantine", u.id, u.body)) for u in units
        ]
        connection.bulk(*_INSERT, rows)
        for unit, row in zip(units, rows, strict=True):
            self._held[unit.channel] += len(row[-1]) + ENTRY
        return [self._make_room(connection, unit) for unit in units]

    def _make_room(self, connection: Connection, unit: Quarantine) -> int:
        if self._held[unit.channel] <= unit.room:
            return 0
        room = unit.room - unit.room // _SHARE
        gone, self._held[unit.channel] = _surplus(connection, unit.channel, room)
        connection.bulk_in(_DROP, (), gone)
        return len(gone)


def _surplus(connection: Connection, channel: int, room: int) -> tuple[list[int], int]:
    """Return the entries of a channel that are too much for ``room`` bytes, and the bytes of those that are not."""
    by_source: Counter[str] = Counter()  # in the order in which they were there
    for host, size in connection.rows(_BY_HOST, (channel,)):
        by_source[_source(host)] += size
    apart = {source for source, _ in by_source.most_common(LARGEST)}
    apart.update([source for source in by_source if source not in apart][:FIRST])
    held: Counter[str | None] = Counter()
    for source, size in by_source.items():
        held[_sharing(source, apart)] += size
    most, left = _fair_share(held.values(), room), held.total()
    gone = []
    oldest = _entries(connection, channel)
    while left > room:
        identifier, peer, size = next(oldest)
        sharing = _sharing(_source(peer.rstrip(_DIGITS)), apart)
        if held[sharing] > most:
            held[sharing] -= size
            left -= size
            gone.append(identifier)
    return gone, left


def _entries(connection: Connection, channel: int) -> Iterator[Row]:
    """Give the id, peer and bytes of entries of a channel, the oldest first, a page of them in memory."""
    last = 0
    while True:
        page = connection.rows(_ENTRIES, (channel, last, _PAGE))
        yield from page
        last = page[-1][0]


@lru_cache(maxsize=1024)
def _source(host: str) -> str:
    """Return who is meant by a peer without the digits of its port."""
    return source_of(host.removesuffix(":"))


def _sharing(source: str, apart: set[str]) -> str | None:
    """Return in whose share a source is: its own, or that of the others."""
    return source if source in apart else None


def _fair_share(held: Iterable[int], room: int) -> int:
    """Return how much each may hold so that it is ``room`` in all: who holds less leaves the rest to the others."""
    sizes = sorted(held, reverse=True)
    while sizes and sizes[-1] * len(sizes) <= room:
        room -= sizes.pop()
    return room // max(len(sizes), 1)
