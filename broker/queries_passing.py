"""This module follows a message from channel to channel: what one passes on is a message of another."""

from collections.abc import Iterable, Mapping
from typing import Final

from broker.ids import read_or_none
from broker.passing import origin_of
from broker.sql import Connection

_PEER: Final = "SELECT peer FROM message WHERE id = ?"
_THERE: Final = "SELECT id FROM message WHERE peer = ? AND id IN ({})"


def origin(connection: Connection, _reading: object, message: int) -> int | None:
    """Return the message of another channel that passed one on, as long as it is there."""
    rows = connection.rows(_PEER, (message,))
    before = origin_of(rows[0][0]) if rows else None
    return before if before is not None and connection.rows(_PEER, (before,)) else None


def became(connection: Connection, peer: str, named: Mapping[int, Iterable[str]]) -> dict[int, int]:
    """Return the messages of other channels that deliveries became; ``named`` is what those are called there."""
    called = [(read_or_none(name), delivery) for delivery, names in named.items() for name in names]
    asked = {found: delivery for found, delivery in called if found is not None}
    if not asked:
        return {}
    places = ",".join("?" * len(asked))
    return {asked[row[0]]: row[0] for row in connection.rows(_THERE.format(places), (peer, *asked))}
