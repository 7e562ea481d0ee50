"""This module keeps bytes that never became a message, as much of them as there is room for.

Anybody who reaches a port can send what is no message, so what is kept of it is bounded for each channel. When there is
more, the oldest goes: what somebody looks for is what came last, and none of it is the only copy, because its sender
was told that it was not taken, or never finished it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from broker.seal import Sealer
from broker.sql import Connection
from broker.units import Quarantine

ENTRY: Final = 512  # bytes that an entry counts besides its body: its row, who sent it, and why it was refused
_SHARE: Final = 8  # one part in so many is made free at once, so that it is not done for every entry

_INSERT: Final = (
    "INSERT INTO quarantine (id, channel_id, at, peer, reason, size, body) {v} ON CONFLICT DO NOTHING",
    "bigint integer double text text integer bytea",
)
_HELD: Final = f"SELECT channel_id, CAST(sum(length(body) + {ENTRY}) AS BIGINT) FROM quarantine GROUP BY channel_id"  # noqa: S608 - text of this module only
_LAST_BEYOND: Final = (
    f"SELECT max(id) FROM (SELECT id, sum(length(body) + {ENTRY}) OVER (ORDER BY id DESC) AS held "  # noqa: S608 - text of this module only
    "FROM quarantine WHERE channel_id = ?) entry WHERE held > ?"
)
_DROP: Final = "DELETE FROM quarantine WHERE channel_id = ? AND id <= ?"


class Rooms:
    """How much the quarantine of each channel holds; the writer's own, which alone changes it."""

    def __init__(self) -> None:
        self._held: Counter[int] = Counter()  # bytes by channel
        self._is_known = False

    def forget(self) -> None:
        """Look again before the next entry: what was noted since may have been rolled back."""
        self._is_known = False

    def keep(self, connection: Connection, sealer: Sealer, units: Sequence[Quarantine]) -> list[int]:
        """Insert what never became a message; return how many older entries of its channel had to go for each."""
        if not self._is_known:
            self._look(connection)
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
        ((last,),) = connection.rows(_LAST_BEYOND, (unit.channel, unit.room - unit.room // _SHARE))
        dropped = connection.run(_DROP, (unit.channel, last))
        self._look(connection)
        return dropped

    def _look(self, connection: Connection) -> None:
        self._held = Counter(dict(connection.rows(_HELD)))
        self._is_known = True
