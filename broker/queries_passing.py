"""This module follows a message from channel to channel: what one passes on is a message of another."""

from collections.abc import Iterable, Mapping
from typing import Final

from broker.ids import read_or_none
from broker.passing import origin_of
from broker.sql import Connection

_PEER: Final = "SELECT peer FROM message WHERE id = ?"
_THERE: Final = "SELECT id FROM message WHERE peer = ? AND id IN ({})"


def beginning(connection: Connection, _reading: object, message: int, most: int) -> int:
    """Return the message that one was when it came in, as far as that is there, at most so many channels back."""
    for _ in range(most):
        before = _before(connection, message)
        if before is None:
            break
        message = before
    return message


def _before(connection: Connection, message: int) -> int | None:
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
