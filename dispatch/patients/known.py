"""This module remembers whom a connection's last batches were about, for as long as nobody else can have changed it.

Most events are about patients who were heard of a moment ago. On SQLite ``PRAGMA data_version``, read in a transaction
that lets nobody else write, differs if and only if another connection has committed since; so what this connection
wrote, or read in order to write, is what stands there (https://sqlite.org/pragma.html#pragma_data_version).
PostgreSQL has nothing like it, and must lock the rows anyway: there nothing is remembered.
"""

from dataclasses import dataclass, field
from typing import Final

from broker.sql import Connection
from dispatch.patients.records import Record
from dispatch.patients.said import Key

MOST: Final = 8192  # patients, of about 1 KiB each; who fills a large hospital, and those who came and went today


@dataclass(slots=True)
class Held:
    """What is known of patients, as a transaction may use and change it."""

    patients: dict[Key, int] = field(default_factory=dict)  # none who was merged into another
    records: dict[int, Record] = field(default_factory=dict)


class Known:
    """What one connection knows between its transactions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._version = 0
        self._held = Held()

    def take(self) -> Held:
        """Return what still holds, within a transaction; nothing is known any more until `keep`.

        So a transaction that fails, or of which nobody knows whether it did, leaves nothing behind.
        """
        held, self._held = self._held, Held()
        if self._connection.dialect != "sqlite":
            return Held()
        before, self._version = self._version, self._connection.rows("PRAGMA data_version")[0][0]
        return held if self._version == before else Held()

    def keep(self, held: Held) -> None:
        """Remember what holds now that the transaction is committed; the records are as they would be read."""
        if self._connection.dialect == "sqlite" and len(held.records) <= MOST:
            self._held = held
