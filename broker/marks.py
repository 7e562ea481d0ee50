"""This module keeps in the store how far a way in has read elsewhere, sealed, because a mark may say who was read."""

from broker.acts import read_setting
from broker.keys import replace_setting
from broker.seal import Sealer
from broker.sql import Connection
from broker.store import Store


class StoreMarks:
    """The marks in one store; see `broker.parts.Marks`."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def read(self, name: str) -> bytes | None:
        """Return the mark of this name, None where there is none yet."""
        sealed = await self._store.read(read_setting, _setting(name))
        return None if sealed is None else self._sealer.open(_setting(name), 0, sealed)

    async def write(self, name: str, value: bytes) -> None:
        """Return once the mark is committed."""
        await self._store.call(_write, name, value)


def _write(connection: Connection, sealer: Sealer, name: str, value: bytes) -> None:
    replace_setting(connection, _setting(name), sealer.seal(_setting(name), 0, value))


def _setting(name: str) -> str:
    return f"mark of {name}"
