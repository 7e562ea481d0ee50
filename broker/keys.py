"""This module knows which messages were accepted before, and sorts search hashes into their index.

A message commits with its key (sender and digest) and its search hashes in its own row, which only ever appends. The
keys of the newest few thousand messages are also held in memory; from time to time they and the hashes are written, in
order, to `message_key` and `search`. Up to which message that was done is noted in the same transaction, and a start
reads the rest back, so the two tables are an index that runs a little behind and memory holds the difference.
"""

import struct
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from broker.sql import Connection
from broker.units import NewMessage

_BEHIND: Final = 2048  # messages whose keys are in memory only; about 8 ms of writing when they are sorted in
_NAME: Final = "keys sorted up to"

_LOAD: Final = "SELECT id, sender, digest, hashes FROM message WHERE id > ? ORDER BY id"
_KNOWN: Final = (
    "WITH v(sender) AS ({v}) SELECT k.sender, k.digest, k.message_id FROM v JOIN message_key k ON k.sender = v.sender",
    "bigint",
)
_KEYS: Final = (
    "INSERT INTO message_key (sender, digest, message_id) {v} ON CONFLICT DO NOTHING",
    "bigint bigint bigint",
)
_SEARCH: Final = ("INSERT INTO search (hash, message_id) {v} ON CONFLICT DO NOTHING", "bigint bigint")
_FIND: Final = "SELECT message_id FROM search WHERE hash = ? ORDER BY message_id DESC LIMIT ?"
_NOTE: Final = "INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"

Known = dict[int, list[tuple[int, int]]]  # sender -> digest and message id


def pack(hashes: Sequence[int]) -> bytes:
    """Return search hashes as they lie in a message's row."""
    return struct.pack(f">{len(hashes)}q", *hashes)


def unpack(data: bytes) -> tuple[int, ...]:
    """Return the search hashes that lie in a message's row."""
    return struct.unpack(f">{len(data) // 8}q", data)


def replace_setting(connection: Connection, name: str, value: bytes) -> None:
    """Let the store keep a value of itself, instead of the one of this name if there is one."""
    connection.run(_NOTE, (name, value))


class Keys:
    """The keys of accepted messages: the newest in memory, the others in the store. Used by the writer only."""

    def __init__(self) -> None:
        self._recent: list[tuple[int, int, int, tuple[int, ...]]] = []  # id, sender, digest, hashes
        self._by_sender: Known = {}

    def load(self, connection: Connection) -> None:
        """Read what the tables do not have yet; also after a commit whose outcome is unknown."""
        self._recent, self._by_sender = [], {}
        for identifier, sender, digest, hashes in connection.rows(_LOAD, (sorted_up_to(connection),)):
            self._add(identifier, sender, digest, unpack(bytes(hashes)))

    def known(self, connection: Connection, senders: Iterable[int]) -> Known:
        """Return what was accepted from each of these senders' control ids."""
        wanted = set(senders)
        found = {sender: list(self._by_sender.get(sender, ())) for sender in wanted}
        for sender, digest, identifier in connection.bulk(*_KNOWN, [(sender,) for sender in wanted]):
            found[sender].append((digest, identifier))
        return found

    def add(self, messages: Iterable[NewMessage]) -> None:
        """Note messages that have just been committed."""
        for message in messages:
            self._add(message.id, message.sender, message.digest, message.hashes)

    def _add(self, identifier: int, sender: int, digest: int, hashes: tuple[int, ...]) -> None:
        self._recent.append((identifier, sender, digest, hashes))
        self._by_sender.setdefault(sender, []).append((digest, identifier))

    def is_full(self) -> bool:
        """Say whether it is time to sort."""
        return len(self._recent) >= _BEHIND

    def sort(self, connection: Connection) -> None:
        """Write the keys in memory to their tables; call `forget` once that is committed."""
        connection.bulk(*_KEYS, sorted((sender, digest, found) for found, sender, digest, _ in self._recent))
        connection.bulk(*_SEARCH, sorted((value, found) for found, _, _, hashes in self._recent for value in hashes))
        replace_setting(connection, _NAME, self._recent[-1][0].to_bytes(8))

    def forget(self) -> None:
        """Let go of what `sort` wrote."""
        self._recent, self._by_sender = [], {}


def sorted_up_to(connection: Connection) -> int:
    """Return the id of the last message whose keys are in their tables."""
    found = connection.rows("SELECT value FROM setting WHERE name = ?", (_NAME,))
    return int.from_bytes(bytes(found[0][0])) if found else 0


def find(connection: Connection, hashes: AbstractSet[int], most: int) -> list[int]:
    """Return the newest messages, ``most`` of them, that have one of these search hashes; the newest first."""
    # The newest are looked at first: what moves from them to the table meanwhile is found twice, not never.
    recent = connection.rows("SELECT id, hashes FROM message WHERE id > ?", (sorted_up_to(connection),))
    found = {row[0] for row in recent if not hashes.isdisjoint(unpack(bytes(row[1])))}
    for value in hashes:
        found.update(row[0] for row in connection.rows(_FIND, (value, most)))
    return sorted(found, reverse=True)[:most]
